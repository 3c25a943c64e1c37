/** A part of a record's data: [from, to). */
export type ByteRange = { readonly from: number; readonly to: number };

/** Parts of one record's data, collected in any order. */
export class ByteRanges {
  #ranges: ByteRange[] = [];
  #merged = true;

  add(from: number, to: number): void {
    if (from >= to) return;
    const last = this.#ranges.at(-1);
    // The same bytes are mostly named again and again: checkpoints of several kept moments.
    if (last !== undefined && last.from <= from && to <= last.to) return;
    this.#ranges.push({ from, to });
    this.#merged = this.#ranges.length === 1;
  }

  /** In order, without overlaps, neighbours joined. */
  get ranges(): readonly ByteRange[] {
    if (!this.#merged) {
      this.#ranges = merge(this.#ranges);
      this.#merged = true;
    }
    return this.#ranges;
  }

  get bytes(): number {
    return this.ranges.reduce((sum, range) => sum + range.to - range.from, 0);
  }

  /** The parts of [from, to) that are not in here, in order. */
  missing(from: number, to: number): ByteRange[] {
    const found: ByteRange[] = [];
    let at = from;
    for (const range of this.within(from, to)) {
      if (range.from > at) found.push({ from: at, to: range.from });
      at = range.to;
    }
    if (at < to) found.push({ from: at, to });
    return found;
  }

  /** The parts of [from, to) that are in here. */
  within(from: number, to: number): ByteRange[] {
    const found: ByteRange[] = [];
    for (const range of this.ranges) {
      if (range.to <= from) continue;
      if (range.from >= to) break;
      found.push({ from: Math.max(from, range.from), to: Math.min(to, range.to) });
    }
    return found;
  }
}

function merge(ranges: readonly ByteRange[]): ByteRange[] {
  const merged: { from: number; to: number }[] = [];
  for (const range of [...ranges].sort((left, right) => left.from - right.from)) {
    const last = merged.at(-1);
    if (last !== undefined && range.from <= last.to) last.to = Math.max(last.to, range.to);
    else merged.push({ ...range });
  }
  return merged;
}
