/** Sums up the samples of one row on one target. */
import type { Sample } from "./row.ts";

export type Summary = {
  median: number;
  min: number;
  max: number;
  sampleCount: number;
  /** Medians over the rounds of each round's own quantile. */
  p50Us?: number;
  p99Us?: number;
  serverCpuSeconds?: number;
};

/** The middle value, or the mean of the two in the middle. Throws on an empty list. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)];
  const lower = sorted[Math.floor((sorted.length - 1) / 2)];
  if (upper === undefined || lower === undefined) throw new RangeError("median of nothing");
  return (lower + upper) / 2;
}

/** Throws on an empty list. */
export function summarize(samples: readonly Sample[]): Summary {
  const values = samples.map((sample) => sample.value);
  return {
    median: median(values),
    min: Math.min(...values),
    max: Math.max(...values),
    sampleCount: samples.length,
    ...optionalMedian("p50Us", samples),
    ...optionalMedian("p99Us", samples),
    ...optionalMedian("serverCpuSeconds", samples),
  };
}

function optionalMedian<K extends "p50Us" | "p99Us" | "serverCpuSeconds">(
  key: K,
  samples: readonly Sample[],
): { [key in K]?: number } {
  const values = samples.map((sample) => sample[key]).filter((value) => value !== undefined);
  return values.length === 0 ? {} : ({ [key]: median(values) } as { [key in K]?: number });
}
