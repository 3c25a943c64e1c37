import fs from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { dumpTree } from "../../test/crash/engine-dump.ts";
import { SystemClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { ManualTimers, SystemTimers } from "../base/timers.ts";
import { MemoryBlobs } from "../blob/testing/memory-blobs.ts";
import { type AppId, type InodeId, LIVE, type Lsn } from "../domain/ids.ts";
import { makeFreshJournal } from "../journal/fresh-journal.ts";
import { MemoryKv } from "../kv/memory-kv.ts";
import { OpenApp } from "../meta/open-app.ts";
import { addSnapshot } from "../meta/reading/snapshot-rows.ts";
import { type TestApp, TestApps } from "../meta/reading/test-app.ts";
import { SystemTurns } from "../meta/reading/turns.ts";
import { slotPrefix } from "../meta/row-store.ts";
import { SegmentChain } from "../meta/segment-chain.ts";
import { SpaceKeeper } from "../meta/space/space-keeper.ts";
import { AppKeys, newAppKeyMaterial } from "../repository/app-keys.ts";
import { AppRepository } from "../repository/app-repository.ts";
import { ArchiveIndex } from "./archive-index.ts";
import { Hydrator } from "./hydrate.ts";
import { materialise } from "./materialise.ts";
import { RepositoryApp } from "./repository-app.ts";
import { RepositoryArchive } from "./repository-archive.ts";
import { ShipEngine } from "./ship-engine.ts";
import { DESCRIPTION } from "./testing/simple-shipper.ts";

// An app that was there before its backup began, and had lost its oldest history by then.

let apps: TestApps;
let original: TestApp;
let root: InodeId;
let parent: string;
let app: AppRepository;
const clock = new SystemClock();

beforeEach(async () => {
  apps = await TestApps.open({ segmentBytesMax: 64 * 1024 });
  original = await apps.app("shop");
  root = original.share("files").root;
  parent = fs.mkdtempSync(path.join(tmpdir(), "tidemark-base-"));
  const keys = new AppKeys(newAppKeyMaterial({ appId: original.app.id }));
  app = new AppRepository({ store: new MemoryBlobs(), keys, lockDays: undefined, clock });
});

afterEach(async () => {
  await apps.close();
  fs.rmSync(parent, { recursive: true, force: true });
});

async function dropHistory(): Promise<void> {
  // As the apply worker of a service does before segments can go.
  const { id, slot, core } = original.app;
  const folder = path.join(apps.folder, "shop");
  const chain = new SegmentChain({ folder, appId: id, kv: apps.kv, prefix: slotPrefix(slot) });
  await apps.kv.batch(chain.rows(core.lastLsn));
  chain.close();
  const keeper = new SpaceKeeper({
    apps: () => [original.app],
    diskSpace: () => ({ totalBytes: 2n ** 40n, freeBytes: 2n ** 39n }),
    clock,
    timers: new ManualTimers(),
    turns: new SystemTurns(),
    log: silentLog,
    historyBytesMax: 150_000n,
  });
  await keeper.runOnce();
  await keeper.stop();
}

async function ship(): Promise<void> {
  await original.settle();
  const { id, slot, core } = original.app;
  const engine = new ShipEngine({
    repository: app,
    journal: { appId: id, folder: path.join(apps.folder, "shop"), kv: apps.kv, slot },
    index: new MemoryKv(),
    writer: { host: "test", service: "test" },
    clock,
    log: silentLog,
  });
  const target = { to: core.lastLsn, app: DESCRIPTION };
  await engine.start(target);
  await engine.ship(target, () => {});
  await engine.checkpoint({ force: true, app: DESCRIPTION });
  await engine.close();
}

async function change(round: number): Promise<Lsn> {
  for (let file = 0; file < 4; file++) original.put(root, `f${file}`, `${round}:${file} `.repeat(2000));
  original.write(root, "f1", `patch ${round}`, 7n);
  await original.settle();
  return original.app.core.lastLsn;
}

function options() {
  return { app, cacheFolder: path.join(parent, "cache"), clock, timers: new SystemTimers(), log: silentLog };
}

test("what was kept of the past when backup began comes back, and what was not is told so", async () => {
  const early = await change(0);
  await change(1);
  const snapshot = addSnapshot(original.app.core, { name: "first", automatic: false }, original.context).lsn;
  for (let round = 2; round < 14; round++) await change(round);
  await dropHistory();
  const { floor } = original.app.core.moments;
  expect(floor).toBeGreaterThan(snapshot);
  await ship();
  const late = await change(20);
  await ship();
  const opened = await RepositoryApp.open(options());
  try {
    const { core, engine } = opened.app;
    expect(core.moments.floor).toBe(floor);
    for (const at of [snapshot, floor, late, LIVE])
      expect(await dumpTree(engine, root, at), `at ${at}`).toEqual(await dumpTree(original.app.engine, root, at));
    expect(core.moments.isReadable(early)).toBe(false);
  } finally {
    await opened.close();
  }
});

test("moments that the repository keeps below its floor can be read, others there can't", async () => {
  const kept = await change(0);
  const dropped = await change(1);
  const floor = await change(2);
  await ship();
  // What pruning leaves, but for what it deletes: a checkpoint that says what can be read.
  const latest = await app.latestCheckpoint();
  if (latest === null) throw new Error("no checkpoint");
  const time = original.app.core.lastTime ?? { sec: 0, nsec: 0 };
  await app.store.delete([latest.name]);
  await app.publishCheckpoint({ ...latest.checkpoint, floor: { lsn: floor, time }, kept: [kept] });
  const opened = await RepositoryApp.open(options());
  try {
    const { core, engine } = opened.app;
    expect(core.moments.isReadable(dropped)).toBe(false);
    for (const at of [kept, floor, LIVE])
      expect(await dumpTree(engine, root, at), `at ${at}`).toEqual(await dumpTree(original.app.engine, root, at));
  } finally {
    await opened.close();
  }
});

test("an app that was recovered as another one is backed up from there on, when its data are here", async () => {
  const moment = await change(0);
  await change(1);
  await ship();
  const folder = path.join(parent, "copy", "journal");
  const kv = new MemoryKv();
  const id = `${original.app.id.slice(0, 8)}${"5".repeat(24)}` as AppId;
  const laid = await materialise({ app, kv, slot: 4, log: silentLog });
  await makeFreshJournal({ folder, appId: id, lastLsn: laid.lsn, clock });
  const timers = new SystemTimers();
  const archive = new RepositoryArchive({
    firstLsn: laid.firstLsn,
    lastLsn: laid.lsn,
    lastTime: laid.time,
    description: "memory",
    index: new ArchiveIndex(kv, 4),
    connect: async () => app,
    log: silentLog,
    timers,
  });
  const diskSpace = () => ({ totalBytes: 2n ** 40n, freeBytes: 2n ** 39n });
  const copy = await OpenApp.open({ appId: id, slot: 4, folder, kv, clock, log: silentLog, archive, diskSpace });
  const keys = new AppKeys(newAppKeyMaterial({ appId: id }));
  const second = new AppRepository({ store: new MemoryBlobs(), keys, lockDays: undefined, clock });
  const begin = async (): Promise<void> => {
    await copy.journal.sync(copy.core.lastLsn);
    await copy.applier.reached(copy.core.lastLsn);
    const journal = { appId: id, folder, kv, slot: 4 };
    const writer = { host: "test", service: "test" };
    const engine = new ShipEngine({
      repository: second,
      journal,
      index: new MemoryKv(),
      writer,
      clock,
      log: silentLog,
    });
    const target = { to: copy.core.lastLsn, app: { ...DESCRIPTION, name: "copy" } };
    try {
      await engine.start(target);
      await engine.ship(target, () => {});
    } finally {
      await engine.close();
    }
  };
  try {
    await copy.engine.execute(
      { op: "mkdir", parent: root, name: Buffer.from("new"), mode: 0o755, umask: 0 },
      original.context,
    );
    await expect(begin()).rejects.toMatchObject({
      code: "STORE",
      message: expect.stringContaining("being brought in"),
    });
    const parts = { clock, timers, turns: new SystemTurns(), log: silentLog };
    await new Hydrator({ app: copy, source: archive, ...parts }).run();
    await archive.hydrated();
    await begin();
    const opened = await RepositoryApp.open({ ...options(), app: second });
    for (const at of [moment, LIVE])
      expect(await dumpTree(opened.app.engine, root, at)).toEqual(await dumpTree(copy.engine, root, at));
    await opened.close();
  } finally {
    await copy.close();
  }
});
