import { spawn } from "node:child_process";
import fs from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { expect, test } from "vitest";
import { archivesOf } from "../../src/backup/attach-archives.ts";
import { SimpleShipper } from "../../src/backup/testing/simple-shipper.ts";
import { present } from "../../src/base/assert.ts";
import { SystemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { SystemTimers } from "../../src/base/timers.ts";
import { DirectoryBlobs } from "../../src/blob/directory-blobs.ts";
import { type InodeId, LIVE, type Lsn } from "../../src/domain/ids.ts";
import { DataFolder } from "../../src/journal/data-folder.ts";
import { RocksKv } from "../../src/kv/rocks-kv.ts";
import { type TestApp, TestApps } from "../../src/meta/reading/test-app.ts";
import { MetadataService } from "../../src/meta/service.ts";
import { Repository } from "../../src/repository/repository.ts";
import { dumpTree } from "../crash/engine-dump.ts";
import { Random } from "../model/random.ts";

// SEED=n: other moments to kill at. KILLS=n: more of them.
const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 32));
const KILLS = Number(process.env["KILLS"] ?? 4);

/** Runs the recovery and kills it at its n-th sign of life; answers its last line. */
async function recoverUntil(args: readonly string[], lines: number): Promise<string> {
  const child = spawn(process.execPath, [path.join(import.meta.dirname, "recover-child.ts"), ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let last = "";
  let count = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    last = line;
    if (++count === lines) child.kill("SIGKILL");
  }
  return last;
}

async function makeOriginal(app: TestApp, random: Random): Promise<InodeId> {
  const { root } = app.share("files");
  for (let index = 0; index < 400; index++) {
    app.put(root, `f${random.below(150)}`, String.fromCharCode(97 + (index % 26)).repeat(1 + random.below(40_000)));
    if (index % 50 === 0) await app.settle();
  }
  return root;
}

test(
  "a recovery that is killed at any point goes on, and ends with the app as it was",
  async () => {
    console.log(`SEED=${SEED} KILLS=${KILLS}`);
    const random = new Random(SEED);
    const parent = fs.mkdtempSync(path.join(tmpdir(), "tidemark-kill-"));
    const apps = await TestApps.open();
    try {
      const original = await apps.app("shop");
      const root = await makeOriginal(original, random);
      const key = Buffer.alloc(32, 3);
      const from = path.join(parent, "repository");
      const store = await DirectoryBlobs.open(from, { create: true });
      const clock = new SystemClock();
      const repository = await Repository.init({ store, secret: { kind: "key-file", key }, clock });
      const shipper = new SimpleShipper(await repository.createApp(original.app.id));
      await shipper.ship(original.app, { folder: path.join(apps.folder, "shop"), recordsMax: 30 });
      const into = path.join(parent, "data");
      const args = [from, key.toString("hex"), into];
      const isFinished = (): boolean => fs.existsSync(into) && !fs.existsSync(path.join(into, "recovery.json"));
      let kills = 0;
      // Before the first sign of life there is nothing, and the last is said when it has finished.
      for (; kills < KILLS && !(kills > 0 && isFinished()); kills++) await recoverUntil(args, 1 + random.below(8));
      if (!isFinished()) expect(await recoverUntil(args, Number.POSITIVE_INFINITY)).toBe("finished 1 0");
      console.log(`${kills} kills`);
      const folder = await DataFolder.open({ path: into, clock, log: silentLog });
      const kv = await RocksKv.open({ directory: folder.kvFolder, missing: "fail" });
      const openRepository = (): Promise<Repository> => Promise.reject(new Error("not needed any more"));
      const archiveOf = archivesOf({
        dataFolder: into,
        kv,
        openRepository,
        timers: new SystemTimers(),
        log: silentLog,
      });
      const service = await MetadataService.open({
        folder: into,
        kv,
        clock,
        log: silentLog,
        newId: () => "",
        archiveOf,
      });
      const app = present(service.openApps()[0], "the app");
      for (const at of [Math.floor(shipper.lsn / 2) as Lsn, LIVE])
        expect(await dumpTree(app.engine, root, at)).toEqual(await dumpTree(original.app.engine, root, at));
      await service.close();
      await kv.close();
      folder.close();
    } finally {
      await apps.close();
      fs.rmSync(parent, { recursive: true, force: true });
    }
  },
  60_000 + KILLS * 5_000,
);
