import fs from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { dumpTree } from "../../test/crash/engine-dump.ts";
import { SystemClock } from "../base/clock.ts";
import { type MemoryLog, memoryLog, silentLog } from "../base/log.ts";
import { ManualTimers, SystemTimers, type Timers } from "../base/timers.ts";
import { MemoryBlobs } from "../blob/testing/memory-blobs.ts";
import { type InodeId, LIVE, type Lsn } from "../domain/ids.ts";
import { DataFolder } from "../journal/data-folder.ts";
import { RocksKv } from "../kv/rocks-kv.ts";
import { plainKey, TABLE } from "../meta/keys.ts";
import type { OpenApp } from "../meta/open-app.ts";
import { type TestApp, TestApps } from "../meta/reading/test-app.ts";
import { SystemTurns } from "../meta/reading/turns.ts";
import { MetadataService } from "../meta/service.ts";
import { Repository } from "../repository/repository.ts";
import { readArchiveFile } from "./archive-file.ts";
import { archivesOf } from "./attach-archives.ts";
import { Hydrations } from "./hydrations.ts";
import { type RecoverOptions, type RecoverReport, recover } from "./recover.ts";
import { DESCRIPTION, SimpleShipper } from "./testing/simple-shipper.ts";

const KEY = Buffer.alloc(32, 9);
const APP = { namespace: "default", name: "shop" };

let apps: TestApps;
let original: TestApp;
let root: InodeId;
let parent: string;
let store: MemoryBlobs;
let repository: Repository;
let shipper: SimpleShipper;
let moments: Lsn[];
const clock = new SystemClock();
const timers = new SystemTimers();

beforeEach(async () => {
  apps = await TestApps.open({ segmentBytesMax: 64 * 1024 });
  original = await apps.app("shop");
  root = original.share("files").root;
  parent = fs.mkdtempSync(path.join(tmpdir(), "tidemark-recover-"));
  store = new MemoryBlobs();
  repository = await Repository.init({ store, secret: { kind: "key-file", key: KEY }, clock });
  shipper = new SimpleShipper(await repository.createApp(original.app.id));
  moments = [];
});

afterEach(async () => {
  await apps.close();
  fs.rmSync(parent, { recursive: true, force: true });
});

function ship(recordsMax?: number): Promise<void> {
  const folder = path.join(apps.folder, "shop");
  return shipper.ship(original.app, { folder, ...(recordsMax === undefined ? {} : { recordsMax }) });
}

/** Three moments with seals and a checkpoint between them. */
async function shipHistory(): Promise<void> {
  for (let round = 0; round < 3; round++) {
    original.mkdir(root, `d${round}`);
    for (let file = 0; file < 5; file++) original.put(root, `d${round}/f${file}`, `${round}/${file} `.repeat(5000));
    original.write(root, "d0/f0", `patched in ${round}`, BigInt(40_000 + round));
    original.setattr(root, "d0/f1", { size: BigInt(9000 - round) });
    if (round === 1) original.unlink(root, "d0/f2");
    if (round === 1) original.rename(root, "d0/f3", "d1/moved");
    moments.push(original.app.core.lastLsn);
    await ship(10);
    if (round === 1) await shipper.checkpoint();
  }
}

const into = (): string => path.join(parent, "data");

function run(options: Partial<RecoverOptions> = {}): Promise<RecoverReport> {
  let next = 0;
  const newId = (): string => (++next).toString(16).padStart(32, "e");
  const reference = { name: "main" };
  const parts = { repository, reference, into: into(), clock, timers, turns: new SystemTurns(), log: silentLog, newId };
  return recover({ ...parts, ...options });
}

/** The folder as a service opens it. */
async function withService<T>(
  use: (app: OpenApp, service: MetadataService) => Promise<T>,
  options: {
    readonly log?: MemoryLog;
    readonly openRepository?: () => Promise<Repository>;
    readonly timers?: Timers;
  } = {},
): Promise<T> {
  const log = options.log ?? silentLog;
  const folder = await DataFolder.open({ path: into(), clock, log });
  const kv = await RocksKv.open({ directory: folder.kvFolder, missing: "fail" });
  const openRepository = options.openRepository ?? (async () => repository);
  const archiveOf = archivesOf({ dataFolder: folder.path, kv, openRepository, timers: options.timers ?? timers, log });
  const newId = (): string => "d".repeat(32);
  const service = await MetadataService.open({ folder: folder.path, kv, clock, log, newId, archiveOf });
  try {
    const app = service.openApps()[0];
    if (app === undefined) throw new Error("no app");
    return await use(app, service);
  } finally {
    await service.close();
    await kv.close();
    folder.close();
  }
}

async function expectSame(app: OpenApp): Promise<void> {
  for (const at of [...moments, LIVE])
    expect(await dumpTree(app.engine, root, at), `at ${at}`).toEqual(await dumpTree(original.app.engine, root, at));
}

const unreachable = async (): Promise<Repository> => {
  throw Object.assign(new Error("no route to the store"), { code: "BLOB_UNREACHABLE", retryable: true });
};

test("an app comes back into an empty folder with all its history, and needs the repository for nothing but old records then", async () => {
  await shipHistory();
  const report = await run();
  expect(report.failed).toEqual([]);
  expect(report.apps).toMatchObject([{ ...APP, lsn: shipper.lsn, damagedBytes: 0 }]);
  await withService(
    async (app, service) => {
      expect(app.id).toBe(original.app.id);
      expect(service.catalogue.apps()).toMatchObject([
        { ...APP, labels: DESCRIPTION.labels, createdAt: DESCRIPTION.created },
      ]);
      await expectSame(app);
    },
    { openRepository: unreachable },
  );
});

test("lazily, data are read from the repository, and brought in by the service", async () => {
  await shipHistory();
  await run({ lazy: true });
  await withService(async (app) => {
    expect(app.core.lastLsn).toBe(shipper.lsn);
    await expectSame(app);
    const hydrations = new Hydrations({
      dataFolder: into(),
      apps: () => [app],
      clock,
      timers,
      turns: new SystemTurns(),
      log: silentLog,
    });
    hydrations.start();
    await expect.poll(() => hydrations.status(app.id)?.isHydrated).toBe(true);
    await hydrations.stop();
  });
  expect((await readArchiveFile(into(), original.app.id))?.isHydrated).toBe(true);
  await withService((app) => expectSame(app), { openRepository: unreachable });
});

test("bringing data in waits for a store that can't be reached, says so, and goes on by itself", async () => {
  await shipHistory();
  await run({ lazy: true });
  const manual = new ManualTimers();
  let isReachable = false;
  const openRepository = () => (isReachable ? Promise.resolve(repository) : unreachable());
  await withService(
    async (app) => {
      const parts = { clock, timers: manual, turns: new SystemTurns(), log: silentLog };
      const hydrations = new Hydrations({ dataFolder: into(), apps: () => [app], ...parts });
      hydrations.start();
      await expect.poll(() => hydrations.status(app.id)?.waitsFor).toContain("no route");
      isReachable = true;
      await expect
        .poll(() => {
          manual.advance(10_000);
          return hydrations.status(app.id);
        })
        .toMatchObject({ isHydrated: true });
      expect(hydrations.status(app.id)?.waitsFor).toBeUndefined();
      await hydrations.stop();
      await expectSame(app);
    },
    { openRepository, timers: manual },
  );
});

test("it goes on being used: what is new and what is old are both there after a restart", async () => {
  await shipHistory();
  await run({ lazy: true });
  await withService(async (app) => {
    const name = Buffer.from("new");
    await app.engine.execute({ op: "mkdir", parent: root, name, mode: 0o755, umask: 0 }, original.context);
    expect(app.core.lastLsn).toBe(shipper.lsn + 1);
  });
  await withService(async (app) => {
    expect(app.core.dentry(root, Buffer.from("new"))).toBeDefined();
    const at = moments[1] ?? LIVE;
    expect(await dumpTree(app.engine, root, at)).toEqual(await dumpTree(original.app.engine, root, at));
  });
});

test("flipped bytes in a pack are EIO and an alarm, never other data", async () => {
  await shipHistory();
  await run({ lazy: true });
  const packs = (await names()).filter((name) => name.includes("/packs/"));
  for (const name of packs) await damage(name);
  const log = memoryLog();
  await withService(
    async (app) => {
      const ino = original.at(root, "d2/f1").ino;
      const read = { op: "read", ino, offset: 0n, length: 100, at: LIVE } as const;
      await expect(async () => app.engine.execute(read, original.context)).rejects.toMatchObject({ code: "EIO" });
    },
    { log },
  );
  expect(log.lines.some(({ level }) => level === "alarm")).toBe(true);
});

test("what of an app is damaged in packs is told by an eager recovery, and the rest is there", async () => {
  await shipHistory();
  const packs = (await names()).filter((name) => name.includes("/packs/"));
  await damage(packs[0] ?? "");
  const report = await run();
  expect(report.apps[0]?.damagedBytes).toBeGreaterThan(0);
  await withService(async (app) => {
    const names = (await dumpTree(original.app.engine, root, LIVE)).map((line) => line.split(" ")[0]);
    const wrong = await Promise.allSettled(names.map((name) => content(app, name ?? "")));
    expect(wrong.filter(({ status }) => status === "rejected").length).toBeLessThan(names.length);
    for (const [index, name] of names.entries()) {
      const found = wrong[index];
      if (found?.status === "fulfilled") expect(found.value).toEqual(await content(original.app, name ?? ""));
    }
  });
});

test("where the newest seals can't be read the app comes back as it was before them, and that is said", async () => {
  await shipHistory();
  const seals = (await names()).filter((name) => name.includes("/seals/"));
  await damage(seals.at(-2) ?? "");
  const report = await run();
  const lsn = report.apps[0]?.lsn ?? (0 as Lsn);
  expect(report.apps[0]?.cutShort).toContain("/seals/");
  expect(lsn).toBeGreaterThanOrEqual(moments[1] ?? 0);
  expect(lsn).toBeLessThan(shipper.lsn);
  await withService(async (app) => {
    expect(app.core.lastLsn).toBeGreaterThanOrEqual(lsn);
    for (const at of [...moments.slice(0, 2), lsn])
      expect(await dumpTree(app.engine, root, at)).toEqual(await dumpTree(original.app.engine, root, at));
  });
});

test("an app of which nothing can be read is left out and reported, and the others come back", async () => {
  await shipHistory();
  const second = await apps.app("blog");
  second.share("posts");
  const secondShipper = new SimpleShipper(await repository.createApp(second.app.id));
  secondShipper.description = { ...DESCRIPTION, name: "blog" };
  await secondShipper.ship(second.app, { folder: path.join(apps.folder, "blog") });
  for (const name of await names()) {
    const isFirst = name.startsWith(`apps/${(await repository.openApp(original.app.id)).tag}/seals/`);
    if (isFirst && name.endsWith("0000000001")) await damage(name);
    if (name.includes("/checkpoints/")) await store.delete([name]);
  }
  const report = await run();
  expect(report.apps.map(({ name }) => name)).toEqual(["blog"]);
  expect(report.failed).toMatchObject([{ app: { name: "shop" }, error: { code: "REPOSITORY_DAMAGED" } }]);
  (await DataFolder.open({ path: into(), clock, log: silentLog })).close();
});

test("a folder with anything in it is refused", async () => {
  await shipHistory();
  fs.mkdirSync(into());
  fs.writeFileSync(path.join(into(), "mine"), "");
  await expect(run()).rejects.toMatchObject({ code: "FAILED_PRECONDITION", message: expect.stringContaining("mine") });
});

test("a recovery that was cut off goes on, and until then no service opens the folder", async () => {
  await shipHistory();
  for (const kind of ["rows", "data"]) {
    const abort = new AbortController();
    const onProgress: RecoverOptions["onProgress"] = (progress) => {
      if (progress.kind === kind) abort.abort();
    };
    await run({ signal: abort.signal, onProgress }).catch(() => {});
  }
  await expect(DataFolder.open({ path: into(), clock, log: silentLog })).rejects.toMatchObject({
    code: "FAILED_PRECONDITION",
  });
  await run();
  await withService((app) => expectSame(app), { openRepository: unreachable });
});

test("a recovery of something else does not go on in a folder that is unfinished", async () => {
  await shipHistory();
  const abort = new AbortController();
  abort.abort();
  await run({ signal: abort.signal }).catch(() => {});
  const other = await Repository.init({
    store: new MemoryBlobs(),
    secret: { kind: "key-file", key: KEY },
    clock,
  });
  await expect(run({ repository: other })).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
});

test("under a new name an app is another one, with the same contents", async () => {
  await shipHistory();
  const report = await run({ apps: [APP], as: "shop2" });
  expect(report.apps).toMatchObject([{ name: "shop2", sourceApp: original.app.id }]);
  await withService(async (app) => {
    expect(app.id).not.toBe(original.app.id);
    await expectSame(app);
  });
});

test("no such app is said with those there are", async () => {
  await shipHistory();
  await expect(run({ apps: [{ ...APP, name: "shpo" }] })).rejects.toMatchObject({
    code: "NOT_FOUND",
    message: expect.stringContaining("shop@"),
  });
});

test("locks are held by mounts that are gone: a recovered app has none, and can be locked", async () => {
  await shipHistory();
  const { ino } = original.at(root, "d0/f0");
  const lock = { start: 0n, end: 9n, type: "write", pid: 1 } as const;
  const request = { op: "setlk", ino, owner: 7n, flock: false, lock, wait: false } as const;
  original.run(request);
  original.put(root, "d0/last", "behind the lock");
  await ship();
  expect(original.app.core.locks.count).toBe(1);
  await run();
  await withService(async (app) => {
    expect(app.core.locks.count).toBe(0);
    expect(app.store.range({ gte: plainKey(TABLE.LOCK), lt: plainKey(TABLE.LOCK + 1), limit: 1 })).toEqual([]);
    expect(await content(app, "d0/last")).toBe("behind the lock");
    app.engine.execute({ ...request, owner: 8n }, original.context);
    expect(app.core.locks.count).toBe(1);
  });
});

async function names(): Promise<string[]> {
  const found: string[] = [];
  for await (const page of store.list("")) found.push(...page.map(({ name }) => name));
  return found;
}

/** Flips a byte of a pack's first block. */
async function damage(name: string): Promise<void> {
  const bytes = Buffer.from(await store.get(name));
  bytes[45] = (bytes[45] ?? 0) ^ 1;
  await store.delete([name]);
  await store.put(name, [bytes]);
}

async function content(app: OpenApp, name: string): Promise<string> {
  let inode = app.core.inode(root);
  for (const part of name.split("/").filter((text) => text !== "")) {
    const dentry = app.core.dentry(inode.ino, Buffer.from(part, "latin1"));
    if (dentry === undefined) throw new Error(`no ${name}`);
    inode = app.core.inode(dentry.ino);
  }
  const request = { op: "read", ino: inode.ino, offset: 0n, length: 1_000_000, at: LIVE } as const;
  return Buffer.concat(await app.engine.execute(request, original.context)).toString();
}
