import path from "node:path";
import { afterEach, describe, test } from "vitest";
import { skipWithout } from "../e2e/requirements.ts";
import { run } from "../e2e/run.ts";
import { CrashService } from "./crash-service.ts";
import { LoopDisk, skipWithoutLoop } from "./loop-disk.ts";
import { Workload, type WorkloadResult } from "./workload.ts";

const skipped = skipWithout("python3", "mkfs.ext4") || skipWithoutLoop();

const DISK_BYTES = 640 * 1024 ** 2;
/** How long a writer waits for space, on a busy machine. */
const PATIENCE_S = "40";
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

  test("refuses with ENOSPC and keeps everything; killing, restarting, removing and truncating go on; then it takes new data", async () => {
    const mount = await begin();
    const folder = `${mount}/full`;
    const manifest = path.join(service.folder, "manifest");
    const expectAll = (): Promise<unknown> => run("python3", ["-B", VERIFY, folder, manifest]);
    const { bytes, files } = await finished("fill.py", folder, manifest);
    await service.killService();
    await expectAll();
    await restart();
    await finished("free.py", folder, manifest);
    await service.killService();
    const { longest } = await finished("rewrite.py", `${mount}/again`, String(REWRITTEN_BYTES), "2", PATIENCE_S);
    await restart();
    await expectAll();
    console.log(
      `full-disk: ${String(bytes)} bytes in ${String(files)} files filled ${DISK_BYTES}; new data had to wait up to ${String(longest)} s`,
    );
  });

  test("is not full for long when only history fills it: the oldest goes", async () => {
    const mount = await begin();
    const { refused, longest } = await finished(
      "rewrite.py",
      `${mount}/file`,
      String(REWRITTEN_BYTES),
      "24",
      PATIENCE_S,
    );
    console.log(
      `full-disk: ${REWRITTEN_BYTES} bytes written 24 times; refused ${String(refused)} times, for at most ${String(longest)} s`,
    );
    await restart();
    await finished("rewrite.py", `${mount}/file`, String(REWRITTEN_BYTES), "3", PATIENCE_S);
  });
});
