/** A PostgreSQL cluster on a target. PostgreSQL refuses to run as root, so it runs as the user postgres. */
import type { ChildProcess } from "node:child_process";
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { hasEnded, run, startDaemon, waitForEnd, waitUntil } from "./command.ts";

/** Start-up after a clean stop takes under a second; a fast shutdown writes one checkpoint. */
const START_DURATION_MS_MAX = 60_000;
const STOP_DURATION_MS_MAX = 60_000;

type User = { uid: number; gid: number };

/** Why PostgreSQL can't be used here, or undefined. */
export async function postgresUnavailable(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return "starting PostgreSQL as the user postgres needs root";
  try {
    await postgresUser();
    const bin = await binDir();
    if (!existsSync(join(bin, "initdb"))) return `${bin}/initdb is missing: apt-get install postgresql`;
    return undefined;
  } catch (error) {
    return `PostgreSQL is missing (apt-get install postgresql): ${String(error)}`;
  }
}

/** Creates a cluster with pgbench's tables in `dir`, an existing folder. */
export async function ensureCluster(dir: string, options: { scale: number; socketDir: string }): Promise<void> {
  const user = await postgresUser();
  chownSync(dir, user.uid, user.gid);
  chmodSync(dir, 0o700);
  const data = join(dir, "data");
  const initdb = join(await binDir(), "initdb");
  await run(initdb, ["--no-sync", "-A", "trust", "-E", "UTF8", "--locale=C", "-D", data], { ...user, cwd: "/" });
  await withServer(dir, options.socketDir, async (pgbench) => {
    await pgbench(["-i", "-q", "-s", String(options.scale)]);
  });
}

/** TPS of `pgbench -c 4` for `seconds` on the cluster in `dir`, which is started before and stopped after. */
export async function pgbenchTps(dir: string, options: { seconds: number; socketDir: string }): Promise<number> {
  let tps = Number.NaN;
  await withServer(dir, options.socketDir, async (pgbench, query) => {
    await query("CHECKPOINT");
    const output = await pgbench(["-c", "4", "-j", "2", "-T", String(options.seconds)]);
    tps = Number(/^tps = ([\d.]+)/m.exec(output)?.[1]);
  });
  if (Number.isNaN(tps)) throw new Error("pgbench printed no tps");
  return tps;
}

type Pgbench = (args: string[]) => Promise<string>;
type Query = (sql: string) => Promise<void>;

async function withServer(dir: string, parent: string, work: (pgbench: Pgbench, query: Query) => Promise<void>) {
  const user = await postgresUser();
  const bin = await binDir();
  const sockets = join(parent, "postgres");
  if (!existsSync(sockets)) mkdirSync(sockets);
  chownSync(sockets, user.uid, user.gid);
  const options = { ...user, cwd: "/", env: { PGHOST: sockets, PGUSER: "postgres", PGDATABASE: "postgres" } };
  const logFile = join(parent, "postgres.log");
  const args = ["-D", join(dir, "data"), "-k", sockets, "-c", "listen_addresses="];
  const server = startDaemon(join(bin, "postgres"), args, { ...options, logFile });
  try {
    await waitUntil("start of PostgreSQL", START_DURATION_MS_MAX, () => isReady(server, logFile, bin, options));
    await work(
      async (more) => (await run(join(bin, "pgbench"), more, options)).stdout,
      async (sql) => void (await run(join(bin, "psql"), ["-qXc", sql], options)),
    );
  } finally {
    if (!hasEnded(server)) server.kill("SIGINT"); // PostgreSQL's "fast shutdown"
    await waitForEnd(server, STOP_DURATION_MS_MAX);
  }
}

async function isReady(server: ChildProcess, logFile: string, bin: string, options: object): Promise<boolean> {
  if (hasEnded(server)) throw new Error(`PostgreSQL ended: ${readFileSync(logFile, "utf8").slice(-1000)}`);
  return run(join(bin, "pg_isready"), ["-q"], options).then(
    () => true,
    () => false,
  );
}

async function postgresUser(): Promise<User> {
  const id = async (flag: string) => Number((await run("id", [flag, "postgres"])).stdout);
  return { uid: await id("-u"), gid: await id("-g") };
}

/** Debian keeps the server's programs off the PATH; pg_config of any version knows where its own are. */
async function binDir(): Promise<string> {
  const { stdout } = await run("sh", [
    "-c",
    "ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1; pg_config --bindir",
  ]);
  const [debian] = stdout.split("\n");
  if (debian === undefined || debian === "") throw new Error("no installation found");
  return debian;
}
