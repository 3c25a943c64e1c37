/** What a row of the table is, and what it may use. */
import type { Bench } from "./bench.ts";
import type { BenchTarget } from "./target.ts";

export type Unit = "MB/s" | "/s" | "TPS" | "s" | "MiB";

/** One measurement. Latencies and CPU time where they are known. */
export type Sample = {
  value: number;
  p50Us?: number;
  p99Us?: number;
  /** What the processes of the target used meanwhile, user and system. */
  serverCpuSeconds?: number;
  /** How many operations `requests` belongs to; absent where there is no one kind of operation. */
  ops?: number;
  /** Requests of the kernel to the target by opcode, when they are counted. */
  requests?: Record<string, number>;
};

export interface Row {
  readonly id: string;
  readonly title: string;
  readonly unit: Unit;
  /** What the project aims for, in words; shown beside the ratios, never compared. */
  readonly aim: string;
  /** Measured in the first round only: too long, or not a matter of time. */
  readonly once?: boolean;
  /** Targets without a server have nothing to show. */
  readonly needsServer?: boolean;
  /** Targets without views are left out. */
  readonly needsView?: boolean;
  /** What has to exist on the target before, so that it can be made before history is. */
  readonly fixtures?: readonly FixtureName[];

  /** Why the row can't be measured on this machine, or undefined. Asked once, before the first round. */
  unavailable?(bench: Bench): Promise<string | undefined>;
  /** Measures once; leaves the target as it was, fixtures excepted. */
  measure(bench: Bench, target: BenchTarget): Promise<Sample>;
}

/** `files`: many small files; `big`: one file to read; `random`: one file to write into; `postgres`: a cluster. */
export type FixtureName = "files" | "big" | "random" | "postgres";

/** Whether a greater value is better. */
export function isRate(unit: Unit): boolean {
  return unit === "MB/s" || unit === "/s" || unit === "TPS";
}

/** How many times as good as `reference` the value is: above 1 is better, whatever the unit. */
export function goodness(unit: Unit, value: number, reference: number): number {
  return isRate(unit) ? value / reference : reference / value;
}
