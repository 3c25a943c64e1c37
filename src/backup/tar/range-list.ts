import type { DataRange } from "../../domain/admin-reading.ts";

/**
 * Most ranges of one file: 64 MiB of memory. A 16 GiB file with every other 4 KiB block a hole has 2,097,152 of them.
 */
export const RANGES_MAX = 4_194_304;

const FIRST_CAPACITY = 64;

/** Where a file has data, in 16 bytes a range, in order. */
export class RangeList {
  #words = new BigUint64Array(2 * FIRST_CAPACITY);
  #count = 0;
  #bytes = 0n;
  #joined = false;

  get count(): number {
    return this.#count;
  }

  /** The sum of the lengths. */
  get bytes(): bigint {
    return this.#bytes;
  }

  /** Some holes were given up as there are too many ranges: they are data now. */
  get joined(): boolean {
    return this.#joined;
  }

  /** Takes the next range, which begins at or after the end of the last. Beyond RANGES_MAX the last one is extended over the hole. */
  add(offset: bigint, length: bigint): void {
    if (this.#count === RANGES_MAX) {
      this.#joined = true;
      const extended = offset + length - this.#word(2 * this.#count - 2);
      this.#bytes += extended - this.#word(2 * this.#count - 1);
      this.#words[2 * this.#count - 1] = extended;
      return;
    }
    if (2 * this.#count === this.#words.length) {
      const grown = new BigUint64Array(2 * this.#words.length);
      grown.set(this.#words);
      this.#words = grown;
    }
    this.#words[2 * this.#count] = offset;
    this.#words[2 * this.#count + 1] = length;
    this.#count += 1;
    this.#bytes += length;
  }

  /** The range number `index`, which must be there. */
  at(index: number): DataRange {
    return { offset: this.#word(2 * index), length: this.#word(2 * index + 1) };
  }

  #word(index: number): bigint {
    return this.#words[index] ?? 0n;
  }

  *[Symbol.iterator](): Generator<DataRange> {
    for (let index = 0; index < this.#count; index += 1) yield this.at(index);
  }
}
