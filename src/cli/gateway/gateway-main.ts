/** The process that serves a mount whose service is elsewhere: started by its supervisor (run-gateway.ts), never by hand. */
import { randomInt } from "node:crypto";
import { SystemClock } from "../../base/clock.ts";
import { SystemTimers } from "../../base/timers.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { SupervisorClient } from "../../gateway/fuse/supervisor-client.ts";
import { EXIT_CODES, EXIT_OF_ERROR } from "../exit-codes.ts";
import { createLog } from "../log.ts";
import { Gateway } from "./gateway.ts";
import { MountFiles } from "./mount-files.ts";
import { readMountState } from "./mount-state.ts";
import { GATEWAY_OPTIONS_VARIABLE, type GatewayProcessOptions } from "./run-gateway.ts";
import { type StartReport, sendReport } from "./start-report.ts";

const options = JSON.parse(process.env[GATEWAY_OPTIONS_VARIABLE] ?? "{}") as GatewayProcessOptions;
const files = new MountFiles(options.dataFolder);
const supervisorPid = process.ppid;

async function main(): Promise<void> {
  const clock = new SystemClock();
  const log = createLog({ level: options.logLevel }).child({ mount: options.id });
  const host = await SupervisorClient.connect({ log });
  const state = readMountState(files, options.id);
  if (state === undefined) throw new TidemarkError("NOT_FOUND", `${files.stateOf(options.id)} is gone`);
  const timers = new SystemTimers();
  const randomFraction = (): number => randomInt(2 ** 32) / 2 ** 32;
  const gateway = await Gateway.start({ files, state, host, supervisorPid, clock, timers, log, randomFraction });
  // Before "serving": from then on a death by an unhandled signal would count as a crash, and be repaired.
  const signalled = new Promise<void>((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => resolve());
  });
  host.serving();
  const { readOnly, source } = gateway.granted;
  log.info("serving", { target: state.mount.target, source, service: state.mount.service, pid: process.pid });
  await tell({ outcome: "mounted", readOnly, source });
  const unmounted = await Promise.race([
    gateway.ended.then(() => true),
    Promise.race([host.stopRequested, signalled]).then(() => false),
  ]);
  host.stopping();
  await gateway.stop({ forget: unmounted });
  log.info("stopped", { unmounted });
}

async function tell(report: StartReport): Promise<void> {
  if (options.tellsStart) await sendReport(files.startSocketOf(options.id), report);
}

/** Says why the mount cannot be served; answers the exit code, which the supervisor passes on when this was the first start. */
async function failed(error: unknown): Promise<number> {
  const log = createLog({ level: "info" });
  if (!(error instanceof TidemarkError)) {
    log.error("the mount cannot be served: a defect", { error });
    const message = error instanceof Error ? error.message : String(error);
    await tell({ outcome: "failed", code: "INTERNAL", message: `a defect in Tidemark: ${message}` });
    return EXIT_CODES.FAILURE.code;
  }
  log.error(error.message, { code: error.code });
  await tell({ outcome: "failed", code: error.code, message: error.message });
  return EXIT_CODES[EXIT_OF_ERROR[error.code]].code;
}

try {
  await main();
  process.exit(0);
} catch (error) {
  process.exit(await failed(error));
}
