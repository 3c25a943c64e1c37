/** The service process: started by the supervisor (serve.ts), never by hand. */
import { readFileSync } from "node:fs";
import { release } from "node:os";
import { SystemClock } from "../base/clock.ts";
import { type ErrorCode, TidemarkError } from "../domain/errors.ts";
import { SupervisorClient } from "../gateway/fuse/supervisor-client.ts";
import { KvError, type KvErrorCode } from "../kv/kv-error.ts";
import { EXIT_CODES, EXIT_OF_ERROR } from "./exit-codes.ts";
import { createLog } from "./log.ts";
import { SERVICE_OPTIONS_VARIABLE, type ServiceProcessOptions } from "./serve.ts";
import { runService } from "./service/run-service.ts";

/** FUSE_NOTIFY_RESEND came with Linux 6.9. */
const [KERNEL_MAJOR = 0, KERNEL_MINOR = 0] = release()
  .split(".")
  .map((part) => Number.parseInt(part, 10));
const KERNEL_RESENDS = KERNEL_MAJOR > 6 || (KERNEL_MAJOR === 6 && KERNEL_MINOR >= 9);

async function main(): Promise<void> {
  const options = JSON.parse(process.env[SERVICE_OPTIONS_VARIABLE] ?? "{}") as ServiceProcessOptions;
  const clock = new SystemClock();
  const log = createLog({ level: options.logLevel });
  const supervisorPid = process.ppid;
  const client = await SupervisorClient.connect({ log });
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
    version: string;
  };
  const running = await runService({
    dataFolder: options.dataFolder,
    historyBytesMax: options.historyBytesMax === undefined ? undefined : BigInt(options.historyBytesMax),
    listen: options.listen,
    version,
    clock,
    log,
    host: client,
    environment: storeEnvironment(),
    supervisor: () => ({
      state: client.supervised ? "running" : "lost",
      pid: supervisorPid,
      restartCount: client.restartCount,
      kernelResends: KERNEL_RESENDS,
    }),
  });
  // Before "serving": from then on a death by an unhandled signal would count as a crash, and be repaired.
  const signalled = new Promise<void>((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => resolve());
  });
  client.serving();
  log.info("serving", { dataFolder: options.dataFolder, pid: process.pid });
  await Promise.race([client.stopRequested, signalled]);
  client.stopping();
  await running.stop();
  log.info("stopped");
}

/** What a store's credentials are looked for in. The rest of the environment is nobody's business. */
function storeEnvironment(): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => name === "HOME" || name.startsWith("AWS_")));
}

/** As which failure of the whole service one of its key-value store counts. */
const ERROR_OF_KV: Readonly<Record<KvErrorCode, ErrorCode>> = {
  KV_CLOSED: "INTERNAL",
  KV_LOCKED: "DATA_FOLDER_LOCKED",
  KV_MISSING: "DATA_FOLDER_FOREIGN",
  KV_FOREIGN: "DATA_FOLDER_FOREIGN",
  KV_CORRUPT: "DATA_DAMAGED",
  KV_NO_SPACE: "NO_SPACE",
  KV_IO: "INTERNAL",
};

/** Says why the service cannot run; answers the exit code, which the supervisor passes on when this was the first start. */
function report(error: unknown): number {
  const log = createLog({ level: "info" });
  if (!(error instanceof TidemarkError || error instanceof KvError)) {
    log.error("the service cannot start: a defect", { error });
    return EXIT_CODES.FAILURE.code;
  }
  log.error(error.message, { code: error.code });
  const code = error instanceof KvError ? ERROR_OF_KV[error.code] : error.code;
  return EXIT_CODES[EXIT_OF_ERROR[code]].code;
}

try {
  await main();
  process.exit(0);
} catch (error) {
  process.exit(report(error));
}
