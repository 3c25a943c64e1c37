/** What rows share: sizes, the workload program, fixtures, cold caches. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "./command.ts";
import { ensureCluster } from "./postgres.ts";
import { cpuSeconds, waitUntilIdle } from "./process-info.ts";
import type { RequestTrace } from "./request-trace.ts";
import type { FixtureName, Sample, Unit } from "./row.ts";
import type { Sizes } from "./sizes.ts";
import type { BenchTarget } from "./target.ts";

/** What follows up on a row (an applier, write-back) gets this long before the next measurement starts all the same. */
const SETTLE_DURATION_MS_MAX = 10_000;

export type WorkloadOptions = {
  dir: string;
  count?: number;
  perdir?: number;
  files?: number;
  size?: number;
  block?: number;
  fsync?: 0 | 1;
  minms?: number;
  seed?: number;
};

export type WorkloadResult = {
  ops: number;
  seconds: number;
  bytes: number;
  p50Us: number;
  p99Us: number;
  maxUs: number;
};

/** What is seen of the target while the clock of a row runs. */
type Observed = { serverCpuSeconds: number; requests?: Record<string, number> };

export class Bench {
  readonly sizes: Sizes;
  /** A folder on the scratch disk for inputs. */
  readonly inputDir: string;
  readonly #workloadProgram: string;
  readonly #inputs = new Map<string, Promise<string>>();
  readonly #trace: RequestTrace | undefined;
  #serial = 0;

  /** With `trace`, requests are counted, which slows everything down: then times mean nothing. */
  constructor(options: { sizes: Sizes; inputDir: string; workloadProgram: string; trace?: RequestTrace | undefined }) {
    this.sizes = options.sizes;
    this.#trace = options.trace;
    this.inputDir = options.inputDir;
    this.#workloadProgram = options.workloadProgram;
  }

  /** Runs one command of workload.c against the target. */
  async workload(target: BenchTarget, command: string, options: WorkloadOptions): Promise<WorkloadResult & Observed> {
    const args = Object.entries({ seed: this.#nextSerial(), ...options }).map(([key, value]) => `${key}=${value}`);
    const { result, observed } = await this.#observe(target, () => run(this.#workloadProgram, [command, ...args]));
    return { ...(JSON.parse(result.stdout) as WorkloadResult), ...observed };
  }

  /** Takes the seconds of `work`, which must be the whole row. */
  async seconds(target: BenchTarget, work: () => Promise<unknown>): Promise<Sample> {
    const { seconds, observed } = await this.#observe(target, work);
    return { value: seconds, ...observed };
  }

  /** The folder of a fixture, made on first use; it stays for the run. */
  async fixture(target: BenchTarget, name: FixtureName): Promise<string> {
    const dir = join(target.dir, `fixture-${name}`);
    if (existsSync(dir)) return dir;
    mkdirSync(dir);
    const { fileCount, filesPerDir, bigBytes, randomBytes } = this.sizes;
    if (name === "files") await this.workload(target, "create", { dir, count: fileCount, perdir: filesPerDir });
    if (name === "big") await this.workload(target, "seqwrite", { dir, size: bigBytes, block: 1 << 20 });
    if (name === "random") await this.workload(target, "seqwrite", { dir, size: randomBytes, block: 1 << 20 });
    if (name === "postgres") await ensureCluster(dir, { scale: this.sizes.pgbenchScale, socketDir: this.inputDir });
    return dir;
  }

  /** Runs `work` in a new folder of the target and removes it afterwards, outside the measurement. */
  async inFreshDir<T>(target: BenchTarget, work: (dir: string) => Promise<T>): Promise<T> {
    const dir = join(target.dir, `row-${this.#nextSerial()}`);
    mkdirSync(dir);
    const result = await work(dir);
    await run("rm", ["-rf", dir]);
    return result;
  }

  /** An input made once per run, on the scratch disk; returns its path. Throws what `make` throws, each time. */
  async input(name: string, make: (path: string) => Promise<void>): Promise<string> {
    const path = join(this.inputDir, name);
    const made = this.#inputs.get(name) ?? make(path).then(() => path);
    this.#inputs.set(name, made);
    return made;
  }

  /** Waits until nothing is dirty and the target is idle, so that a row doesn't pay for the one before. */
  async settle(target: BenchTarget): Promise<void> {
    await run("sync", []);
    await waitUntilIdle(() => target.processIds(), SETTLE_DURATION_MS_MAX);
  }

  /** Drops the kernel's caches; the target's processes stay. Needs root. */
  async dropCaches(target: BenchTarget): Promise<void> {
    await this.settle(target);
    writeFileSync("/proc/sys/vm/drop_caches", "3");
  }

  /** Drops the kernel's caches and everything the target's processes know. */
  async makeCold(target: BenchTarget): Promise<void> {
    await this.settle(target);
    await target.stop();
    await run("sync", []);
    writeFileSync("/proc/sys/vm/drop_caches", "3");
    await target.start();
    // Starting reads code and tables; what is measured is the first use of the files.
    await this.settle(target);
  }

  async #observe<T>(
    target: BenchTarget,
    work: () => Promise<T>,
  ): Promise<{ result: T; seconds: number; observed: Observed }> {
    const pids = target.processIds();
    const cpuBefore = cpuSeconds(pids);
    if (target.mountpoint !== undefined) this.#trace?.start();
    const startedMs = performance.now();
    const result = await work();
    const seconds = (performance.now() - startedMs) / 1000;
    const requests = target.mountpoint === undefined ? undefined : this.#trace?.stop(target.mountpoint);
    const serverCpuSeconds = cpuSeconds(pids) - cpuBefore;
    return { result, seconds, observed: { serverCpuSeconds, ...(requests === undefined ? {} : { requests }) } };
  }

  #nextSerial(): number {
    this.#serial += 1;
    return this.#serial;
  }
}

/** The sample of a workload, in the unit of its row. */
export function sampleOf(unit: Unit, result: WorkloadResult & Observed): Sample {
  const { p50Us, p99Us, ops, serverCpuSeconds, requests } = result;
  const value = unit === "MB/s" ? result.bytes / 1e6 / result.seconds : ops / result.seconds;
  return { value, p50Us, p99Us, ops, serverCpuSeconds, ...(requests === undefined ? {} : { requests }) };
}
