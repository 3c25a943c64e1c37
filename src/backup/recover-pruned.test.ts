import fs from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { dumpTree } from "../../test/crash/engine-dump.ts";
import { silentLog } from "../base/log.ts";
import { ManualTimers, SystemTimers } from "../base/timers.ts";
import { MemoryBlobs } from "../blob/testing/memory-blobs.ts";
import { type InodeId, LIVE } from "../domain/ids.ts";
import type { RetentionPolicy } from "../domain/retention.ts";
import { DataFolder } from "../journal/data-folder.ts";
import { RocksKv } from "../kv/rocks-kv.ts";
import { type TestApp, TestApps } from "../meta/reading/test-app.ts";
import { SystemTurns } from "../meta/reading/turns.ts";
import { MetadataService } from "../meta/service.ts";
import { gridRows } from "../meta/space/grid.ts";
import { SpaceKeeper } from "../meta/space/space-keeper.ts";
import type { AppRepository } from "../repository/app-repository.ts";
import { Repository } from "../repository/repository.ts";
import { archivesOf } from "./attach-archives.ts";
import { checkApp } from "./check/check-app.ts";
import type { Finding } from "./check/finding.ts";
import { pruneApp } from "./prune.ts";
import { recover } from "./recover.ts";
import { SimpleShipper } from "./testing/simple-shipper.ts";

const DAY_MS = 86_400_000;
const POLICY: RetentionPolicy = { continuousMs: 2 * DAY_MS, hourly: 0, daily: 6, weekly: 3, monthly: 2, yearly: 0 };

let apps: TestApps;
let original: TestApp;
let root: InodeId;
let parent: string;
let repository: Repository;
let app: AppRepository;
let shipper: SimpleShipper;

beforeEach(async () => {
  apps = await TestApps.open({ segmentBytesMax: 64 * 1024 });
  original = await apps.app("shop");
  root = original.share("files").root;
  parent = fs.mkdtempSync(path.join(tmpdir(), "tidemark-recover-pruned-"));
  const store = new MemoryBlobs({ clock: apps.clock });
  repository = await Repository.init({
    store,
    secret: { kind: "key-file", key: Buffer.alloc(32, 5) },
    clock: apps.clock,
  });
  app = await repository.createApp(original.app.id);
  shipper = new SimpleShipper(app);
});

afterEach(async () => {
  await apps.close();
  fs.rmSync(parent, { recursive: true, force: true });
});

const pass = (ms: number): void => apps.clock.step(ms * 1_000_000);

async function days(count: number): Promise<void> {
  for (let day = 0; day < count; day++) {
    for (let round = 0; round < 2; round++) {
      pass(DAY_MS / 2);
      const file = `f${(day + round) % 4}`;
      original.put(root, file, `${day}:${round} `.repeat(2000));
      if (day % 5 === 4 && round === 1) original.unlink(root, file);
    }
    if (day % 3 === 2) await shipper.ship(original.app, { folder: path.join(apps.folder, "shop"), recordsMax: 10 });
  }
}

let scratches = 0;

async function prune(): Promise<void> {
  const timers = new SystemTimers();
  const scratchFolder = path.join(parent, `scratch${scratches++}`);
  await pruneApp({ app, scratchFolder, policy: POLICY, dryRun: false, clock: apps.clock, timers, log: silentLog });
}

test("what is recovered from a pruned repository equals the original at every moment kept, and a check finds nothing wrong", async () => {
  await days(36);
  for (let round = 0; round < 3; round++) {
    await prune();
    pass(DAY_MS + 1);
  }
  const findings: Finding[] = [];
  const checked = await checkApp({ app, readPart: 1, random: () => 0.5, onFinding: (found) => findings.push(found) });
  expect(findings.filter(({ severity }) => severity === "damage")).toEqual([]);
  expect(checked.lostData.size).toBe(0);

  const into = path.join(parent, "data");
  const timers = new SystemTimers();
  const newId = (): string => "e".repeat(32);
  const shared = { clock: apps.clock, timers, log: silentLog };
  await recover({ repository, reference: { name: "main" }, into, turns: new SystemTurns(), newId, ...shared });
  const folder = await DataFolder.open({ path: into, clock: apps.clock, log: silentLog });
  const kv = await RocksKv.open({ directory: folder.kvFolder, missing: "fail" });
  const archiveOf = archivesOf({
    dataFolder: folder.path,
    kv,
    openRepository: async () => repository,
    timers,
    log: silentLog,
  });
  const service = await MetadataService.open({
    folder: folder.path,
    kv,
    clock: apps.clock,
    log: silentLog,
    newId,
    archiveOf,
  });
  try {
    const [recovered] = service.openApps();
    if (recovered === undefined) throw new Error("no app");
    const compare = async (): Promise<void> => {
      for (const at of [...gridRows(recovered.store).map(({ lsn }) => lsn), recovered.core.moments.floor, LIVE])
        expect(await dumpTree(recovered.engine, root, at), `at ${at}`).toEqual(
          await dumpTree(original.app.engine, root, at),
        );
    };
    expect(gridRows(recovered.store).length).toBeGreaterThan(5);
    expect(recovered.core.moments.floor).toBeGreaterThan(0);
    await compare();
    // The recovered app goes on with a policy of its own.
    const keeper = new SpaceKeeper({
      apps: () => [recovered],
      diskSpace: () => ({ totalBytes: 2n ** 40n, freeBytes: 2n ** 39n }),
      historyBytesMax: 2n ** 40n,
      clock: apps.clock,
      timers: new ManualTimers(),
      turns: new SystemTurns(),
      log: silentLog,
      retention: { policyOf: () => ({ ...POLICY, daily: 3 }), now: () => apps.clock.now() },
    });
    await keeper.runOnce();
    await compare();
  } finally {
    await service.close();
    await kv.close();
    folder.close();
  }
});
