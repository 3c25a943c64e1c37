/** A set of numbers as ranges, so that millions that follow each other take no room. */
export class NumberRanges {
  /** In order, apart from each other. */
  #ranges: { from: number; to: number }[] = [];
  #count = 0;

  /** How many numbers. */
  get count(): number {
    return this.#count;
  }

  get ranges(): readonly { readonly from: number; readonly to: number }[] {
    return this.#ranges;
  }

  /** The highest number up to which all from 1 on are in the set. */
  get dense(): number {
    const [first] = this.#ranges;
    return first?.from === 1 ? first.to : 0;
  }

  has(number: number): boolean {
    const range = this.#ranges[this.#firstEndingAt(number)];
    return range !== undefined && range.from <= number;
  }

  /** Adds `from` to `to`, both included. */
  add(from: number, to = from): void {
    if (to < from) return;
    // Those that touch it become one with it.
    const begin = this.#firstEndingAt(from - 1);
    let end = begin;
    let [low, high, covered] = [from, to, 0];
    for (; end < this.#ranges.length; end++) {
      const range = this.#ranges[end] as { from: number; to: number };
      if (range.from > to + 1) break;
      low = Math.min(low, range.from);
      high = Math.max(high, range.to);
      covered += range.to - range.from + 1;
    }
    this.#ranges.splice(begin, end - begin, { from: low, to: high });
    this.#count += high - low + 1 - covered;
  }

  /** Index of the first range that ends at `number` or after it. */
  #firstEndingAt(number: number): number {
    let [low, high] = [0, this.#ranges.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ranges[middle] as { to: number }).to < number) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
