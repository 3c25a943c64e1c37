import { fileURLToPath } from "node:url";
import { SystemClock } from "../base/clock.ts";
import { SystemTimers } from "../base/timers.ts";
import { fuseDeviceIo } from "../gateway/fuse/device.ts";
import { Supervisor } from "../gateway/fuse/supervisor.ts";
import type { ServeOptions } from "./environment.ts";
import { REMOTE_SOURCE } from "./gateway/remote-source.ts";
import { createLog } from "./log.ts";

/** How the service process gets its options: as JSON in this variable. */
export const SERVICE_OPTIONS_VARIABLE = "TIDEMARK_SERVICE_OPTIONS";

/** Options for the service's Node.js, split at spaces (profiling: `--cpu-prof`). */
const NODE_OPTIONS_VARIABLE = "TIDEMARK_NODE_OPTIONS";

/**
 * The service's memory. Node's default lets the young generation grow to 128 MiB, and glibc's gives each thread an arena that keeps what was freed; together they
 * kept 480 MiB instead of 280 after a storm of changes, and no row of the bench was seen to gain by it. What the user sets comes later, or is there already, and wins.
 */
const HEAP_OPTIONS = ["--max-semi-space-size=16"];
const ARENAS = { MALLOC_ARENA_MAX: "2" };

/**
 * Where Node.js keeps compiled code from one start to the next, written when a process ends in order. It is beside the code, so trusted like it; where that can't be written there is
 * none. Applications wait for the start of a service after a crash: measured 0.8 s with it, 2.4 s without (a busy machine of 2 cores).
 */
const COMPILE_CACHE = {
  NODE_COMPILE_CACHE: fileURLToPath(new URL("../../node_modules/.cache/tidemark", import.meta.url)),
};

/** Signals closer together than this are one. */
const SIGNAL_REPEAT_MS = 1000;

/** What the service process is told. */
export type ServiceProcessOptions = {
  readonly dataFolder: string;
  readonly logLevel: ServeOptions["logLevel"];
  /** Decimal digits; absent: the default. */
  readonly historyBytesMax?: string;
  readonly listen?: ServeOptions["listen"];
};

/**
 * Runs the service in the foreground until SIGINT or SIGTERM: this process becomes the supervisor, which keeps the mounts, and its child is the
 * service. Answers the exit code. A second signal kills the child; everything is unmounted all the same.
 */
export async function serve(options: ServeOptions): Promise<number> {
  const { dataFolder, logLevel, historyBytesMax, listen } = options;
  const told: ServiceProcessOptions = {
    dataFolder,
    logLevel,
    ...(historyBytesMax === undefined ? {} : { historyBytesMax: String(historyBytesMax) }),
    ...(listen === undefined ? {} : { listen }),
  };
  const nodeOptions = (process.env[NODE_OPTIONS_VARIABLE] ?? "").split(" ").filter((option) => option !== "");
  const supervisor = new Supervisor({
    command: process.execPath,
    args: [...HEAP_OPTIONS, ...nodeOptions, fileURLToPath(new URL("./service-main.ts", import.meta.url))],
    environment: { ...ARENAS, ...COMPILE_CACHE, ...process.env, [SERVICE_OPTIONS_VARIABLE]: JSON.stringify(told) },
    io: fuseDeviceIo(),
    clock: new SystemClock(),
    timers: new SystemTimers(),
    log: createLog({ level: logLevel }),
    // A gateway of this machine whose service is elsewhere looks after its mount itself; and to look at one whose service is this very one, which is not there yet, would take long.
    recovers: ({ source }) => !source.startsWith(REMOTE_SOURCE),
  });
  const clock = new SystemClock();
  let stoppedMs = Number.NEGATIVE_INFINITY;
  const stop = (): void => {
    // A terminal and npm may both deliver one Ctrl-C: only a later one is the second.
    const nowMs = clock.monotonicMs();
    if (nowMs - stoppedMs < SIGNAL_REPEAT_MS) return;
    stoppedMs = nowMs;
    supervisor.stop();
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    // The CLI's own handlers end the process at the second signal; the supervisor must unmount first.
    process.removeAllListeners(signal);
    process.on(signal, stop);
  }
  return await supervisor.run();
}
