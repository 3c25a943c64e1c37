import { afterEach, beforeEach, expect, test } from "vitest";
import { Random } from "../../../test/model/random.ts";
import { MemoryLog } from "../../base/log.ts";
import { ManualTimers } from "../../base/timers.ts";
import type { ChangeCursor, ChangeRecord, ChangesPage, ChangesRequest } from "../../domain/admin-changes.ts";
import type { InodeId, Lsn } from "../../domain/ids.ts";
import { FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, RENAME_EXCHANGE } from "../../domain/metadata-api.ts";
import { SERVICE_CONTEXT } from "../open-app.ts";
import { RandomTree } from "../restore/test-random-tree.ts";
import { executeAll, restoresOf } from "../restore/test-restore.ts";
import { SpaceKeeper } from "../space/space-keeper.ts";
import { Changes } from "./changes.ts";
import { addSnapshot } from "./snapshot-rows.ts";
import { type TestApp, TestApps } from "./test-app.ts";
import { SystemTurns } from "./turns.ts";

/** Run with SEED to play one run again. */
const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 32));

let apps: TestApps;
let app: TestApp;
let root: InodeId;
let timers: ManualTimers;
let changes: Changes;

beforeEach(async () => {
  await open();
});

afterEach(() => apps.close());

async function open(segmentBytesMax = 16_384): Promise<void> {
  // What becomes durable is up to the tests.
  apps = await TestApps.open({ segmentBytesMax, backgroundSyncDelayMs: 3_600_000 });
  app = await apps.app("shop");
  root = app.share("files").root;
  timers = new ManualTimers();
  changes = new Changes({ ...apps.parts, timers });
}

function requestOf(path: string, rest: Partial<ChangesRequest> = {}): ChangesRequest {
  return { path: app.path(path), operations: [], follow: false, ...rest };
}

const lsn = (value: number): { kind: "lsn"; lsn: Lsn } => ({ kind: "lsn", lsn: value as Lsn });

async function feed(path: string, rest: Partial<ChangesRequest> = {}): Promise<ChangeRecord[]> {
  await app.settle();
  const records: ChangeRecord[] = [];
  for await (const page of changes.changes(requestOf(path, rest))) records.push(...page.records);
  return records;
}

/** `RENAME a b -> c`, with what is beside the names in brackets. */
function line(record: ChangeRecord): string {
  const { op, paths, newPath, crossing, others, range, allocation, set, xattr, sizeBefore, attributes } = record;
  const words = [op, ...paths.map((path) => path.toString("latin1") || ".")];
  if (newPath !== undefined) words.push("->", newPath.toString("latin1"));
  if (crossing !== undefined) words.push(crossing);
  for (const other of others) words.push(`[${other.change} ${other.path.toString("latin1")}]`);
  if (range !== undefined) words.push(`${range.offset}+${range.length}`);
  if (allocation !== undefined) words.push(allocation);
  words.push(...set);
  if (xattr !== undefined) words.push(xattr.toString("latin1"));
  if (sizeBefore !== undefined) words.push(`${sizeBefore}>${attributes?.size}`);
  if (record.contentReplaced) words.push("replaced");
  return words.join(" ");
}

test("each record tells what it did, to which inode, where, and by whom", async () => {
  const from = app.app.core.lastLsn;
  app.mkdir(root, "d");
  const { ino } = app.create(root, "d/a\xff");
  app.write(root, "d/a\xff", "text", 100n);
  app.run({ op: "fallocate", ino, mode: FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, offset: 0n, length: 102n });
  app.setattr(root, "d/a\xff", { size: 50n, mode: 0o600 });
  app.run({ op: "setxattr", ino, name: Buffer.from("user.x"), value: Buffer.from("v"), flags: 0, killSgid: false });
  app.link(root, "d/a\xff", "b");
  app.write(root, "b", "more", 50n);
  app.setattr(root, "b", { size: 0n });
  app.put(root, "other", "o");
  app.rename(root, "other", "b");
  app.rename(root, "b", "d", RENAME_EXCHANGE);
  app.unlink(root, "d");
  const records = await feed("files", { from: lsn(from) });
  expect(records.map(line)).toEqual([
    "MKDIR d",
    "CREATE d/a\xff",
    "WRITE d/a\xff 100+4 0>104",
    "FALLOCATE d/a\xff 0+102 punch",
    "SETATTR d/a\xff mode size 104>50",
    "SETXATTR d/a\xff user.x",
    "LINK b",
    "WRITE b d/a\xff 50+4 50>54",
    "SETATTR b d/a\xff size 54>0 replaced",
    "CREATE other",
    "WRITE other 0+1 0>1",
    "RENAME other -> b [lost b]",
    "RENAME b -> d [lost d] [gained b]",
    "UNLINK d",
  ]);
  expect(records[1]).toMatchObject({
    lsn: from + 2,
    ino,
    share: { name: "files" },
    attributes: { ino, mode: 0o100644 },
  });
  expect(records[1]?.actor).toMatchObject({ mountId: 1, pid: 100 });
  expect(records.at(-1)?.attributes).toBeUndefined();
});

test("copies tell their source, a file that was made without a name comes with its first link", async () => {
  const from = app.app.core.lastLsn;
  const source = app.put(root, "source", "bytes").ino;
  const made = app.run({ op: "tmpfile", parent: root, mode: 0o644, umask: 0 }) as unknown as { ino: InodeId };
  app.run({
    op: "copyRange",
    source,
    sourceOffset: 1n,
    target: made.ino,
    targetOffset: 7n,
    length: 4n,
    sourceAt: Number.MAX_SAFE_INTEGER as Lsn,
  });
  app.run({ op: "link", ino: made.ino, parent: root, name: Buffer.from("named") });
  const ops = ["COPY_RANGE", "LINK"];
  const inShare = await feed("files", { from: lsn(from), operations: ops });
  expect(inShare.map(line)).toEqual(["LINK named"]);
  expect(inShare[0]?.attributes?.size).toBe(11n);
  const [copy] = await feed("", { from: lsn(from), operations: ops });
  expect(copy).toMatchObject({
    ino: made.ino,
    paths: [],
    range: { offset: 7n, length: 4n },
    source: { ino: source, offset: 1n },
  });
});

test("of a path: by the names of the time, with renames over its border, also of a directory above it", async () => {
  app.mkdir(root, "a");
  app.mkdir(root, "a/b");
  app.put(root, "a/b/in", "1");
  app.put(root, "out", "1");
  const from = app.app.core.lastLsn;
  app.rename(root, "out", "a/b/came");
  app.rename(root, "a/b/in", "went");
  app.write(root, "went", "unseen");
  app.write(root, "a/b/came", "seen");
  app.rename(root, "a", "z");
  app.write(root, "z/b/came", "unseen");
  app.rename(root, "z", "a");
  app.setattr(root, "a", { mode: 0o700 });
  app.setattr(root, "a/b", { mode: 0o700 });
  app.link(root, "went", "a/b/linked");
  app.write(root, "went", "seen", 10n);
  app.rename(root, "went", "a/b/came");
  expect((await feed("files/a/b", { from: lsn(from) })).map(line)).toEqual([
    "RENAME out -> a/b/came entered",
    "RENAME a/b/in -> went left",
    "WRITE a/b/came 0+4 1>4",
    "RENAME a -> z left",
    "RENAME z -> a entered",
    "SETATTR a/b mode",
    "LINK a/b/linked",
    "WRITE a/b/linked 10+4 6>14",
    "RENAME went -> a/b/came entered [lost a/b/came]",
  ]);
});

test("below a directory nothing else is to be seen, wherever that directory goes; paths are relative to it", async () => {
  app.mkdir(root, "a");
  const within = app.mkdir(root, "a/top").ino;
  app.mkdir(root, "a/top/d");
  app.put(root, "a/secret", "1");
  const from = app.app.core.lastLsn;
  app.put(root, "a/top/d/f", "1");
  app.rename(root, "a/top", "elsewhere");
  app.write(root, "elsewhere/d/f", "22");
  app.rename(root, "a/secret", "elsewhere/came");
  app.rename(root, "elsewhere/d/f", "a/gone");
  app.write(root, "a/gone", "333");
  app.setattr(root, "elsewhere", { mode: 0o700 });
  addSnapshot(app.app.core, { name: "s", automatic: false }, SERVICE_CONTEXT);
  const records = await feed("files", { from: lsn(from), within });
  expect(records.map(line)).toEqual([
    "CREATE d/f",
    "WRITE d/f 0+1 0>1",
    "WRITE d/f 0+2 1>2",
    "RENAME -> came entered",
    "RENAME d/f left",
    "SETATTR . mode",
  ]);
  expect((await feed("files/d", { from: lsn(from), within })).map(line)).toEqual([
    "CREATE d/f",
    "WRITE d/f 0+1 0>1",
    "WRITE d/f 0+2 1>2",
    "RENAME d/f left",
  ]);
});

test("records of the app itself come when a whole app is asked for, those of a share with it", async () => {
  const second = app.share("second").root;
  const from = app.app.core.lastLsn;
  app.put(root, "f", "1");
  app.put(second, "g", "1");
  addSnapshot(app.app.core, { name: "s", automatic: false }, SERVICE_CONTEXT);
  expect((await feed("", { from: lsn(from) })).map((record) => `${record.op} ${record.share?.name}`)).toEqual([
    "CREATE files",
    "WRITE files",
    "CREATE second",
    "WRITE second",
    "SNAPSHOT_CREATE undefined",
  ]);
  expect((await feed("second")).map(line)).toEqual(["SHARE_CREATE", "CREATE g", "WRITE g 0+1 0>1"]);
  expect((await feed("", { operations: ["SNAPSHOT_CREATE"] }))[0]?.details).toContainEqual({
    name: "name",
    value: "s",
  });
});

test("what a restore takes away or brings back has the paths of the share", async () => {
  app.mkdir(root, "d");
  app.put(root, "d/f", "1");
  const at = app.app.core.lastLsn;
  app.unlink(root, "d/f");
  app.rmdir(root, "d");
  app.put(root, "new", "1");
  const from = app.app.core.lastLsn;
  await executeAll(restoresOf(apps), { kind: "restore", source: app.path("files"), at: lsn(at), mode: "mirror" });
  const records = await feed("files", { from: lsn(from), operations: ["RESTORE_ENTRY"] });
  expect(records.map(line)).toEqual(
    expect.arrayContaining(["RESTORE_ENTRY d", "RESTORE_ENTRY d/f", "RESTORE_ENTRY new"]),
  );
});

test("a range begins after its cursor and ends with one to go on from; nothing comes twice", async () => {
  for (let count = 0; count < 30; count++) app.put(root, `f${count}`, "x");
  await app.settle();
  const last = app.app.core.lastLsn;
  const pages = async (rest: Partial<ChangesRequest>): Promise<ChangesPage[]> => {
    const all: ChangesPage[] = [];
    for await (const page of changes.changes(requestOf("", rest))) all.push(page);
    return all;
  };
  const first = await pages({ to: lsn(20) });
  expect(first.flatMap(({ records }) => records.map((record) => record.lsn as number))).toEqual(
    Array.from({ length: 20 }, (_, index) => index + 1),
  );
  expect(first.at(-1)?.cursor.lsn).toBe(20);
  const second = await pages({
    from: lsn(20),
    ...(first.at(-1)?.cursor.time === undefined ? {} : { fromTime: first.at(-1)?.cursor.time }),
  } as Partial<ChangesRequest>);
  expect(second[0]?.records[0]?.lsn).toBe(21);
  expect(second.at(-1)).toMatchObject({ cursor: { lsn: last }, durableLsn: last });
  const none = await pages({ from: lsn(last) });
  expect(none).toMatchObject([{ records: [], cursor: { lsn: last } }]);
  expect(await pages({ from: lsn(20), to: lsn(20) })).toMatchObject([{ records: [], cursor: { lsn: 20 } }]);
});

/** The next page; when the feed waits for one itself, what waits for it. */
async function nextOf(
  pages: AsyncIterator<ChangesPage>,
  pending: Promise<IteratorResult<ChangesPage>> = pages.next(),
): Promise<ChangesPage | { waits: typeof pending } | "ended"> {
  let settled = false;
  const waiting = async (): Promise<"waiting"> => {
    // A feed that waits has a heartbeat to come.
    while (!settled && timers.pendingCount === 0) await new Promise((resolve) => setImmediate(resolve));
    return "waiting";
  };
  const first = await Promise.race([pending.finally(() => (settled = true)), waiting()]);
  if (first === "waiting") return { waits: pending };
  if (first.done === true) return "ended";
  return first.value;
}

test("a followed feed tells only what is durable, as soon as it is; heartbeats tell its cursor", async () => {
  await app.settle();
  const from = app.app.core.lastLsn;
  const abort = new AbortController();
  const pages = changes
    .changes(requestOf("files/wanted", { from: lsn(from), follow: true, heartbeatMs: 1000 }), { signal: abort.signal })
    [Symbol.asyncIterator]();
  let waiting = await nextOf(pages);
  app.put(root, "wanted", "x");
  app.put(root, "unwanted", "x");
  if (waiting === "ended" || !("waits" in waiting)) throw new Error("a page of nothing");
  waiting = await nextOf(pages, waiting.waits);
  if (waiting === "ended" || !("waits" in waiting)) throw new Error("what is not durable was told");
  timers.advance(1000);
  const heartbeat = await nextOf(pages, waiting.waits);
  expect(heartbeat).toMatchObject({ records: [], cursor: { lsn: from }, durableLsn: from });
  const next = pages.next();
  await app.settle();
  const page = (await next).value as ChangesPage;
  expect(page.records.map(line)).toEqual(["CREATE wanted", "WRITE wanted 0+1 0>1"]);
  expect(page).toMatchObject({ cursor: { lsn: from + 4 }, durableLsn: from + 4 });
  app.put(root, "unwanted", "y");
  await app.settle();
  const idle = await nextOf(pages);
  if (idle === "ended" || !("waits" in idle)) throw new Error("a page of nothing");
  timers.advance(1000);
  expect((await idle.waits).value).toMatchObject({ records: [], cursor: { lsn: app.app.core.lastLsn } });
  const last = pages.next();
  abort.abort();
  await expect(last).rejects.toMatchObject({ code: "CANCELLED" });
  expect(timers.pendingCount).toBe(0);
});

function keeper(historyBytesMax = 16_384n): SpaceKeeper {
  return new SpaceKeeper({
    apps: () => [app.app],
    diskSpace: () => ({ totalBytes: 2n ** 40n, freeBytes: 2n ** 39n }),
    clock: apps.clock,
    timers: new ManualTimers(),
    turns: new SystemTurns(),
    log: new MemoryLog(),
    historyBytesMax,
  });
}

function churn(count: number): void {
  app.put(root, "churned", "");
  for (let index = 0; index < count; index++) app.write(root, "churned", Buffer.alloc(4096, index));
}

test("when records are gone the reader is told, with the oldest moment to go on from", async () => {
  churn(100);
  await keeper().runOnce();
  await app.settle();
  const { core } = app.app;
  const failure = await feed("").catch((error: unknown) => error);
  expect(failure).toMatchObject({ code: "OUT_OF_HISTORY", data: { asked: 0, lsn: core.lastLsn } });
  const { from } = (failure as { data: { from: number } }).data;
  expect(from).toBeGreaterThan(0);
  await expect(feed("", { from: lsn(from - 1) })).rejects.toMatchObject({ code: "OUT_OF_HISTORY", data: { from } });
  const records = await feed("", { from: lsn(from) });
  expect(records[0]?.lsn).toBe(from + 1);
  expect(records.at(-1)?.lsn).toBe(core.lastLsn);
});

test("a reader that is slower than history goes is told when it gets there, not passed over anything", async () => {
  churn(1200);
  await app.settle();
  const pages = changes.changes(requestOf("", { follow: true }))[Symbol.asyncIterator]();
  const first = (await pages.next()).value as ChangesPage;
  expect(first.cursor.lsn).toBe(1000);
  churn(200);
  await keeper().runOnce();
  await app.settle();
  await expect(pages.next()).rejects.toMatchObject({ code: "OUT_OF_HISTORY", data: { asked: 1000 } });
});

test("records whose names are not kept any more are not told, though they are still there", async () => {
  churn(1200);
  await app.settle();
  const pages = changes.changes(requestOf("", { follow: true }))[Symbol.asyncIterator]();
  await pages.next();
  app.app.core.moments.raise(1100 as Lsn);
  await expect(pages.next()).rejects.toMatchObject({ code: "OUT_OF_HISTORY", data: { asked: 1000, from: 1100 } });
});

test("a cursor that the journal does not have is refused", async () => {
  app.put(root, "f", "x");
  await app.settle();
  const last = app.app.core.lastLsn;
  await expect(feed("", { from: lsn(last + 1) })).rejects.toMatchObject({
    code: "FAILED_PRECONDITION",
    data: { asked: last + 1 },
  });
  const time = app.app.core.lastTime ?? { sec: 0, nsec: 0 };
  expect(await feed("", { from: lsn(last), fromTime: time })).toEqual([]);
  await expect(feed("", { from: lsn(last), fromTime: { ...time, nsec: time.nsec - 1 } })).rejects.toMatchObject({
    code: "FAILED_PRECONDITION",
  });
});

test("requests that make no sense are refused", async () => {
  app.put(root, "f", "x");
  for (const wrong of [
    { follow: true, to: lsn(1) },
    { from: lsn(2), to: lsn(1) },
    { operations: ["WRITES"] },
    { heartbeatMs: 1 },
    { from: lsn(-1) },
    { from: lsn(0.5) },
  ])
    await expect(feed("", wrong), JSON.stringify(wrong)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
});

test("a reader that is killed again and again, with the service, has every record once", async () => {
  console.log(`SEED=${SEED}`);
  const random = new Random(SEED);
  const seen = new Map<string, string[]>();
  const cursors = new Map<string, ChangeCursor>();
  const filters = ["", "files", "files/n1", "files/n2/n3"];
  let tree = new RandomTree(app, random, [root]);
  for (let round = 0; round < 25; round++) {
    tree.change(random.below(60));
    if (random.oneIn(5))
      await executeAll(restoresOf(apps), {
        kind: "restore",
        source: app.path("files"),
        at: lsn(1 + random.below(app.app.core.lastLsn)),
        mode: "mirror",
      });
    if (random.oneIn(2)) await app.app.journal.sync(app.app.core.lastLsn);
    for (const filter of filters) await readSome(filter, random, { seen, cursors });
    if (!random.oneIn(4)) continue;
    // kill -9 of the service: what was written stays.
    await app.app.applier.close();
    app = await apps.app("shop");
    tree = new RandomTree(app, random, [root]);
  }
  for (const filter of filters) {
    const expected = (await feed(filter)).map((record) => `${record.lsn} ${line(record)}`);
    const cursor = cursors.get(filter);
    const rest = await feed(
      filter,
      cursor === undefined
        ? {}
        : { from: lsn(cursor.lsn), ...(cursor.time === undefined ? {} : { fromTime: cursor.time }) },
    );
    expect([...(seen.get(filter) ?? []), ...rest.map((record) => `${record.lsn} ${line(record)}`)], filter).toEqual(
      expected,
    );
  }
});

/** Follows for a while, from the cursor kept, and is killed: what came since the last page that was kept whole is forgotten. */
async function readSome(
  filter: string,
  random: Random,
  kept: { readonly seen: Map<string, string[]>; readonly cursors: Map<string, ChangeCursor> },
): Promise<void> {
  const cursor = kept.cursors.get(filter);
  const from =
    cursor === undefined
      ? {}
      : { from: lsn(cursor.lsn), ...(cursor.time === undefined ? {} : { fromTime: cursor.time }) };
  const follow = random.oneIn(2);
  const abort = new AbortController();
  const pages = changes
    .changes(requestOf(filter, { ...from, follow }), { signal: abort.signal })
    [Symbol.asyncIterator]();
  for (let left = random.below(4); left > 0; left--) {
    const pending = pages.next();
    const page = await nextOf(pages, pending);
    if (page === "ended") return;
    if ("waits" in page) break;
    expect(page.cursor.lsn).toBeLessThanOrEqual(page.durableLsn);
    if (random.oneIn(3)) break;
    kept.seen.set(filter, [
      ...(kept.seen.get(filter) ?? []),
      ...page.records.map((record) => `${record.lsn} ${line(record)}`),
    ]);
    kept.cursors.set(filter, page.cursor);
  }
  abort.abort();
  await pages.return?.(undefined).catch(() => {});
}
