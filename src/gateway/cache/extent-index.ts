import type { Place } from "./volume-format.ts";

/** An extent of some volume. */
export type IndexedExtent = Place & { readonly length: number };

/** A part of what was looked for, `from` bytes after its beginning. `extent`: who has it, at `skip`; absent: nobody. */
export type Found<E> = { readonly from: number; readonly length: number; readonly extent?: E; readonly skip: number };

/**
 * Which bytes of a journal are there, and where: for each segment its extents, sorted by position.
 *
 * Invariant: extents of one segment do not overlap, as `add` refuses one that would.
 */
export class ExtentIndex<E extends IndexedExtent> {
  readonly #segments = new Map<number, E[]>();
  #count = 0;

  /** Extents in it. */
  get count(): number {
    return this.#count;
  }

  /** Adds an extent. Answers false when some of its bytes are there already. */
  add(extent: E): boolean {
    const list = this.#segments.get(extent.segment) ?? [];
    const index = firstEndingAfter(list, extent.position);
    const next = list[index];
    if (next !== undefined && next.position < extent.position + extent.length) return false;
    list.splice(index, 0, extent);
    this.#segments.set(extent.segment, list);
    this.#count++;
    return true;
  }

  /** Takes an extent out, if it is in. */
  remove(extent: E): void {
    const list = this.#segments.get(extent.segment);
    if (list === undefined) return;
    const index = firstEndingAfter(list, extent.position);
    if (list[index] !== extent) return;
    list.splice(index, 1);
    this.#count--;
    if (list.length === 0) this.#segments.delete(extent.segment);
  }

  /** What is there of `length` bytes from `place` on, in order and without gaps. */
  find(place: Place, length: number): Found<E>[] {
    const list = this.#segments.get(place.segment) ?? [];
    const found: Found<E>[] = [];
    const end = place.position + length;
    let at = place.position;
    for (let index = firstEndingAfter(list, at); at < end; index++) {
      const extent = list[index];
      const begin = extent === undefined ? end : Math.min(extent.position, end);
      if (begin > at) found.push({ from: at - place.position, length: begin - at, skip: 0 });
      at = Math.max(at, begin);
      if (extent === undefined || at >= end) break;
      const to = Math.min(end, extent.position + extent.length);
      found.push({ from: at - place.position, length: to - at, extent, skip: at - extent.position });
      at = to;
    }
    return found;
  }
}

/** The index of the first extent that ends after `position`. */
function firstEndingAfter(list: readonly IndexedExtent[], position: number): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const extent = list[middle] as IndexedExtent;
    if (extent.position + extent.length <= position) low = middle + 1;
    else high = middle;
  }
  return low;
}
