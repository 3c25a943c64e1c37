import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { MemoryLog } from "../../base/log.ts";
import { ManualTimers } from "../../base/timers.ts";
import type { RestoreProgress } from "../../domain/admin-restore.ts";
import { ErasedError } from "../../domain/errors.ts";
import { type InodeId, LIVE, type Lsn } from "../../domain/ids.ts";
import { WRITE_BYTES_MAX } from "../../domain/metadata-api.ts";
import { Chain } from "../../journal/chain.ts";
import { VerifiedStream } from "../../journal/verified-stream.ts";
import { MemoryKv } from "../../kv/memory-kv.ts";
import { OpenApp, SERVICE_CONTEXT } from "../open-app.ts";
import { History } from "../reading/history.ts";
import { addSnapshot } from "../reading/snapshot-rows.ts";
import { all, type TestApp, TestApps } from "../reading/test-app.ts";
import { SystemTurns } from "../reading/turns.ts";
import { restoresOf } from "../restore/test-restore.ts";
import { SpaceKeeper } from "../space/space-keeper.ts";
import type { PurgeStep } from "./erase-now.ts";
import { Purges } from "./purges.ts";
import { newestOrder } from "./write-order.ts";

const KIB = 1024;
const SEGMENT_BYTES = 64 * KIB;
const MARKER = "order-4711-secret";

let apps: TestApps;
let app: TestApp;
let root: InodeId;
let log: MemoryLog;

beforeEach(async () => {
  apps = await TestApps.open({ segmentBytesMax: SEGMENT_BYTES });
  app = await apps.app("shop");
  root = app.share("files").root;
  log = new MemoryLog();
});

afterEach(() => apps.close());

const purges = (onStep?: (step: PurgeStep) => void): Purges =>
  new Purges({ ...apps.parts, log, ...(onStep === undefined ? {} : { onStep }) });

function order(file: string, more: { shared?: boolean; liveToo?: boolean } = {}) {
  return { path: app.path(`files/${file}`), reason: "order 4711", shared: false, liveToo: false, ...more };
}

async function read(ino: InodeId, at: Lsn = LIVE): Promise<string> {
  const size = app.app.core.inodeAt(ino, at).size;
  const pieces: Uint8Array[] = [];
  for (let offset = 0n; offset < size; offset += BigInt(WRITE_BYTES_MAX)) {
    const request = { op: "read", ino, offset, length: WRITE_BYTES_MAX, at } as const;
    const reply = (await app.app.engine.execute(request, app.context)) as readonly Uint8Array[];
    pieces.push(...reply.map((piece) => Buffer.from(piece)));
  }
  return Buffer.concat(pieces).toString();
}

/** How often the marker stands in the files of the app's journal. */
function marks(): number {
  const folder = path.join(apps.folder, "shop");
  let count = 0;
  for (const name of readdirSync(folder)) {
    const text = readFileSync(path.join(folder, name)).toString("latin1");
    count += text.split(MARKER).length - 1;
  }
  return count;
}

async function chain(): Promise<string> {
  await app.settle();
  const walk = new Chain(path.join(apps.folder, "shop"), app.app.id);
  try {
    return walk.advance(app.app.journal.durableLsn).hash.toString("hex");
  } finally {
    walk.close();
  }
}

/** The chain as the shipper computes it, up to `to`. */
async function streamed(to: Lsn): Promise<number> {
  const stream = new VerifiedStream({ folder: path.join(apps.folder, "shop"), appId: app.app.id, from: 1 as Lsn });
  let erased = 0;
  await stream.refresh(to);
  while (!stream.isDone) {
    const record = stream.take();
    if (record === undefined) await stream.fill();
    else if (record.erased !== undefined) erased += 1;
  }
  await stream.close();
  return erased;
}

const content = (word: string): string => `${MARKER} ${word} `.repeat(200);

test("what was erased is gone from the journal's files and unreadable at every moment, and nothing else is", async () => {
  const { ino } = app.put(root, "secret", content("one"));
  const first = app.app.core.lastLsn;
  app.put(root, "secret", content("two"));
  const other = app.put(root, "other", "harmless ".repeat(500));
  app.unlink(root, "secret");
  const before = await chainUpTo(app.app.core.lastLsn);
  const result = await purges().purge(order("secret"));
  expect(result.plan).toMatchObject({ fileCount: 1, recordCount: 2, liveCount: 0, sharedCount: 0 });
  expect(result.plan.bytes).toBe(BigInt(content("one").length + content("two").length));
  expect(result.openCount).toBe(0);
  expect(marks()).toBe(0);
  await expect(read(ino, first)).rejects.toBeInstanceOf(ErasedError);
  const map = { op: "map", ino, offset: 0n, length: 100, at: first } as const;
  expect(() => app.app.engine.execute(map, app.context)).toThrow(ErasedError);
  expect(await read(other.ino)).toBe("harmless ".repeat(500));
  expect(await chainUpTo((result.lsn as Lsn) - 1)).toBe(before);
  expect(await streamed(app.app.journal.durableLsn)).toBe(2);
  expect(log.lines.filter(({ level }) => level === "alarm")).toEqual([]);
});

async function chainUpTo(lsn: number): Promise<string> {
  await app.settle();
  const walk = new Chain(path.join(apps.folder, "shop"), app.app.id);
  try {
    return walk.advance(lsn as Lsn).hash.toString("hex");
  } finally {
    walk.close();
  }
}

test("every file that ever had the path is meant, and everything that was ever below a directory", async () => {
  app.mkdir(root, "d");
  const old = app.put(root, "d/a", content("old"));
  app.put(root, "tmp", content("new"));
  app.rename(root, "tmp", "d/a");
  app.put(root, "d/b", content("b"));
  app.rename(root, "d/b", "away");
  const later = app.put(root, "later", "came to the path after");
  const plan = await purges().planPurge(order("d"));
  expect(plan.fileCount).toBe(3);
  expect(plan.live.map((file) => file.path.toString()).sort()).toEqual(["files/away", "files/d/a"]);
  expect(plan.files.map((file) => file.ino)).toContain(old.ino);
  await purges().purge(order("d", { liveToo: true }));
  expect(marks()).toBe(0);
  expect(await read(later.ino)).toBe("came to the path after");
});

test("files that are there refuse the order, or are deleted first where that was said", async () => {
  app.put(root, "secret", content("x"));
  app.link(root, "secret", "hard");
  await expect(purges().purge(order("secret"))).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
  expect(marks()).toBeGreaterThan(0);
  await purges().purge(order("secret", { liveToo: true }));
  expect(marks()).toBe(0);
  expect(() => app.at(root, "hard")).toThrow("ENOENT");
});

test("bytes that other files share refuse the order; with them erased, the rest of the other file stays", async () => {
  const whole = app.put(root, "whole", `${"k".repeat(1000)}${content("x")}${"k".repeat(1000)}`);
  const copy = app.create(root, "copy");
  const length = BigInt(content("x").length);
  app.run({
    op: "copyRange",
    source: whole.ino,
    sourceOffset: 1000n,
    sourceAt: LIVE,
    target: copy.ino,
    targetOffset: 0n,
    length,
    killPrivileges: false,
  } as never);
  expect(await read(copy.ino)).toBe(content("x"));
  app.unlink(root, "copy");
  await expect(purges().purge(order("copy"))).rejects.toThrow("files/whole");
  const { plan } = await purges().purge(order("copy", { shared: true }));
  expect(plan.shared).toMatchObject([{ ino: whole.ino, bytes: length }]);
  expect(marks()).toBe(0);
  await expect(read(whole.ino)).rejects.toBeInstanceOf(ErasedError);
  const rest = { op: "read", ino: whole.ino, offset: 0n, length: 1000, at: LIVE } as const;
  expect(Buffer.concat((await app.app.engine.execute(rest, app.context)) as Uint8Array[]).toString()).toBe(
    "k".repeat(1000),
  );
  await chain();
});

test("an order that is cut short at any point is carried through at the next start", async () => {
  for (const step of ["committed", "durable", "noted", "zeroed", "synced", "punched"] as const) {
    const file = `secret-${step}`;
    const { ino } = app.put(root, file, content(step));
    const at = app.app.core.lastLsn;
    app.unlink(root, file);
    const stop = (done: PurgeStep): void => {
      if (done === step) throw new Error("crash");
    };
    await expect(purges(stop).purge(order(file))).rejects.toThrow("crash");
    app = await apps.app("shop");
    await expect(read(ino, at)).rejects.toBeInstanceOf(ErasedError);
    await purges().finish(app.app);
    expect(marks()).toBe(0);
    await chain();
    const again = await purges().purge(order(file));
    expect(again.lsn).toBeUndefined();
  }
});

test("rows that are made again from the journal alone say the same", async () => {
  const { ino } = app.put(root, "secret", content("x"));
  const at = app.app.core.lastLsn;
  app.put(root, "other", "harmless");
  app.unlink(root, "secret");
  await purges().purge(order("secret"));
  await app.settle();
  const kv = new MemoryKv();
  const again = await OpenApp.open({
    appId: app.app.id,
    slot: 9,
    folder: path.join(apps.folder, "shop"),
    kv,
    clock: apps.clock,
    log,
    diskSpace: () => ({ totalBytes: 0n, freeBytes: 0n }),
    readOnly: true,
  });
  try {
    const request = { op: "read", ino, offset: 0n, length: 100, at } as const;
    expect(() => again.engine.execute(request, SERVICE_CONTEXT)).toThrow(ErasedError);
  } finally {
    await again.close();
    await kv.close();
  }
});

function keeper(): SpaceKeeper {
  return new SpaceKeeper({
    apps: () => [app.app],
    diskSpace: () => ({ totalBytes: 2n ** 40n, freeBytes: 2n ** 39n }),
    clock: apps.clock,
    timers: new ManualTimers(),
    turns: new SystemTurns(),
    log,
    historyBytesMax: BigInt(SEGMENT_BYTES),
  });
}

function churn(file: string, bytes: number): void {
  app.put(root, file, "");
  for (let count = 0; count < bytes / (8 * KIB); count++) app.write(root, file, Buffer.alloc(8 * KIB, count));
}

test("copies that cleaning made go too, what is beside them in the same record stays, and cleaning goes on", async () => {
  for (let count = 0; count < 6; count++) {
    app.put(root, `secret${count}`, content(`s${count}`));
    app.put(root, `kept${count}`, `kept ${count} `.repeat(100));
    churn("churn", 24 * KIB);
  }
  addSnapshot(app.app.core, { name: "s", automatic: false }, SERVICE_CONTEXT);
  churn("churn", 512 * KIB);
  await keeper().runOnce();
  expect(marks()).toBeGreaterThan(5);
  for (let count = 0; count < 6; count++) {
    const liveToo = count % 2 === 0;
    if (!liveToo) app.unlink(root, `secret${count}`);
    await purges().purge(order(`secret${count}`, { liveToo }));
  }
  expect(marks()).toBe(0);
  await chainIsWhole();
  churn("churn", 512 * KIB);
  await keeper().runOnce();
  churn("churn", 512 * KIB);
  await keeper().runOnce();
  for (let count = 0; count < 6; count++)
    expect(await read(app.at(root, `kept${count}`).ino)).toBe(`kept ${count} `.repeat(100));
  expect(log.lines.filter(({ level }) => level === "alarm")).toEqual([]);
  app = await apps.app("shop");
  for (let count = 0; count < 6; count++)
    expect(await read(app.at(root, `kept${count}`).ino)).toBe(`kept ${count} `.repeat(100));
});

/** Of what is kept of the journal. */
async function chainIsWhole(): Promise<void> {
  await app.settle();
  for (const { segment, lastLsn } of app.app.journal.segments()) {
    const start = { lsn: (segment - 1) as Lsn, hash: Buffer.alloc(32) };
    const walk = new Chain(path.join(apps.folder, "shop"), app.app.id, start);
    walk.advance(Math.min(lastLsn, app.app.journal.durableLsn) as Lsn);
    walk.close();
  }
}

test("the log shows the order, its reason and what it was about", async () => {
  app.put(root, "secret", content("x"));
  app.unlink(root, "secret");
  await purges().purge(order("secret"));
  const request = { path: app.path(""), order: "newest-first", follow: false } as const;
  const records = await all(new History(apps.parts).log(request));
  const found = records.find(({ op }) => op === "PURGE");
  expect(found?.details).toContainEqual({ name: "reason", value: "order 4711" });
  expect(found?.details).toContainEqual({ name: "path", value: "shop/files/secret" });
});

test("an order needs a reason, and a path that something had", async () => {
  app.put(root, "secret", content("x"));
  await expect(purges().purge({ ...order("secret"), reason: "  " })).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
  });
  await expect(purges().purge(order("never"))).rejects.toMatchObject({ code: "NOT_FOUND" });
});

test("a restore puts back what is beside erased files, leaves them out, and says which", async () => {
  app.mkdir(root, "d");
  app.put(root, "d/secret", content("x"));
  app.put(root, "d/other", "harmless");
  const at = app.app.core.lastLsn;
  app.unlink(root, "d/secret");
  app.unlink(root, "d/other");
  await purges().purge(order("d/secret"));
  const restores = restoresOf(apps);
  const request = {
    kind: "restore",
    source: app.path("files/d"),
    at: { kind: "lsn", lsn: at },
    mode: "mirror",
  } as const;
  const items: RestoreProgress[] = [];
  for await (const item of restores.execute(request)) items.push(item);
  const done = items.at(-1);
  expect(done?.kind === "done" ? done.result.summary.limitations : []).toContainEqual(
    '"d/secret" is left out: its content was erased by order',
  );
  expect(await read(app.at(root, "d/other").ino)).toBe("harmless");
  expect(() => app.at(root, "d/secret")).toThrow("ENOENT");
  await restores.close();
});

test("an order about very many writes is several records, and can be repeated where it was cut short between them", async () => {
  const { ino } = app.create(root, "secret");
  for (let count = 0; count < 6000; count++) {
    const data = Buffer.from(`${MARKER} ${count}`);
    app.run({ op: "write", ino, offset: BigInt(count * 100), data, killPrivileges: false });
    if (count % 1000 === 0) await app.settle();
  }
  app.unlink(root, "secret");
  const turns = new SystemTurns();
  let isCut = true;
  const cutting = {
    next: async (): Promise<void> => {
      await turns.next();
      if (isCut && newestOrder(app.app.core) !== undefined) throw new Error("crash");
    },
  };
  const cut = new Purges({ ...apps.parts, log, turns: cutting });
  await expect(cut.purge(order("secret"))).rejects.toThrow("crash");
  isCut = false;
  app = await apps.app("shop");
  await purges().finish(app.app);
  expect(marks()).toBeGreaterThan(0);
  expect(marks()).toBeLessThan(2000);
  await purges().purge(order("secret"));
  expect(marks()).toBe(0);
  await chain();
});
