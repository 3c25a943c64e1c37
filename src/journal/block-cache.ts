/** 2^32 positions in a segment, 2^21 ordinals: the key stays a safe number. */
const ORDINAL_FACTOR = 2 ** 32;

/** Verified blocks of data, least recently used out first, bounded by bytes. They are copies in memory, so what is read from here needs no checksum again. */
export class BlockCache {
  readonly #bytesMax: number;
  readonly #blocks = new Map<number, Buffer>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** The block whose first byte is at `position` of the segment with this ordinal. Not to be changed. */
  get(ordinal: number, position: number): Buffer | undefined {
    const key = ordinal * ORDINAL_FACTOR + position;
    const block = this.#blocks.get(key);
    if (block === undefined) return undefined;
    this.#blocks.delete(key);
    this.#blocks.set(key, block);
    return block;
  }

  /** Forgets all of them. */
  clear(): void {
    this.#blocks.clear();
    this.#bytes = 0;
  }

  /** Keeps `block`, which must own its memory or be most of what owns it. */
  add(ordinal: number, position: number, block: Buffer): void {
    const key = ordinal * ORDINAL_FACTOR + position;
    if (this.#blocks.has(key)) return;
    this.#blocks.set(key, block);
    this.#bytes += block.length;
    for (const [oldest, evicted] of this.#blocks) {
      if (this.#bytes <= this.#bytesMax) break;
      this.#blocks.delete(oldest);
      this.#bytes -= evicted.length;
    }
  }
}
