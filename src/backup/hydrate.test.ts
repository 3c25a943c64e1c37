import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { dumpTree } from "../../test/crash/engine-dump.ts";
import { SystemClock } from "../base/clock.ts";
import { memoryLog, silentLog } from "../base/log.ts";
import { ManualTimers } from "../base/timers.ts";
import type { ChangeRecord, DeltaEntry } from "../domain/admin-changes.ts";
import { ErasedError } from "../domain/errors.ts";
import type { InodeId, Lsn } from "../domain/ids.ts";
import { LIVE } from "../domain/ids.ts";
import { RECORD_OP } from "../domain/record-op.ts";
import { makeFreshJournal } from "../journal/fresh-journal.ts";
import { MemoryKv } from "../kv/memory-kv.ts";
import { encodeApplied } from "../meta/counters.ts";
import { plainKey, TABLE } from "../meta/keys.ts";
import { OpenApp } from "../meta/open-app.ts";
import { Purges } from "../meta/purge/purges.ts";
import { Changes } from "../meta/reading/changes.ts";
import { History } from "../meta/reading/history.ts";
import { all, type TestApp, TestApps } from "../meta/reading/test-app.ts";
import { entriesOf } from "../meta/reading/test-delta.ts";
import { SystemTurns } from "../meta/reading/turns.ts";
import { slotPrefix } from "../meta/row-store.ts";
import { SpaceKeeper } from "../meta/space/space-keeper.ts";
import { keptRows } from "./archive-rows.ts";
import { type HydrateReport, Hydrator } from "./hydrate.ts";
import { JournalAsArchive } from "./testing/journal-as-archive.ts";

const SLOT = 7;
const SEGMENT_BYTES = 64 * 1024;

let apps: TestApps;
let original: TestApp;
let root: InodeId;
let kv: MemoryKv;
let archive: JournalAsArchive;
let copy: OpenApp;

beforeEach(async () => {
  apps = await TestApps.open({ segmentBytesMax: SEGMENT_BYTES });
  original = await apps.app("shop");
  root = original.share("files").root;
  kv = new MemoryKv();
});

afterEach(async () => {
  await copy.close();
  await kv.close();
  await apps.close();
});

/** A copy of the original's rows as a recovery lays them down, over the original as its archive. */
async function copyOriginal(): Promise<void> {
  const { lastLsn } = original.app.core;
  await original.settle();
  archive = new JournalAsArchive(original.app);
  const from = slotPrefix(original.app.slot);
  for (const { key, value } of allRows()) {
    const row = { key: key.subarray(from.length), value };
    if (keptRows({ op: RECORD_OP.WRITE, rows: [row] }).length === 0) continue;
    await kv.batch([{ type: "put", key: Buffer.concat([slotPrefix(SLOT), row.key]), value }]);
  }
  const applied = Buffer.concat([slotPrefix(SLOT), plainKey(TABLE.APPLIED)]);
  await kv.batch([{ type: "put", key: applied, value: encodeApplied(lastLsn, original.app.core.counters) }]);
  await makeFreshJournal({ folder: folder(), appId: original.app.id, lastLsn, clock: apps.clock });
  await openCopy();
}

const folder = (): string => path.join(apps.folder, "copy", "journal");

async function openCopy(): Promise<void> {
  copy = await OpenApp.open({
    appId: original.app.id,
    slot: SLOT,
    folder: folder(),
    kv,
    clock: apps.clock,
    log: silentLog,
    archive,
    diskSpace: () => ({ totalBytes: 2n ** 40n, freeBytes: 2n ** 39n }),
    journalLimits: { segmentBytesMax: SEGMENT_BYTES },
  });
}

function* allRows(): Generator<{ key: Buffer; value: Buffer }> {
  const gte = slotPrefix(original.app.slot);
  yield* apps.kv.rangeSync({ gte, lt: slotPrefix(original.app.slot + 1), limit: 10_000 });
}

function hydrate(options: { onProgress?: () => void; signal?: AbortSignal } = {}): Promise<HydrateReport> {
  const { signal, ...rest } = options;
  const parts = { clock: new SystemClock(), timers: new ManualTimers(), turns: new SystemTurns(), log: silentLog };
  return new Hydrator({ app: copy, source: archive, ...parts, ...rest }).run(signal);
}

async function settleCopy(): Promise<void> {
  await copy.journal.sync(copy.core.lastLsn);
  await copy.applier.reached(copy.core.lastLsn);
}

/** Files, rewritten, cut, punched, renamed, linked and deleted, so that much of the data is history. */
function someHistory(): Lsn[] {
  const moments: Lsn[] = [];
  original.mkdir(root, "d");
  for (let round = 0; round < 12; round++) {
    for (let file = 0; file < 6; file++)
      original.put(root, `d/f${file}`, `round ${round} of file ${file} ${"x".repeat(3000 + 501 * file)}`);
    original.write(root, "d/f0", `patch ${round}`, BigInt(round * 100));
    original.setattr(root, "d/f1", { size: BigInt(2000 + round) });
    if (round === 3) original.link(root, "d/f2", "d/hard");
    if (round === 6) original.unlink(root, "d/f3");
    if (round % 4 === 1) moments.push(original.app.core.lastLsn);
  }
  original.write(root, "d/hard", Buffer.alloc(200_000, "long"), 5000n);
  moments.push(original.app.core.lastLsn);
  return moments;
}

async function expectSame(moments: readonly Lsn[]): Promise<void> {
  for (const at of [...moments, LIVE]) {
    const there = await dumpTree(original.app.engine, root, at);
    expect(await dumpTree(copy.engine, root, at), `at ${at}`).toEqual(there);
  }
}

test("an app whose journal begins after its archive shows the same now and at past moments", async () => {
  const moments = someHistory();
  await copyOriginal();
  expect(copy.core.lastLsn).toBe(original.app.core.lastLsn);
  await expectSame(moments);
  expect(archive.reads.length).toBeGreaterThan(10);
});

test("its log spans the archive and what came after, in both directions", async () => {
  someHistory();
  await copyOriginal();
  const context = { ...original.context, actor: { ...original.context.actor, pid: 7 } };
  await copy.engine.execute({ op: "mkdir", parent: root, name: Buffer.from("new"), mode: 0o755, umask: 0 }, context);
  const history = new History({
    ...apps.parts,
    apps: { find: () => copy, nameOf: () => ({ namespace: "default", name: "shop" }) },
  });
  for (const order of ["oldest-first", "newest-first"] as const) {
    const request = { path: original.path(""), order, follow: false };
    const lsns = (await all(history.log(request))).map(({ lsn }) => lsn);
    if (order === "newest-first") lsns.reverse();
    expect(lsns).toEqual(Array.from({ length: copy.core.lastLsn }, (_, index) => index + 1));
  }
  const versions = await all(history.history({ path: original.path("files/d/f0") }));
  const there = await all(new History(apps.parts).history({ path: original.path("files/d/f0") }));
  expect(versions).toEqual(there);
});

test("its change feed and deltas span the archive and what came after", async () => {
  const [first = 0] = someHistory();
  await copyOriginal();
  const context = { ...original.context, actor: { ...original.context.actor, pid: 7 } };
  await copy.engine.execute({ op: "mkdir", parent: root, name: Buffer.from("new"), mode: 0o755, umask: 0 }, context);
  await settleCopy();
  const at = original.app.core.lastLsn;
  const of = (app: OpenApp): Changes => {
    const found = { find: () => app, nameOf: () => ({ namespace: "default", name: "shop" }) };
    return new Changes({ ...apps.parts, apps: found, timers: new ManualTimers() });
  };
  const feed = async (app: OpenApp): Promise<ChangeRecord[]> => {
    const records: ChangeRecord[] = [];
    const request = { path: original.path(""), operations: [], follow: false };
    for await (const page of of(app).changes(request)) records.push(...page.records);
    return records;
  };
  const there = await feed(original.app);
  const here = await feed(copy);
  expect(here.slice(0, there.length)).toEqual(there);
  expect(here.slice(there.length).map(({ op, lsn }) => `${op} ${lsn}`)).toEqual([`MKDIR ${at + 1}`]);
  const span = { path: original.path("files"), from: { kind: "lsn", lsn: first as Lsn }, byPath: false } as const;
  const delta = (app: OpenApp): Promise<DeltaEntry[]> =>
    entriesOf(of(app).shareDelta({ ...span, to: { kind: "lsn", lsn: at } }));
  expect(await delta(copy)).toEqual(await delta(original.app));
  const since = await entriesOf(of(copy).shareDelta({ ...span, from: { kind: "lsn", lsn: at }, to: { kind: "now" } }));
  expect(since.map(({ kind }) => kind)).toEqual(["changed", "created"]);
});

test("a record's time, and what a time means, are as in the original", async () => {
  someHistory();
  await copyOriginal();
  expect(copy.core.lastTime).toEqual(original.app.core.lastTime);
});

test("after hydration all data are read without the archive, also after opening again", async () => {
  const moments = someHistory();
  await copyOriginal();
  const report = await hydrate();
  expect(report.damagedBytes).toBe(0);
  expect(report.bytes).toBeGreaterThan(200_000);
  archive.fails = "unreachable";
  await expectSame(moments);
  await settleCopy();
  await copy.close();
  archive = new JournalAsArchive(original.app);
  archive.fails = "unreachable";
  await openCopy();
  await expectSame(moments);
});

test("hydration that was cut off goes on where it was, and reads nothing twice", async () => {
  const moments = someHistory();
  for (let file = 0; file < 12; file++)
    original.put(root, `large${file}`, String.fromCharCode(97 + file).repeat(700_000));
  await copyOriginal();
  const abort = new AbortController();
  await expect(hydrate({ signal: abort.signal, onProgress: () => abort.abort() })).rejects.toMatchObject({
    code: "CANCELLED",
  });
  const before = copy.core.lastLsn;
  expect(before).toBeGreaterThan(original.app.core.lastLsn);
  await copy.close();
  archive = new JournalAsArchive(original.app);
  await openCopy();
  await hydrate();
  expect(copy.core.lastLsn).toBeGreaterThan(before);
  expect((await hydrate()).bytes).toBe(0);
  archive.fails = "unreachable";
  await expectSame(moments);
});

test("what is damaged in the archive is left there, and all else comes", async () => {
  original.put(root, "good", "a".repeat(5000));
  original.put(root, "bad", "b".repeat(5000));
  await copyOriginal();
  const badInode = original.at(root, "bad");
  const readData = archive.readData.bind(archive);
  archive.readData = async (place) => {
    const bytes = await readData(place);
    if (bytes[0] !== "b".charCodeAt(0)) return bytes;
    archive.fails = "damaged";
    return readData(place).finally(() => {
      archive.fails = "not";
    });
  };
  expect(await hydrate()).toEqual({ bytes: 5000, damagedBytes: 5000 });
  const read = { op: "read", ino: badInode.ino, offset: 0n, length: 10, at: LIVE } as const;
  await expect(async () => copy.engine.execute(read, original.context)).rejects.toMatchObject({ code: "EIO" });
});

test("hydration stops where the archive can't be reached, with nothing lost", async () => {
  someHistory();
  await copyOriginal();
  archive.fails = "unreachable";
  await expect(hydrate()).rejects.toThrow("unreachable");
  archive.fails = "not";
  expect((await hydrate()).damagedBytes).toBe(0);
});

test("cleaning moves hydrated data on, and drops what only dropped history needed", async () => {
  const moments = someHistory();
  await copyOriginal();
  await hydrate();
  const context = original.context;
  for (let index = 0; index < 60; index++) {
    apps.clock.step(1_000_000_000);
    const name = Buffer.from("filler");
    const made = { op: "create", parent: root, name, mode: 0o644, umask: 0, exclusive: false, truncate: true } as const;
    const inode = (await copy.engine.execute(made, context)) as { ino: InodeId };
    const data = Buffer.alloc(20_000, index);
    await copy.engine.execute({ op: "write", ino: inode.ino, offset: 0n, data, killPrivileges: false }, context);
    await settleCopy();
  }
  const now = await dumpTree(copy.engine, root, LIVE);
  const log = memoryLog();
  const keeper = new SpaceKeeper({
    apps: () => [copy],
    diskSpace: () => ({ totalBytes: 2n ** 40n, freeBytes: 2n ** 39n }),
    clock: new SystemClock(),
    timers: new ManualTimers(),
    turns: new SystemTurns(),
    log,
    historyBytesMax: 100_000n,
  });
  const segments = copy.journal.segments().length;
  await keeper.runOnce();
  expect(log.lines.filter(({ level }) => level === "alarm")).toEqual([]);
  expect(copy.journal.segments().length).toBeLessThan(segments);
  archive.fails = "damaged";
  expect(await dumpTree(copy.engine, root, LIVE)).toEqual(now);
  expect(copy.core.moments.floor).toBeGreaterThan(moments.at(-1) ?? 0);
  await keeper.stop();
});

/** How often the marker stands in the copy's journal. */
function marks(): number {
  return readdirSync(folder()).reduce(
    (sum, name) => sum + readFileSync(path.join(folder(), name)).toString("latin1").split(MARKER).length - 1,
    0,
  );
}

const MARKER = "order-4711-secret";

for (const when of ["before", "after"] as const) {
  test(`what is erased by order ${when} it was brought in is not here, and what is beside it is`, async () => {
    original.put(root, "secret", `${MARKER} `.repeat(300));
    original.put(root, "other", "harmless ".repeat(300));
    const then = original.app.core.lastLsn;
    original.unlink(root, "secret");
    await copyOriginal();
    if (when === "after") {
      await hydrate();
      expect(marks()).toBeGreaterThan(0);
    }
    const orders = new Purges({
      ...apps.parts,
      apps: { find: () => copy, nameOf: () => ({ namespace: "default", name: "shop" }) },
    });
    const order = { path: original.path("files/secret"), reason: "order 4711", shared: false, liveToo: false };
    await orders.purge(order);
    await hydrate();
    await settleCopy();
    expect(marks()).toBe(0);
    const secret = copy.core.findInodeAt(original.app.core.nextInode - 2, then);
    expect(secret).toBeDefined();
    const read = (ino: InodeId) =>
      copy.engine.execute({ op: "read", ino, offset: 0n, length: 5000, at: then }, original.context);
    expect(() => read(secret?.ino ?? (0 as InodeId))).toThrow(ErasedError);
    const other = await read((original.app.core.nextInode - 1) as InodeId);
    expect(Buffer.concat([...other]).toString()).toBe("harmless ".repeat(300));
  });
}
