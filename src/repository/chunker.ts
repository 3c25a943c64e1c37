import { assert } from "../base/assert.ts";

// FORMAT.md, "Chunking": FastCDC (Xia et al., USENIX ATC 2016) with a gear hash of 32 bits and a table that nobody else knows.

/** Lengths of chunks in bytes. A chunk is longer than `minBytes`, unless its run ends, and at most `maxBytes` long; `averageBytes` is a power of two. */
export type ChunkSizes = { readonly minBytes: number; readonly averageBytes: number; readonly maxBytes: number };

/** Chosen by measurement: FORMAT.md, "Chunking". Changing them costs one more copy of what is written again, nothing else. */
export const CHUNK_SIZES: ChunkSizes = { minBytes: 16 * 1024, averageBytes: 64 * 1024, maxBytes: 256 * 1024 };

const GEAR_ENTRIES = 256;

/** Bits by which a cut is rarer before the average length and more frequent behind it (the paper's normalisation level 2). */
const NORMALISATION_BITS = 2;

/** A cut of a chunk, or of nothing: the run goes on. */
export const NO_CUT = -1;

/**
 * Finds where a run of bytes is cut into chunks. Where depends on the bytes since the run's beginning alone, not on how they arrive; behind a change, cuts are soon the same as
 * without it. Allocates nothing.
 */
export class Chunker {
  // Signed, because V8 has its integers signed: the sums are the same modulo 2^32.
  readonly #gear: Int32Array;
  readonly #sizes: ChunkSizes;
  readonly #maskBefore: number;
  readonly #maskBehind: number;
  #hash = 0;
  #pendingBytes = 0;

  constructor(gear: Uint32Array, sizes: ChunkSizes = CHUNK_SIZES) {
    const bits = Math.log2(sizes.averageBytes);
    assert(gear.length === GEAR_ENTRIES, "the gear table has 256 entries");
    assert(Number.isInteger(bits) && bits > NORMALISATION_BITS && bits <= 26, "the average is a power of two");
    assert(sizes.minBytes >= 1 && sizes.minBytes < sizes.averageBytes && sizes.averageBytes < sizes.maxBytes);
    this.#gear = Int32Array.from(gear);
    this.#sizes = sizes;
    this.#maskBefore = highBits(bits + NORMALISATION_BITS);
    this.#maskBehind = highBits(bits - NORMALISATION_BITS);
  }

  /** Bytes of the run since its last cut. */
  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  /**
   * Goes on with the run's next bytes, those of `bytes` in [from, to): the offset right behind the next cut, or NO_CUT if there is none. After a cut go on from there. `to` is
   * not a cut by itself: the rest of a run is its last chunk.
   */
  next(bytes: Uint8Array, from: number, to: number): number {
    const { minBytes, averageBytes, maxBytes } = this.#sizes;
    const start = from - this.#pendingBytes;
    // Bytes before the least length can't make a cut, and aren't hashed.
    const first = Math.max(from, start + minBytes);
    if (first >= to) return this.#goOn(to - start);
    const average = Math.min(to, start + averageBytes);
    let cut = first < average ? this.#scan(bytes, first, average, this.#maskBefore) : NO_CUT;
    if (cut !== NO_CUT) return this.#cut(cut);
    const last = Math.min(to, start + maxBytes);
    const behind = Math.max(first, average);
    cut = behind < last ? this.#scan(bytes, behind, last, this.#maskBehind) : NO_CUT;
    if (cut !== NO_CUT) return this.#cut(cut);
    return last === start + maxBytes ? this.#cut(last) : this.#goOn(to - start);
  }

  /** Ends the run, and with it its last chunk: the next byte begins another. */
  reset(): void {
    this.#hash = 0;
    this.#pendingBytes = 0;
  }

  #cut(at: number): number {
    this.reset();
    return at;
  }

  #goOn(pendingBytes: number): number {
    this.#pendingBytes = pendingBytes;
    return NO_CUT;
  }

  /** Offset behind the first byte in [from, to) after which the hash has no bit of `mask`. Four bytes a turn: three times as fast as one (1.1 GB/s). */
  #scan(bytes: Uint8Array, from: number, to: number, mask: number): number {
    const gear = this.#gear;
    let hash = this.#hash;
    let at = from;
    for (; at + 4 <= to; at += 4) {
      hash = ((hash << 1) + (gear[bytes[at] as number] as number)) | 0;
      if ((hash & mask) === 0) return at + 1;
      hash = ((hash << 1) + (gear[bytes[at + 1] as number] as number)) | 0;
      if ((hash & mask) === 0) return at + 2;
      hash = ((hash << 1) + (gear[bytes[at + 2] as number] as number)) | 0;
      if ((hash & mask) === 0) return at + 3;
      hash = ((hash << 1) + (gear[bytes[at + 3] as number] as number)) | 0;
      if ((hash & mask) === 0) return at + 4;
    }
    for (; at < to; at += 1) {
      hash = ((hash << 1) + (gear[bytes[at] as number] as number)) | 0;
      if ((hash & mask) === 0) return at + 1;
    }
    this.#hash = hash;
    return NO_CUT;
  }
}

/** A mask of the highest `count` bits: those on which most bytes before have had an effect. */
function highBits(count: number): number {
  return -1 << (32 - count);
}
