import type { FileLock } from "../domain/metadata-api.ts";

/** A lock as it is held: [start, end] of the file, `end` included. */
export type LockRange = {
  readonly start: bigint;
  readonly end: bigint;
  readonly type: "read" | "write";
  /** The process that took it, as its own machine numbers it. */
  readonly pid: number;
};

/** Largest offset of a lock: "to the end, however long the file gets". */
export const LOCK_END_MAX = 2n ** 63n - 1n;

/** What a lock does to those of its owner. The ranges from `from` to `to` (not included) give way to `added`. */
export type RangeChange = { readonly from: number; readonly to: number; readonly added: readonly LockRange[] };

/** The first of an owner's locks that is in the way of `lock` of somebody else. */
export function conflicting(ranges: readonly LockRange[], lock: FileLock): LockRange | undefined {
  for (let at = firstEndingFrom(ranges, lock.start); at < ranges.length; at++) {
    const range = ranges[at] as LockRange;
    if (range.start > lock.end) return undefined;
    if (range.type === "write" || lock.type === "write") return range;
  }
  return undefined;
}

/**
 * What becomes of an owner's locks by `lock`, as fcntl(2) says: the new lock (or its absence) replaces what was there in its range, the rest of older ones stays, and neighbours of one type are one
 * lock. `ranges` are in order and don't overlap; so are those with the change. Undefined: nothing changes.
 */
export function changeBy(ranges: readonly LockRange[], lock: FileLock): RangeChange | undefined {
  // One that only touches may become one with it.
  const from = firstEndingFrom(ranges, lock.start - 1n);
  let to = from;
  while (to < ranges.length && (ranges[to] as LockRange).start <= lock.end + 1n) to++;
  const near = ranges.slice(from, to);
  if (isNoChange(near, lock)) return undefined;
  const left = near.flatMap((range) => remains(range, lock));
  return { from, to, added: lock.type === "unlock" ? left : inserted(left, { ...lock, type: lock.type }) };
}

function isNoChange(near: readonly LockRange[], lock: FileLock): boolean {
  if (lock.type === "unlock") return !near.some((range) => range.start <= lock.end && lock.start <= range.end);
  return near.some((range) => range.type === lock.type && range.start <= lock.start && lock.end <= range.end);
}

/** What is left of a range outside of `lock`: one that is not touched is the same object. */
function remains(range: LockRange, lock: FileLock): LockRange[] {
  if (range.end < lock.start || range.start > lock.end) return [range];
  const left: LockRange[] = [];
  if (range.start < lock.start) left.push({ ...range, end: lock.start - 1n });
  if (range.end > lock.end) left.push({ ...range, start: lock.end + 1n });
  return left;
}

/** `ranges` and `added`, which overlaps none of them; one with the neighbours of its type that it touches. */
function inserted(ranges: readonly LockRange[], added: LockRange): LockRange[] {
  let { start, end } = added;
  const joins = (range: LockRange): boolean =>
    range.type === added.type && (range.end + 1n === added.start || added.end + 1n === range.start);
  const others: LockRange[] = [];
  for (const range of ranges) {
    if (!joins(range)) others.push(range);
    else if (range.start < start) start = range.start;
    else end = range.end;
  }
  const at = others.findIndex((range) => range.start > start);
  others.splice(at === -1 ? others.length : at, 0, { start, end, type: added.type, pid: added.pid });
  return others;
}

/** Index of the first range that ends at `offset` or later. */
function firstEndingFrom(ranges: readonly LockRange[], offset: bigint): number {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ranges[middle] as LockRange).end < offset) low = middle + 1;
    else high = middle;
  }
  return low;
}
