/** Decoded blocks, as they are or parsed, the least recently used of which go first. */
export class BlockCache<B extends { readonly byteLength: number } = Buffer> {
  readonly #bytesMax: number;
  // In the order of use.
  readonly #blocks = new Map<string, B>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Bytes that are kept. */
  get bytes(): number {
    return this.#bytes;
  }

  get(key: string): B | undefined {
    const block = this.#blocks.get(key);
    if (block === undefined) return undefined;
    this.#blocks.delete(key);
    this.#blocks.set(key, block);
    return block;
  }

  set(key: string, block: B): void {
    this.#delete(key);
    this.#blocks.set(key, block);
    this.#bytes += block.byteLength;
    for (const oldest of this.#blocks.keys()) {
      if (this.#bytes <= this.#bytesMax) return;
      this.#delete(oldest);
    }
  }

  clear(): void {
    this.#blocks.clear();
    this.#bytes = 0;
  }

  #delete(key: string): void {
    this.#bytes -= this.#blocks.get(key)?.byteLength ?? 0;
    this.#blocks.delete(key);
  }
}
