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
    this.cut(extent.start, extent.start + extent.length);
    if (extent.segment !== 0) this.#extents.splice(this.#firstAtOrAfter(extent.start), 0, extent);
  }

  /** Makes [from, to) a hole. */
  cut(from: number, to: number): void {
    if (from >= to) return;
    const first = this.#firstEndingAfter(from);
    const touched: Extent[] = [];
    let end = first;
    while (end < this.#extents.length && (this.#extents[end] as Extent).start < to) {
      touched.push(this.#extents[end] as Extent);
      end++;
    }
    if (touched.length === 0) return;
    const kept: Extent[] = [];
    for (const extent of touched) {
      if (extent.start < from) kept.push({ ...extent, length: from - extent.start });
      const extentEnd = extent.start + extent.length;
      if (extentEnd > to) kept.push(slice(extent, to, extentEnd));
    }
    this.#extents.splice(first, end - first, ...kept);
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

  #firstAtOrAfter(position: number): number {
    let low = 0;
    let high = this.#extents.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#extents[middle] as Extent).start < position) low = middle + 1;
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
