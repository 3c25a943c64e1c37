import { TidemarkError } from "../../domain/errors.ts";
import type { InodeId } from "../../domain/ids.ts";

const CAPACITY_MIN = 1024;

/** A set of inode numbers that is first filled, then read in order. Takes 8 bytes a number, and as much again while it grows. */
export class InodeSet {
  readonly #countMax: number;
  #numbers = new Float64Array(CAPACITY_MIN);
  #count = 0;

  constructor(countMax: number) {
    this.#countMax = countMax;
  }

  /** Throws FAILED_PRECONDITION when there are more than `countMax`. */
  add(ino: InodeId): void {
    // Records about one file come one after the other.
    if (this.#count > 0 && this.#numbers[this.#count - 1] === ino) return;
    if (this.#count === this.#numbers.length) this.#makeRoom();
    this.#numbers[this.#count++] = ino;
  }

  /** The numbers, ascending, each once. Valid until the next `add`. */
  sorted(): Float64Array {
    this.#compact();
    return this.#numbers.subarray(0, this.#count);
  }

  #makeRoom(): void {
    this.#compact();
    if (this.#count > this.#countMax) {
      throw new TidemarkError(
        "FAILED_PRECONDITION",
        `more than ${this.#countMax} files changed between the two moments: take a moment between them, and two deltas`,
      );
    }
    // What comes twice is dropped by sorting: only a set that is more than half full of different numbers grows.
    if (this.#count * 2 <= this.#numbers.length) return;
    const larger = new Float64Array(this.#numbers.length * 2);
    larger.set(this.#numbers.subarray(0, this.#count));
    this.#numbers = larger;
  }

  #compact(): void {
    const numbers = this.#numbers.subarray(0, this.#count).sort();
    let count = 0;
    for (const number of numbers) {
      if (count > 0 && numbers[count - 1] === number) continue;
      numbers[count++] = number;
    }
    this.#count = count;
  }
}
