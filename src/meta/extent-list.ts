import type { Extent } from "./rows.ts";

/** A run of a chunk to read: bytes of a segment, or a hole (segment 0). */
export type Run = Extent;

/**
 * The visible extents of one chunk: sorted, without overlaps, holes left out. Inserting puts the newer over the older.
 *
 * Invariant: for each neighbour pair, left.start + left.length ≤ right.start; every length > 0; no segment is 0.
 */
export class ExtentList {
  #extents: Extent[];

  constructor(extents: readonly Extent[] = []) {
    this.#extents = [...extents];
  }

  get count(): number {
    return this.#extents.length;
  }

  /** The extents in order; valid until the next change. */
  get extents(): readonly Extent[] {
    return this.#extents;
  }

  copy(): ExtentList {
    return new ExtentList(this.#extents);
  }

  /** Puts `extent` over what was there; a hole (segment 0) only takes away. */
  insert(extent: Extent): void {
    const last = this.#extents.at(-1);
    // Appending, the usual case, never searches.
    if (last === undefined || last.start + last.length <= extent.start) {
      if (extent.segment !== 0) this.#extents.push(extent);
      return;
    }
    this.#replace(extent.start, extent.start + extent.length, extent.segment === 0 ? undefined : extent);
  }

  /** Makes [from, to) a hole. */
  cut(from: number, to: number): void {
    if (from < to) this.#replace(from, to, undefined);
  }

  /** Puts `by` (or a hole) in place of [from, to), moving what is behind at most once: a file of many pieces is written to at random. */
  #replace(from: number, to: number, by: Extent | undefined): void {
    const extents = this.#extents;
    const first = this.#firstEndingAfter(from);
    let end = first;
    while (end < extents.length && (extents[end] as Extent).start < to) end++;
    const before = extents[first];
    const after = extents[end - 1];
    const put: Extent[] = [];
    if (end > first && before !== undefined && before.start < from)
      put.push({ ...before, length: from - before.start });
    if (by !== undefined) put.push(by);
    if (end > first && after !== undefined && after.start + after.length > to) {
      put.push(slice(after, to, after.start + after.length));
    }
    if (put.length === end - first) for (const [index, extent] of put.entries()) extents[first + index] = extent;
    else extents.splice(first, end - first, ...put);
  }

  /** The runs of [from, to) in order, holes included: together exactly that range. */
  runs(from: number, to: number): Run[] {
    const runs: Run[] = [];
    let at = from;
    for (let index = this.#firstEndingAfter(from); index < this.#extents.length && at < to; index++) {
      const extent = this.#extents[index] as Extent;
      if (extent.start >= to) break;
      if (extent.start > at) runs.push(hole(at, extent.start));
      const end = Math.min(to, extent.start + extent.length);
      runs.push(slice(extent, Math.max(at, extent.start), end));
      at = end;
    }
    if (at < to) runs.push(hole(at, to));
    return runs;
  }

  #firstEndingAfter(position: number): number {
    let low = 0;
    let high = this.#extents.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const extent = this.#extents[middle] as Extent;
      if (extent.start + extent.length <= position) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function hole(from: number, to: number): Run {
  return { start: from, length: to - from, segment: 0, dataStart: 0, dataLength: 0, skip: 0 };
}

/** The part [from, to) of an extent; both inside it. */
function slice(extent: Extent, from: number, to: number): Extent {
  if (from === extent.start && to === extent.start + extent.length) return extent;
  return { ...extent, start: from, length: to - from, skip: extent.skip + (from - extent.start) };
}
