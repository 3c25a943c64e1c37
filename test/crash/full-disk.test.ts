import path from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { skipWithout } from "../e2e/requirements.ts";
import { run } from "../e2e/run.ts";
import { CrashService } from "./crash-service.ts";
import { LoopDisk, skipWithoutLoop } from "./loop-disk.ts";
import { Workload } from "./workload.ts";

const skipped = skipWithout("python3", "mkfs.ext4") || skipWithoutLoop();

const DISK_BYTES = 320 * 1024 ** 2;
const VERIFY = path.join(import.meta.dirname, "workloads/verify.py");

type StatusJson = { readonly service: { readonly alarms: readonly { readonly message: string }[] } };

describe.skipIf(skipped)("a full disk", { timeout: 240_000 }, () => {
  let service: CrashService;
  let disk: LoopDisk;
  let workload: Workload | undefined;

  afterEach(async ({ task }) => {
    if (task.result?.state === "fail") console.log(service.log.slice(-5000));
    await workload?.killed();
    await service.dispose();
    disk[Symbol.dispose]();
  });

  test("refuses with ENOSPC, keeps everything, starts again, and takes data again after files were removed", async () => {
    disk = new LoopDisk(DISK_BYTES);
    service = new CrashService({ dataFolder: path.join(disk.mountPoint, "data") });
    const mount = await service.begin();
    const folder = `${mount}/full`;
    const manifest = path.join(service.folder, "manifest");
    const expectAll = (): Promise<unknown> => run("python3", ["-B", VERIFY, folder, manifest]);

    workload = new Workload("fill.py", [folder, manifest]);
    const filled = await workload.result();
    await expectAll();

    await service.killService();
    await expectAll();
    await service.stop();
    await service.start();
    await service.mountShare();
    await expectAll();

    workload = new Workload("free.py", [folder, manifest]);
    const freed = await workload.result();
    await expectAll();
    await service.stop();
    await service.start();
    await service.mountShare();
    await expectAll();
    const { alarms } = (await service.json<StatusJson>("status")).service;
    expect(alarms).toEqual([]);
    console.log(`full-disk: ${String(filled["bytes"])} bytes in ${String(filled["files"])} files filled it; space came back after ${String(freed["seconds"])} s`);
  });
});
