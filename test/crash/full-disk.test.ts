import path from "node:path";
import { afterEach, describe, test } from "vitest";
import { skipWithout } from "../e2e/requirements.ts";
import { run } from "../e2e/run.ts";
import { CrashService } from "./crash-service.ts";
import { LoopDisk, skipWithoutLoop } from "./loop-disk.ts";
import { Workload, type WorkloadResult } from "./workload.ts";

const skipped = skipWithout("python3", "mkfs.ext4") || skipWithoutLoop();

const DISK_BYTES = 1024 ** 3;
const REWRITTEN_BYTES = 40_000_000;
const VERIFY = path.join(import.meta.dirname, "workloads/verify.py");

describe.skipIf(skipped)("a full disk", { timeout: 240_000 }, () => {
  let service: CrashService;
  let disk: LoopDisk;
  let workload: Workload | undefined;

  afterEach(async ({ task }) => {
    if (task.result?.state === "fail") console.log(service.log.slice(-6000));
    await workload?.killed();
    await service.dispose();
    disk[Symbol.dispose]();
  });

  const begin = async (): Promise<string> => {
    disk = new LoopDisk(DISK_BYTES);
    service = new CrashService({
      dataFolder: path.join(disk.mountPoint, "data"),
      serveArgs: ["--history-bytes-max", "100g"],
    });
    return await service.begin();
  };

  const finished = async (program: string, ...args: string[]): Promise<WorkloadResult> => {
    workload = new Workload(program, args);
    return await workload.result();
  };

  const restart = async (): Promise<void> => {
    await service.stop();
    await service.start();
    await service.mountShare();
  };

  test("refuses with ENOSPC and keeps everything; removing, truncating, killing, stopping and starting go on", async () => {
    const mount = await begin();
    const folder = `${mount}/full`;
    const manifest = path.join(service.folder, "manifest");
    const expectAll = (): Promise<unknown> => run("python3", ["-B", VERIFY, folder, manifest]);
    const { bytes, files } = await finished("fill.py", folder, manifest);
    await expectAll();
    await service.killService();
    await expectAll();
    await restart();
    await expectAll();
    await finished("free.py", folder, manifest);
    await expectAll();
    await service.killService();
    await restart();
    await expectAll();
    console.log(`full-disk: ${String(bytes)} bytes in ${String(files)} files filled ${DISK_BYTES}`);
  });

  test("is not full for long when only history fills it: the oldest goes", async () => {
    const mount = await begin();
    const { refused, longest } = await finished("rewrite.py", `${mount}/file`, String(REWRITTEN_BYTES), "40", "20");
    console.log(
      `full-disk: ${REWRITTEN_BYTES} bytes written 40 times; refused ${String(refused)} times, for at most ${String(longest)} s`,
    );
    await restart();
    await finished("rewrite.py", `${mount}/file`, String(REWRITTEN_BYTES), "3", "20");
  });

  test("takes new data again after files were removed", async () => {
    const mount = await begin();
    const folder = `${mount}/full`;
    const manifest = path.join(service.folder, "manifest");
    await finished("fill.py", folder, manifest);
    await finished("free.py", folder, manifest);
    await finished("rewrite.py", `${mount}/again`, String(REWRITTEN_BYTES), "2", "40");
    await run("python3", ["-B", VERIFY, folder, manifest]);
  });
});
