import type {
  BlobCallOptions,
  BlobCapabilities,
  BlobEntry,
  BlobGetOptions,
  BlobListOptions,
  BlobPutOptions,
  BlobStat,
  BlobStore,
} from "./blob-store.ts";

/** What went through a store. Only ever grows. A call that failed counts too, and its bytes don't. */
export class BlobCounters {
  puts = 0;
  gets = 0;
  stats = 0;
  /** Pages of listings. */
  listPages = 0;
  deletes = 0;
  locks = 0;
  times = 0;
  /** Calls that ended with an error. */
  failures = 0;
  uploadedBytes = 0;
  downloadedBytes = 0;

  /** Calls in all, a page of a listing being one. */
  get calls(): number {
    return this.puts + this.gets + this.stats + this.listPages + this.deletes + this.locks + this.times;
  }
}

/** Counts what goes through, into `counters`. Below a `RetryingBlobs` it counts attempts. */
export class CountingBlobs implements BlobStore {
  readonly counters: BlobCounters;
  readonly #inner: BlobStore;

  constructor(inner: BlobStore, counters = new BlobCounters()) {
    this.#inner = inner;
    this.counters = counters;
  }

  get description(): string {
    return this.#inner.description;
  }

  get capabilities(): BlobCapabilities {
    return this.#inner.capabilities;
  }

  async put(name: string, body: readonly Uint8Array[], options: BlobPutOptions = {}): Promise<void> {
    this.counters.puts += 1;
    await this.#count(this.#inner.put(name, body, options));
    for (const part of body) this.counters.uploadedBytes += part.length;
  }

  async get(name: string, options: BlobGetOptions = {}): Promise<Buffer> {
    this.counters.gets += 1;
    const bytes = await this.#count(this.#inner.get(name, options));
    this.counters.downloadedBytes += bytes.length;
    return bytes;
  }

  async stat(name: string, options: BlobCallOptions = {}): Promise<BlobStat | undefined> {
    this.counters.stats += 1;
    return this.#count(this.#inner.stat(name, options));
  }

  async *list(prefix: string, options: BlobListOptions = {}): AsyncGenerator<readonly BlobEntry[]> {
    const pages = this.#inner.list(prefix, options);
    for (;;) {
      this.counters.listPages += 1;
      const next = await this.#count(pages.next());
      if (next.done === true) return;
      yield next.value;
    }
  }

  async delete(names: readonly string[], options: BlobCallOptions = {}): Promise<void> {
    this.counters.deletes += 1;
    await this.#count(this.#inner.delete(names, options));
  }

  async extendLock(name: string, untilMs: number, options: BlobCallOptions = {}): Promise<void> {
    this.counters.locks += 1;
    await this.#count(this.#inner.extendLock(name, untilMs, options));
  }

  async timeMs(options: BlobCallOptions = {}): Promise<number> {
    this.counters.times += 1;
    return this.#count(this.#inner.timeMs(options));
  }

  async close(): Promise<void> {
    await this.#inner.close();
  }

  async #count<T>(call: Promise<T>): Promise<T> {
    try {
      return await call;
    } catch (error) {
      this.counters.failures += 1;
      throw error;
    }
  }
}
