import type { Lsn } from "../domain/ids.ts";

/** Distance of remembered positions: finding a record hops over at most this much. 1,024 entries for a full segment. */
const STEP_BYTES = 65_536;

/** Segments whose positions are remembered, 16 KiB each. */
const SEGMENTS_MAX = 64;

type Entries = { readonly lsns: number[]; readonly positions: number[] };

/** Remembers where some records of a journal are, so that reading from the middle of a segment does not begin at its start. */
export class PositionIndex {
  readonly #segments = new Map<number, Entries>();

  /** `lsn` is at `position` of `segment`. Cheap; most calls are not kept. */
  note(segment: number, lsn: Lsn, position: number): void {
    let entries = this.#segments.get(segment);
    if (entries === undefined) {
      entries = { lsns: [], positions: [] };
      this.#segments.set(segment, entries);
      for (const oldest of this.#segments.keys()) {
        if (this.#segments.size <= SEGMENTS_MAX) break;
        this.#segments.delete(oldest);
      }
    }
    // Only behind the last one: the entries stay sorted, and a scan that begins earlier adds nothing twice.
    const last = entries.positions[entries.positions.length - 1] ?? 0;
    if (position < last + STEP_BYTES) return;
    entries.lsns.push(lsn);
    entries.positions.push(position);
  }

  /** The nearest remembered record at or before `lsn`. */
  find(segment: number, lsn: Lsn): { lsn: Lsn; position: number } | undefined {
    const entries = this.#segments.get(segment);
    if (entries === undefined) return undefined;
    let low = 0;
    let high = entries.lsns.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((entries.lsns[middle] ?? 0) <= lsn) low = middle + 1;
      else high = middle;
    }
    const found = entries.lsns[low - 1];
    const position = entries.positions[low - 1];
    return found === undefined || position === undefined ? undefined : { lsn: found as Lsn, position };
  }

  forget(segment: number): void {
    this.#segments.delete(segment);
  }
}
