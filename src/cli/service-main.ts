/** The service process: started by the supervisor (serve.ts), never by hand. */
import { readFileSync } from "node:fs";
import { SystemClock } from "../base/clock.ts";
import { TidemarkError } from "../domain/errors.ts";
import { SupervisorClient } from "../gateway/fuse/supervisor-client.ts";
import { KvError } from "../kv/kv-error.ts";
import { createLog } from "./log.ts";
import { SERVICE_OPTIONS_VARIABLE, type ServiceProcessOptions } from "./serve.ts";
import { runService } from "./service/run-service.ts";

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
    version,
    clock,
    log,
    host: client,
    supervisor: () => ({
      state: client.supervised ? "running" : "lost",
      pid: supervisorPid,
      restartCount: client.restartCount,
      kernelResends: true,
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

try {
  await main();
  process.exit(0);
} catch (error) {
  const expected = error instanceof TidemarkError || error instanceof KvError;
  createLog({ level: "info" }).error(
    expected ? error.message : "the service cannot start: a defect",
    expected ? { code: error.code } : { error },
  );
  process.exit(1);
}
