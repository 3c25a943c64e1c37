import { TidemarkError } from "../../domain/errors.ts";
import type { InodeId } from "../../domain/ids.ts";

/** Inodes of one page, and the words of its bits. */
const PAGE_INODES = 1024;
const PAGE_WORDS = PAGE_INODES / 32;

/** Pages that are allocated together: half a MiB, so that a set never copies itself while it grows. */
const SLAB_PAGES = 4096;

/** Pages there may be: 170 bytes each with their entry in the map, so 85 MiB. That is half a million files all over the app, or half a billion made one after the other. */
export const PAGES_MAX = 500_000;

/** A set of inode numbers, as bits: files that were made together, and change together, lie together. */
export class InodeSet {
  readonly #pagesMax: number;
  readonly #pages = new Map<number, number>();
  readonly #slabs: Uint32Array[] = [];

  constructor(pagesMax = PAGES_MAX) {
    this.#pagesMax = pagesMax;
  }

  has(ino: InodeId): boolean {
    const index = this.#pages.get(Math.floor(ino / PAGE_INODES));
    if (index === undefined) return false;
    const bit = ino % PAGE_INODES;
    return ((this.#word(index, bit >>> 5) >>> (bit & 31)) & 1) === 1;
  }

  /** Throws FAILED_PRECONDITION when there are too many. */
  add(ino: InodeId): void {
    const index = this.#pageIndex(Math.floor(ino / PAGE_INODES));
    const bit = ino % PAGE_INODES;
    const slab = this.#slab(index);
    const at = (index % SLAB_PAGES) * PAGE_WORDS + (bit >>> 5);
    slab[at] = (slab[at] ?? 0) | (1 << (bit & 31));
  }

  /** The numbers, ascending. What is added meanwhile may be missing. */
  *values(): Generator<InodeId> {
    const pages = Float64Array.from(this.#pages.keys()).sort();
    for (const page of pages) {
      const index = this.#pages.get(page);
      if (index === undefined) continue;
      for (let word = 0; word < PAGE_WORDS; word++) {
        for (let bits = this.#word(index, word); bits !== 0; bits &= bits - 1) {
          // The lowest bit that is set.
          const bit = 31 - Math.clz32(bits & -bits);
          yield (page * PAGE_INODES + word * 32 + bit) as InodeId;
        }
      }
    }
  }

  #pageIndex(page: number): number {
    const known = this.#pages.get(page);
    if (known !== undefined) return known;
    const index = this.#pages.size;
    if (index >= this.#pagesMax) {
      throw new TidemarkError(
        "FAILED_PRECONDITION",
        "too many files changed between the two moments for one delta: take a moment between them, and two deltas",
      );
    }
    if (index % SLAB_PAGES === 0) this.#slabs.push(new Uint32Array(SLAB_PAGES * PAGE_WORDS));
    this.#pages.set(page, index);
    return index;
  }

  #word(index: number, word: number): number {
    return this.#slab(index)[(index % SLAB_PAGES) * PAGE_WORDS + word] ?? 0;
  }

  #slab(index: number): Uint32Array {
    return this.#slabs[Math.floor(index / SLAB_PAGES)] ?? NO_SLAB;
  }
}

const NO_SLAB = new Uint32Array(0);
