/** `npm run bench:steady`: what continuous backup costs a share that is written to, and how far behind it is. See ../README.md. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { unmount } from "../cleanup.ts";
import { hasEnded, interruptAll, pause, run, startDaemon, waitForEnd, waitUntil } from "../command.ts";
import { compileWorkload } from "../native.ts";
import { median } from "../statistics.ts";

const PROGRAM = resolve(import.meta.dirname, "../../../bin/tidemark");
const READY_MS_MAX = 60_000;
const FILES = 10_000;
const FILES_PER_DIRECTORY = 100;
const FILE_BYTES = 4096;
/** Changes of one round: some seconds. */
const CHANGES = 50_000;
/** Files changed at once by the steady writer, ten times a second. */
const BURST = 100;
const BURSTS_PER_SECOND = 10;
const LOOK_MS = 1_000;

/** A service with one share mounted and a repository in a directory. */
class Bench {
  readonly #scratch: string;
  readonly mount: string;

  constructor(scratch: string) {
    this.#scratch = scratch;
    this.mount = join(scratch, "mount");
  }

  async start(): Promise<() => Promise<void>> {
    const logFile = join(this.#scratch, "log");
    const server = startDaemon(PROGRAM, ["serve", "--data", join(this.#scratch, "data")], { logFile });
    await waitUntil("start of tidemark", READY_MS_MAX, () => {
      if (hasEnded(server)) throw new Error(`the service ended: see ${logFile}`);
      return this.cli("status").then(
        () => true,
        () => false,
      );
    });
    await this.cli("app", "create", "shop");
    await this.cli("share", "create", "shop/files");
    await this.cli("repo", "init", join(this.#scratch, "repository"), "--name", "main", "--key-file", this.#keyFile);
    mkdirSync(this.mount);
    await this.cli("mount", "shop/files", this.mount);
    return async () => {
      await this.cli("umount", this.mount).catch(() => undefined);
      await unmount(this.mount);
      server.kill("SIGTERM");
      await waitForEnd(server, READY_MS_MAX);
    };
  }

  async cli(...args: string[]): Promise<string> {
    const all = ["--data", join(this.#scratch, "data"), ...args];
    return (await run(PROGRAM, all, { cleanup: args[0] === "umount" })).stdout;
  }

  async backup(on: boolean): Promise<void> {
    if (on) await this.cli("backup", "enable", "shop", "--repo", "main", "--every", "5s");
    else await this.cli("backup", "disable", "shop");
  }

  /** In seconds. */
  async lag(): Promise<number> {
    const status = JSON.parse(await this.cli("backup", "status", "shop", "--json")) as { lagMs: number };
    return status.lagMs / 1000;
  }

  get #keyFile(): string {
    return join(this.#scratch, "key");
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string", default: "5" },
      seconds: { type: "string", default: "60" },
      scratch: { type: "string", default: tmpdir() },
    },
  });
  const scratch = mkdtempSync(join(values.scratch, "tidemark-bench-steady-"));
  process.once("SIGINT", interruptAll);
  const bench = new Bench(scratch);
  const program = await compileWorkload(scratch);
  const stop = await bench.start();
  try {
    process.stdout.write(`${cpus().length} CPUs, load ${loadavg()[0]?.toFixed(2)}\n`);
    await foreground(bench, program, Number(values.rounds));
    await steady(bench, Number(values.seconds));
  } finally {
    await stop();
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** As fast as it goes, with backup and without, in turns. */
async function foreground(bench: Bench, program: string, rounds: number): Promise<void> {
  const workload = async (command: string, options: Record<string, number>): Promise<number> => {
    const args = Object.entries(options).map(([key, value]) => `${key}=${value}`);
    return (await run(program, [command, `dir=${bench.mount}`, `perdir=${FILES_PER_DIRECTORY}`, ...args])).seconds;
  };
  await workload("create", { count: FILES, size: FILE_BYTES });
  const rates = { with: [] as number[], without: [] as number[] };
  for (let round = 0; round < rounds; round++) {
    for (const kind of round % 2 === 0 ? (["with", "without"] as const) : (["without", "with"] as const)) {
      if (kind === "with") await bench.backup(true);
      await run("sync", []);
      const seconds = await workload("churn", { count: CHANGES, files: FILES, size: FILE_BYTES, seed: round });
      rates[kind].push(CHANGES / seconds);
      if (kind === "without") continue;
      await bench.cli("backup", "now", "shop");
      await bench.backup(false);
    }
  }
  const [on, off] = [median(rates.with), median(rates.without)];
  const text = `foreground, changes/s, median of ${rounds}: ${off.toFixed(0)} without backup, ${on.toFixed(0)} with (every 5 s)`;
  process.stdout.write(`${text}: ${((1 - on / off) * 100).toFixed(1)} % less\n`);
}

/** A thousand files a second; how far behind the backup is, looked at each second. */
async function steady(bench: Bench, seconds: number): Promise<void> {
  await bench.backup(true);
  const content = Buffer.alloc(FILE_BYTES, 0x61);
  const lags: number[] = [];
  let changed = 0;
  const startedMs = performance.now();
  const endMs = startedMs + seconds * 1000;
  const looking = (async () => {
    while (performance.now() < endMs) {
      lags.push(await bench.lag());
      await pause(LOOK_MS);
    }
  })();
  for (let burst = 0; performance.now() < endMs; burst++) {
    for (let file = 0; file < BURST; file++, changed++) {
      const index = (burst * BURST + file) % FILES;
      const folder = String(Math.floor(index / FILES_PER_DIRECTORY)).padStart(5, "0");
      content.writeUInt32BE(changed);
      writeFileSync(join(bench.mount, `d${folder}`, `f${String(index).padStart(7, "0")}`), content);
    }
    await pause(Math.max(0, startedMs + ((burst + 1) * 1000) / BURSTS_PER_SECOND - performance.now()));
  }
  await looking;
  const rate = changed / ((performance.now() - startedMs) / 1000);
  const text = `steady, ${rate.toFixed(0)} files changed/s for ${seconds} s: lag median ${median(lags).toFixed(1)} s, at most ${Math.max(...lags).toFixed(1)} s`;
  process.stdout.write(`${text}\n`);
}

await main();
