import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { audit } from "../../../test/space/audit.ts";
import { present } from "../../base/assert.ts";
import { MemoryLog } from "../../base/log.ts";
import { ManualTimers } from "../../base/timers.ts";
import type { RestoreRequest } from "../../domain/admin-restore.ts";
import { FsError } from "../../domain/errors.ts";
import { type InodeId, LIVE, type Lsn } from "../../domain/ids.ts";
import { WRITE_BYTES_MAX } from "../../domain/metadata-api.ts";
import { SERVICE_CONTEXT } from "../open-app.ts";
import { addSnapshot, removeSnapshot } from "../reading/snapshot-rows.ts";
import { type TestApp, TestApps } from "../reading/test-app.ts";
import { resolveMoment } from "../reading/time.ts";
import { SystemTurns } from "../reading/turns.ts";
import { restoresOf } from "../restore/test-restore.ts";
import { SpaceKeeper, type SpaceKeeperOptions } from "./space-keeper.ts";

const KIB = 1024;
const SEGMENT_BYTES = 64 * KIB;

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

function keeper(options: Partial<SpaceKeeperOptions> = {}): SpaceKeeper {
  return new SpaceKeeper({
    apps: () => [app.app],
    diskSpace: () => ({ totalBytes: 2n ** 40n, freeBytes: 2n ** 39n }),
    clock: apps.clock,
    timers: new ManualTimers(),
    turns: new SystemTurns(),
    log,
    historyBytesMax: BigInt(SEGMENT_BYTES),
    ...options,
  });
}

const journalBytes = (): number => app.app.journal.segments().reduce((sum, { bytes }) => sum + bytes, 0);
const alarms = (): string[] => log.lines.filter(({ level }) => level === "alarm").map(({ message }) => message);

/** Overwrites a file again and again: all but the last is history. */
function churn(file: string, bytes: number): void {
  app.put(root, file, "");
  for (let count = 0; count < bytes / (8 * KIB); count++) app.write(root, file, Buffer.alloc(8 * KIB, count));
}

async function content(file: string, at: Lsn = LIVE): Promise<Buffer> {
  const { ino, size } = app.at(root, file);
  const pieces: Uint8Array[] = [];
  for (let offset = 0n; offset < size; offset += BigInt(WRITE_BYTES_MAX)) {
    const request = { op: "read", ino, offset, length: WRITE_BYTES_MAX, at } as const;
    pieces.push(
      ...((await app.app.engine.execute(request, app.context)) as Uint8Array[]).map((piece) => Buffer.from(piece)),
    );
  }
  return Buffer.concat(pieces);
}

test("history beyond its bound goes, oldest first, and its bytes are given back", async () => {
  churn("a", 1024 * KIB);
  const before = app.app.core.lastLsn;
  await keeper().runOnce();
  expect(journalBytes()).toBeLessThan(4 * SEGMENT_BYTES);
  const { floor } = app.app.core.moments;
  expect(floor).toBeGreaterThan(1);
  expect(floor).toBeLessThan(before);
  expect(await content("a")).toEqual(Buffer.alloc(8 * KIB, 127));
  expect(await content("a", floor)).toHaveLength(8 * KIB);
  expect(alarms()).toEqual([]);
});

test("a moment that was dropped is refused, not guessed: ESTALE to mounts, OUT_OF_HISTORY to people", async () => {
  churn("a", 512 * KIB);
  const { core, engine } = app.app;
  const gone = 20 as Lsn;
  await keeper().runOnce();
  const request = { op: "getattr", ino: root, at: gone } as const;
  expect(() => engine.execute(request, app.context)).toThrow(FsError.of("ESTALE"));
  await expect(resolveMoment(core, { kind: "lsn", lsn: gone })).rejects.toMatchObject({ code: "OUT_OF_HISTORY" });
  expect(() => core.moments.hold(gone)).toThrow("older than the history");
  const of = { lsn: gone, time: apps.clock.now() };
  expect(() => addSnapshot(core, { name: "late", automatic: false, of }, SERVICE_CONTEXT)).toThrow("older");
});

test("times from the floor on resolve exactly, earlier ones are out of history", async () => {
  const times = new Map<Lsn, ReturnType<typeof apps.clock.now>>();
  app.put(root, "a", "");
  for (let count = 0; count < 80; count++) {
    app.write(root, "a", Buffer.alloc(8 * KIB, count));
    times.set(app.app.core.lastLsn, apps.clock.now());
  }
  // The keeper's own records have the time of the last one.
  times.delete(app.app.core.lastLsn);
  await keeper().runOnce();
  const { floor } = app.app.core.moments;
  expect([...times.keys()].some((lsn) => lsn < floor)).toBe(true);
  for (const [lsn, time] of times) {
    const found = resolveMoment(app.app.core, { kind: "time", time });
    if (lsn < floor) await expect(found).rejects.toMatchObject({ code: "OUT_OF_HISTORY" });
    else expect((await found).lsn).toBe(lsn);
  }
});

test("a snapshot keeps its moment and only that; without it the bytes are given back", async () => {
  churn("a", 64 * KIB);
  const then = await content("a");
  const { core } = app.app;
  const { lsn } = addSnapshot(core, { name: "s", automatic: false }, SERVICE_CONTEXT);
  churn("a", 1024 * KIB);
  await keeper().runOnce();
  expect(lsn).toBeLessThan(core.moments.floor);
  expect(await content("a", lsn)).toEqual(then);
  expect(() => core.moments.check((lsn - 1) as Lsn)).toThrow(FsError.of("ESTALE"));
  expect((await resolveMoment(core, { kind: "snapshot", name: "s" })).lsn).toBe(lsn);
  removeSnapshot(core, "s", SERVICE_CONTEXT);
  churn("b", 256 * KIB);
  await keeper().runOnce();
  expect(() => core.moments.check(lsn)).toThrow(FsError.of("ESTALE"));
  expect(journalBytes()).toBeLessThan(5 * SEGMENT_BYTES);
});

test("what is being read stays until it is let go of", async () => {
  churn("a", 64 * KIB);
  const at = app.app.core.lastLsn;
  const then = await content("a");
  const release = app.app.core.moments.hold(at);
  churn("a", 1024 * KIB);
  await keeper().runOnce();
  expect(await content("a", at)).toEqual(then);
  release();
  release();
  churn("a", 256 * KIB);
  await keeper().runOnce();
  expect(() => app.app.core.moments.check(at)).toThrow(FsError.of("ESTALE"));
});

test("what is in use of poor segments is moved, and read the same, also after a restart and when it is moved again", async () => {
  const still = Buffer.from(Array.from({ length: 5000 }, (_, index) => index % 251));
  const wanted = new Map<string, Buffer>();
  for (let round = 0; round < 12; round++) {
    const name = `still-${round}`;
    const bytes = Buffer.concat([still, Buffer.from(name)]);
    wanted.set(name, bytes);
    app.create(root, name);
    app.write(root, name, bytes);
    churn("busy", 160 * KIB);
    await keeper().runOnce();
  }
  expect(app.app.journal.segments()[0]?.segment).toBeGreaterThan(1);
  for (const [name, bytes] of wanted) expect(await content(name), name).toEqual(bytes);
  app = await apps.app("shop");
  for (const [name, bytes] of wanted) expect(await content(name), name).toEqual(bytes);
  expect(alarms()).toEqual([]);
});

test("damaged bytes keep their segment, with an alarm, and lose nothing else", async () => {
  const precious = Buffer.alloc(6 * KIB, "precious");
  app.create(root, "precious");
  app.write(root, "precious", precious);
  churn("busy", 1024 * KIB);
  const folder = path.join(apps.folder, "shop");
  const file = path.join(folder, present(readdirSync(folder).sort()[0], "a segment"));
  const bytes = readFileSync(file);
  bytes.writeUInt8(0, bytes.indexOf(precious) + 3000);
  writeFileSync(file, bytes);
  await keeper().runOnce();
  expect(alarms().some((message) => message.includes("can't be cleaned"))).toBe(true);
  expect(readFileSync(file)).toEqual(bytes);
  await expect(content("precious")).rejects.toMatchObject({ code: "EIO" });
  expect(await content("busy")).toEqual(Buffer.alloc(8 * KIB, 127));
  expect(journalBytes()).toBeLessThan(5 * SEGMENT_BYTES);
});

test("copies of a dead file's bytes keep them", async () => {
  app.create(root, "source");
  app.write(root, "source", Buffer.alloc(6 * KIB, "copied"));
  const source = app.at(root, "source").ino;
  const target = app.create(root, "copy").ino;
  const copy = { source, sourceOffset: 0n, target, targetOffset: 0n, length: BigInt(6 * KIB), sourceAt: LIVE };
  app.run({ op: "copyRange", ...copy });
  app.unlink(root, "source");
  churn("busy", 1024 * KIB);
  await keeper().runOnce();
  expect(app.app.journal.segments()[0]?.segment).toBeGreaterThan(1);
  expect(await content("copy")).toEqual(Buffer.alloc(6 * KIB, "copied"));
});

test.each([
  ["is dropped when it was cancelled", true],
  ["stays while it is under way, also over a restart, and is the file's in the end", false],
])("content that a restore lays down %s", async (_, isCancelled) => {
  const other = await apps.app("other");
  const otherRoot = other.share("files").root;
  const bytes = Buffer.alloc(1024 * KIB, "from another app");
  const source = other.create(otherRoot, "big").ino;
  for (let offset = 0; offset < 4; offset++)
    other.run({ op: "write", ino: source, offset: BigInt(offset * bytes.length), data: bytes, killPrivileges: false });
  const at = { kind: "lsn", lsn: other.app.core.lastLsn } as const;
  const restores = restoresOf(apps);
  const abort = new AbortController();
  const request: RestoreRequest = {
    kind: "restore",
    source: other.path("files/big"),
    at,
    mode: "mirror",
    target: app.path("files/back"),
  };
  let closing: Promise<void> | undefined;
  let commits = 0;
  const stop = app.app.core.onCommit(() => {
    if (++commits !== 4) return;
    if (isCancelled) abort.abort();
    else closing = restores.close();
  });
  const restoring = async (): Promise<void> => {
    for await (const _ of restores.execute(request, { signal: abort.signal }));
  };
  await expect(restoring()).rejects.toThrow();
  await closing;
  stop();
  const unowned = (): string[] => audit(app.app).filter((line) => line.includes("which no inode has"));
  expect(unowned().length).toBeGreaterThan(0);
  for (let round = 0; round < 2; round++) {
    churn("busy", 512 * KIB);
    await keeper().runOnce();
    expect(unowned().length > 0).toBe(!isCancelled);
    await app.settle();
    await app.app.applier.close();
    app = await apps.app("shop");
  }
  if (isCancelled) return expect(journalBytes()).toBeLessThan(4 * SEGMENT_BYTES);
  await restoresOf(apps).resumeRestores(app.app);
  churn("busy", 512 * KIB);
  await keeper().runOnce();
  expect(audit(app.app)).toEqual([]);
  expect(await content("back")).toEqual(Buffer.concat([bytes, bytes, bytes, bytes]));
});

test("status tells what is live, what is history, and where it begins", async () => {
  app.create(root, "still");
  app.write(root, "still", Buffer.alloc(20 * KIB, 1));
  churn("a", 512 * KIB);
  const before = keeper().status(app.app);
  expect(before.liveBytes).toBe(BigInt(28 * KIB));
  expect(before.liveBytes + before.historyBytes + before.reclaimableBytes).toBe(BigInt(journalBytes()));
  expect(before.oldest?.lsn).toBe(1);
  await keeper().runOnce();
  const after = keeper().status(app.app);
  expect(after.historyBytes).toBeLessThan(before.historyBytes);
  expect(after.oldest?.lsn).toBe(app.app.core.moments.floor);
});

test("on a full disk a writer that finds history gets room, and is refused when there is none", async () => {
  churn("a", 512 * KIB);
  const totalBytes = 2n ** 40n;
  let freeBytes = 0n;
  const running = keeper({
    historyBytesMax: 2n ** 30n,
    diskFreeBytesMin: 1n,
    diskSpace: () => ({ totalBytes, freeBytes }),
    onStep: (step) => {
      if (step === "removed") freeBytes = 100n;
    },
  });
  running.start();
  expect(await running.makeRoom()).toBe(true);
  await running.stop();
  const full = { historyBytesMax: 2n ** 30n, diskFreeBytesMin: 2n ** 35n };
  const stuck = keeper({ ...full, diskSpace: () => ({ totalBytes, freeBytes: 0n }) });
  stuck.start();
  let made = 0;
  while (await stuck.makeRoom()) made++;
  expect(made).toBeLessThan(20);
  expect(await stuck.makeRoom()).toBe(false);
  await stuck.stop();
});

test("nothing is dropped while history is within its bound", async () => {
  churn("a", 512 * KIB);
  const before = app.app.core.lastLsn;
  await keeper({ historyBytesMax: 2n ** 30n }).runOnce();
  expect(app.app.core.lastLsn).toBe(before);
  expect(app.app.core.moments.floor).toBe(0);
});

test("the floor never passes what somebody still wants", async () => {
  churn("a", 1024 * KIB);
  await keeper({ floorMax: () => 40 as Lsn }).runOnce();
  expect(app.app.core.moments.floor).toBeLessThanOrEqual(40);
});
