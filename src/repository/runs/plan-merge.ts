import type { RunRef } from "./run-codec.ts";

// How runs are merged. Only neighbours in time can be, as newer rows hide older ones; and always the newest ones, so that what is rarely written is left alone. A merge makes something 8 times as
// long as the longest run in it, so each row is written again once for each factor of 8 by which the whole grew: a checkpoint costs what changed since the last one, times log8.

/** How much longer than its longest part a merged run is. */
export const MERGE_FACTOR = 8;

/** Shorter runs count as this long: a small object costs a request, whatever is in it. */
const COUNTED_BYTES_MIN = 1024 * 1024;

/** Runs there may be in all: what readers merge, some 3 MiB of memory each. Reached when long and short ones come in turn. */
export const RUNS_MAX = 32;

/** What to merge: the newest `count` runs become one. */
export type MergePlan = {
  readonly count: number;
  /** The oldest run is among them: what is deleted has nothing older to hide. */
  readonly dropDeleted: boolean;
};

/** How long a run is, as a power of 8: 0 up to 1 MiB, 1 up to 8 MiB… For people. */
export function levelOf(bytes: number): number {
  let level = 0;
  for (let max = COUNTED_BYTES_MIN; bytes > max; max *= MERGE_FACTOR) level++;
  return level;
}

/** Which of `runs`, newest first, to merge next; null: none. Apply it again to the result until it says null. */
export function planMerge(runs: readonly Pick<RunRef, "bytes">[]): MergePlan | null {
  let total = 0;
  let longest = 0;
  // Of the merges that are too expensive, the one that gains most for what it writes.
  let best = { count: 0, gain: 0 };
  for (const [index, run] of runs.entries()) {
    const count = index + 1;
    const bytes = Math.max(run.bytes, COUNTED_BYTES_MIN);
    total += bytes;
    longest = Math.max(longest, bytes);
    const gain = total / longest;
    if (gain >= MERGE_FACTOR) return { count, dropDeleted: count === runs.length };
    if (count >= 2 && gain > best.gain) best = { count, gain };
  }
  return runs.length > RUNS_MAX ? { count: best.count, dropDeleted: best.count === runs.length } : null;
}
