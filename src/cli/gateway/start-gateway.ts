import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { TidemarkError } from "../../domain/errors.ts";
import { type GatewayId, gatewayId, MountFiles } from "./mount-files.ts";
import { forgetMount, type GatewayMount, type MountState, readMountState, writeMountState } from "./mount-state.ts";
import { isAlive, processOf } from "./process-identity.ts";
import { GATEWAY_OPTIONS_VARIABLE, type GatewayProcessOptions } from "./run-gateway.ts";
import { listenForReport, type StartReport } from "./start-report.ts";

/** A log of a mount that is longer is put aside (and the one aside deleted) when the mount is made again. */
const LOG_BYTES_MAX = 8 * 1024 * 1024;

/** Everything that the start of a gateway takes from the world. */
export type GatewayStart = {
  readonly dataFolder: string;
  readonly mount: GatewayMount;
  readonly nowSec: number;
  /** Of this process. */
  readonly pid: number;
  readonly logLevel: GatewayProcessOptions["logLevel"];
};

/** A mount in the background. */
export type StartedGateway = {
  readonly id: GatewayId;
  readonly logFile: string;
  readonly report: Extract<StartReport, { outcome: "mounted" }>;
};

/**
 * Notes what is to be mounted. Throws TidemarkError: ALREADY_EXISTS when there is a gateway for the directory, errors of node:fs when the folder can't be used.
 */
export async function prepareGateway({ dataFolder, mount, nowSec, pid }: GatewayStart): Promise<GatewayId> {
  const files = new MountFiles(dataFolder);
  files.make();
  const id = gatewayId(mount.target);
  const former = readMountState(files, id);
  if (former?.processes.some(isAlive) === true) {
    throw new TidemarkError(
      "ALREADY_EXISTS",
      `"${mount.target}" is a mount of ${former.mount.shareText} already (service ${former.mount.service}): tidemark umount ${mount.target} ends it`,
    );
  }
  dropUnknownCaches(files);
  const state: MountState = { version: 1, id, mount, sinceSec: nowSec, processes: [processOf(pid)] };
  await writeMountState(files, state);
  return id;
}

/**
 * Starts a gateway in the background; resolves when its share is mounted. Throws TidemarkError: why it could not be, CANCELLED when `signal` fired; nothing is left running then.
 */
export async function startGateway(
  start: GatewayStart,
  world: { readonly variables: Readonly<Record<string, string | undefined>>; readonly signal: AbortSignal },
): Promise<StartedGateway> {
  const files = new MountFiles(start.dataFolder);
  const id = await prepareGateway(start);
  const logFile = files.logOf(id);
  const listener = await listenForReport(files.startSocketOf(id));
  try {
    const { dataFolder, logLevel } = start;
    const supervisor = spawnSupervisor({ dataFolder, id, logLevel, tellsStart: true }, { logFile, ...world });
    const report = await Promise.race([
      listener.report,
      endOf(supervisor, logFile),
      cancelled(supervisor, world.signal),
    ]);
    if (report.outcome === "failed") throw new TidemarkError(report.code, report.message);
    supervisor.removeAllListeners();
    supervisor.unref();
    return { id, logFile, report };
  } catch (error) {
    // Interrupted, it still ends by itself what it has begun.
    if (!(error instanceof TidemarkError && error.code === "CANCELLED")) forgetMount(files, id);
    throw error;
  } finally {
    listener.close();
  }
}

function spawnSupervisor(
  options: GatewayProcessOptions,
  {
    logFile,
    variables,
  }: { readonly logFile: string; readonly variables: Readonly<Record<string, string | undefined>> },
): ChildProcess {
  const log = openLog(logFile);
  try {
    // A session of its own: it outlives the terminal. Its working folder is nobody's.
    return spawn(process.execPath, [fileURLToPath(new URL("./gateway-supervisor-main.ts", import.meta.url))], {
      cwd: "/",
      detached: true,
      stdio: ["ignore", log, log],
      env: { ...variables, [GATEWAY_OPTIONS_VARIABLE]: JSON.stringify(options) },
    });
  } finally {
    closeSync(log);
  }
}

/** Rejects when the supervisor has ended without anybody having told why. A report that was sent before has been read by then: it travels through the same loop, and was waited for by who sent it. */
function endOf(supervisor: ChildProcess, logFile: string): Promise<never> {
  return new Promise((_, reject) => {
    supervisor.once("error", (cause) =>
      reject(new TidemarkError("INTERNAL", `the gateway can't be started: ${cause.message}`, { cause })),
    );
    supervisor.once("exit", (status, killed) => {
      const how = `the gateway ended (${killed ?? status}) before it had mounted: ${logFile} may tell why`;
      reject(new TidemarkError("UNAVAILABLE", how));
    });
  });
}

function cancelled(supervisor: ChildProcess, signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const cancel = (): void => {
      supervisor.kill("SIGTERM");
      reject(new TidemarkError("CANCELLED", "interrupted"));
    };
    signal.addEventListener("abort", cancel, { once: true });
    if (signal.aborted) cancel();
  });
}

function openLog(path: string): number {
  try {
    if (statSync(path).size > LOG_BYTES_MAX) renameSync(path, `${path}.old`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  return openSync(path, "a", 0o600);
}

/** Caches of mounts that nobody knows any more. */
function dropUnknownCaches(files: MountFiles): void {
  for (const name of readdirSync(files.cacheFolder)) {
    if (!existsSync(files.stateOf(name as GatewayId)))
      rmSync(join(files.cacheFolder, name), { recursive: true, force: true });
  }
}
