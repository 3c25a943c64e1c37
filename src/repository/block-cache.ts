/** Decoded blocks, the least recently used of which go first. */
export class BlockCache {
  readonly #bytesMax: number;
  // In the order of use.
  readonly #blocks = new Map<string, Buffer>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Bytes that are kept. */
  get bytes(): number {
    return this.#bytes;
  }

  get(key: string): Buffer | undefined {
    const block = this.#blocks.get(key);
    if (block === undefined) return undefined;
    this.#blocks.delete(key);
    this.#blocks.set(key, block);
    return block;
  }

  set(key: string, block: Buffer): void {
    this.#delete(key);
    this.#blocks.set(key, block);
    this.#bytes += block.length;
    for (const oldest of this.#blocks.keys()) {
      if (this.#bytes <= this.#bytesMax) return;
      this.#delete(oldest);
    }
  }

  #delete(key: string): void {
    this.#bytes -= this.#blocks.get(key)?.length ?? 0;
    this.#blocks.delete(key);
  }
}
