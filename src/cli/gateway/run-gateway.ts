import { fileURLToPath } from "node:url";
import { SystemClock } from "../../base/clock.ts";
import { SystemTimers } from "../../base/timers.ts";
import { fuseDeviceIo } from "../../gateway/fuse/device.ts";
import { Supervisor } from "../../gateway/fuse/supervisor.ts";
import type { ServeOptions } from "../environment.ts";
import { createLog } from "../log.ts";
import type { GatewayId } from "./mount-files.ts";

/** How the processes of a gateway get their options: as JSON in this variable. There is no token in them: only where one is kept, and that in the mount's state file. */
export const GATEWAY_OPTIONS_VARIABLE = "TIDEMARK_GATEWAY_OPTIONS";

/** What they are told. */
export type GatewayProcessOptions = {
  readonly dataFolder: string;
  /** The mount: its state file says the rest. */
  readonly id: GatewayId;
  readonly logLevel: ServeOptions["logLevel"];
  /** Somebody waits to hear how the start went. */
  readonly tellsStart: boolean;
};

/** A gateway keeps little in memory; Node's defaults would take four times as much for garbage. See serve.ts. */
const HEAP_OPTIONS = ["--max-semi-space-size=8"];
const ARENAS = { MALLOC_ARENA_MAX: "2" };
const COMPILE_CACHE = {
  NODE_COMPILE_CACHE: fileURLToPath(new URL("../../../node_modules/.cache/tidemark", import.meta.url)),
};

/** Signals closer together than this are one. */
const SIGNAL_REPEAT_MS = 1_000;

/**
 * Keeps one mount until it is unmounted or this process is told to end (SIGINT, SIGTERM): it becomes the supervisor, which has the kernel's descriptor, and its child serves. Answers the exit code.
 *
 * One supervisor and one child for each mount, not for all of a machine: a token, a session and a crash then concern one mount only, and what ends it (umount) ends everything that belongs to it.
 * It costs two processes a mount, some 100 MB.
 */
export async function runGateway(
  options: GatewayProcessOptions,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<number> {
  const clock = new SystemClock();
  const supervisor = new Supervisor({
    command: process.execPath,
    args: [...HEAP_OPTIONS, fileURLToPath(new URL("./gateway-main.ts", import.meta.url))],
    environment: { ...ARENAS, ...COMPILE_CACHE, ...environment, [GATEWAY_OPTIONS_VARIABLE]: JSON.stringify(options) },
    io: fuseDeviceIo(),
    clock,
    timers: new SystemTimers(),
    log: createLog({ level: options.logLevel }).child({ mount: options.id }),
    // A dead mount on its own directory is found when it mounts there. The others are others' business; to look at one whose service is away would take long.
    recovers: () => false,
  });
  let stoppedMs = Number.NEGATIVE_INFINITY;
  const stop = (): void => {
    const nowMs = clock.monotonicMs();
    if (nowMs - stoppedMs < SIGNAL_REPEAT_MS) return;
    stoppedMs = nowMs;
    supervisor.stop();
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.removeAllListeners(signal);
    process.on(signal, stop);
  }
  return await supervisor.run();
}
