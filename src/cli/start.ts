import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, readdirSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { SystemClock } from "../base/clock.ts";
import { SystemTimers } from "../base/timers.ts";
import type { AdminApi } from "../domain/admin-api.ts";
import type { ServiceStatus } from "../domain/admin-status.ts";
import { TidemarkError } from "../domain/errors.ts";
import { AdminClient } from "../rpc/admin-client.ts";
import { ADMIN_SOCKET_NAME } from "../rpc/admin-server.ts";
import { setUpDemoBackup } from "./demo-backup.ts";

/**
 * `npm start`: the service on data in .tidemark of the sources' folder, with an app "demo" and its share "files" mounted at ./demo-share, shipped to a repository in .tidemark-backup, until Ctrl-C.
 * The service is a process of its own, just as `tidemark serve` runs it; this one sets up, explains, and passes the end on.
 */

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const DATA = join(ROOT, ".tidemark");
const MOUNT = join(ROOT, "demo-share");
const BACKUP = join(ROOT, ".tidemark-backup");
const BACKUP_KEY = join(ROOT, ".tidemark-backup.key");

/** Opening replays a journal at worst; a minute is far beyond what the applier leaves behind. */
const READY_MS_MAX = 60_000;
const POLL_MS = 100;
/** The service syncs and unmounts when it stops; then it is told again, less kindly. */
const STOP_MS_MAX = 30_000;
/** A terminal and npm both pass one Ctrl-C on: what follows so soon is the same one. */
const SAME_INTERRUPTION_MS = 1_000;

const clock = new SystemClock();
const timers = new SystemTimers();
const say = (text: string): void => void process.stdout.write(`${text}\n`);

async function main(): Promise<number> {
  const client = new AdminClient({ socketPath: join(DATA, ADMIN_SOCKET_NAME), clock });
  try {
    const running = await statusIfReady(client);
    if (running === undefined) return await runService(client);
    say(`Tidemark runs already on the data in ${DATA}: nothing new was started.`);
    await setUp(client, {
      stop: `Ctrl-C stops it in the terminal where it was started; so does: kill ${pidToStop(running)}`,
    });
    return 0;
  } catch (error) {
    say(`Setting up failed: ${error instanceof Error ? error.message : String(error)}`);
    return 1;
  } finally {
    client.close();
  }
}

/** Starts the service, explains, and stays until it ends. Answers the exit code. */
async function runService(client: AdminClient): Promise<number> {
  // In a process group of its own: Ctrl-C reaches it through us, once.
  const service = spawn(join(ROOT, "bin/tidemark"), ["serve", "--data", DATA, "--log-level", "warn"], {
    stdio: ["ignore", "inherit", "inherit"],
    detached: true,
  });
  const ended = new Promise<number>((resolve) =>
    service.on("exit", (code, signal) => resolve(signal === null ? (code ?? 1) : 1)),
  );
  service.on("error", (error) => say(`The service could not be started: ${error.message}`));
  const stop = stopOnSignals(service);
  try {
    if (await isReady(client, ended)) await setUp(client, { stop: "Ctrl-C stops it cleanly." });
  } catch (error) {
    stop.now();
    await ended;
    throw error;
  }
  const code = await ended;
  if (!stop.requested() && code !== 0) {
    say("The service has ended; what it said is above.");
    return code;
  }
  say("Stopped. Everything is kept in .tidemark; npm start goes on with it.");
  return 0;
}

function pidToStop({ pid, supervisor }: ServiceStatus): number {
  return supervisor.state === "running" ? supervisor.pid : pid;
}

/** Ends the service when this process is asked to end. A second request, later, ends it at once. */
function stopOnSignals(service: ChildProcess): { requested(): boolean; now(): void } {
  let requestedAtMs: number | undefined;
  const now = (): void => {
    const again = requestedAtMs !== undefined && clock.monotonicMs() - requestedAtMs > SAME_INTERRUPTION_MS;
    if (requestedAtMs !== undefined && !again) return;
    if (again) {
      service.kill("SIGKILL");
      return;
    }
    requestedAtMs = clock.monotonicMs();
    say("\nStopping ...");
    service.kill("SIGTERM");
    timers.after(STOP_MS_MAX, () => service.kill("SIGKILL"));
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, now);
  return { requested: () => requestedAtMs !== undefined, now };
}

/** Waits until the service answers. False when it ended instead. */
async function isReady(api: AdminApi, ended: Promise<number>): Promise<boolean> {
  let hasEnded = false;
  void ended.then(() => {
    hasEnded = true;
  });
  const deadlineMs = clock.monotonicMs() + READY_MS_MAX;
  while (!hasEnded) {
    if ((await statusIfReady(api)) !== undefined) return true;
    if (clock.monotonicMs() > deadlineMs) throw new Error(`the service does not answer after ${READY_MS_MAX / 1000} s`);
    await timers.wait(POLL_MS);
  }
  return false;
}

async function statusIfReady(api: AdminApi): Promise<ServiceStatus | undefined> {
  try {
    return await api.status.serviceStatus();
  } catch (error) {
    if (error instanceof TidemarkError && error.code === "UNAVAILABLE") return undefined;
    throw error;
  }
}

/** Makes what is not there yet, mounts, and explains. */
async function setUp(api: AdminApi, { stop }: { stop: string }): Promise<void> {
  const app = { namespace: "default", name: "demo" };
  await unlessExists(() => api.catalogue.createApp({ ...app, labels: {} }));
  await unlessExists(() => api.catalogue.createShare({ app, name: "files", views: "users" }));
  await backUp(api, app);
  const { canMount, mountsMessage } = await api.status.serviceStatus();
  if (!canMount) {
    explainWithoutMount(mountsMessage, stop);
    return;
  }
  if (!(await isMounted(api))) {
    mkdirSync(MOUNT, { recursive: true });
    const how = { readOnly: false, persist: false, allowSuid: false, allowDevices: false, locks: "kernel" } as const;
    await api.mounts.mount({ app, share: { name: "files" }, target: MOUNT, at: { kind: "now" }, ...how });
  }
  if (readdirSync(MOUNT).length > 0) say("The share goes on with what it held before.");
  explain(stop);
}

/** The rest works without. */
async function backUp(api: AdminApi, app: { namespace: string; name: string }): Promise<void> {
  try {
    await setUpDemoBackup(api, { app, folder: BACKUP, keyFile: BACKUP_KEY, clock });
  } catch (error) {
    say(`demo is not backed up: ${error instanceof Error ? error.message : String(error)}`);
  }
}

async function unlessExists(make: () => Promise<unknown>): Promise<void> {
  try {
    await make();
  } catch (error) {
    if (!(error instanceof TidemarkError) || error.code !== "ALREADY_EXISTS") throw error;
  }
}

async function isMounted(api: AdminApi): Promise<boolean> {
  for await (const page of api.mounts.listMounts()) {
    if (page.some((mount) => mount.target === MOUNT && mount.state === "active")) return true;
  }
  return false;
}

function explain(stop: string): void {
  const place = `./${relative(ROOT, MOUNT)}`;
  say(`
The share demo/files is mounted at ${place}. Everything that happens there is remembered. In another terminal, in the same directory:

  export TIDEMARK_DATA="${DATA}"
  echo one > ${place}/note.txt ; sleep 1 ; before=$(date +%T)
  echo two > ${place}/note.txt
  npx tidemark log demo/files                                what happened, and who did it
  npx tidemark history demo/files/note.txt                   the versions of one file
  npx tidemark cat demo/files/note.txt --at "$before"        a file as it was: also '10m ago', 'yesterday 14:00' ...
  rm ${place}/note.txt
  npx tidemark restore demo/files --at "$before"             all of it as it was; shows the plan and asks
  npx tidemark undo demo                                     takes the restore back
  npx tidemark status
  npx tidemark --help

It is also shipped to a repository, encrypted, every few seconds. What the loss of ${relative(ROOT, DATA)} would leave:

  npx tidemark backup status
  npx tidemark repo history demo/files/note.txt --repo ./${relative(ROOT, BACKUP)} --key-file ./${relative(ROOT, BACKUP_KEY)}

${stop}`);
}

function explainWithoutMount(reason: string, stop: string): void {
  say(`
The service runs, with the app demo and its share files, but nothing can be mounted here: ${reason}.
To go on, run "npm start" as root on a machine with /dev/fuse (in a container: --device /dev/fuse --cap-add SYS_ADMIN).
Everything else works, but what goes through a mount: import, repo mount. In another terminal, in the same directory:

  export TIDEMARK_DATA="${DATA}"
  npx tidemark share list
  npx tidemark log demo
  npx tidemark status
  npx tidemark backup status
  npx tidemark --help

${stop}`);
}

process.exitCode = await main();
process.exit();
