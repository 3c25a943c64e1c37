import { KvError } from "../kv/kv-error.ts";
import type { KvEntry, KvOperation, KvRange, KvShare, KvStatistics, KvStore } from "../kv/kv-store.ts";

/** A store that tells when it finds itself damaged: for one that can be made again. Everything else is the inner store's. */
export class WatchedKv implements KvStore {
  readonly #inner: KvStore;
  readonly #onCorrupt: () => void;

  constructor(inner: KvStore, onCorrupt: () => void) {
    this.#inner = inner;
    this.#onCorrupt = onCorrupt;
  }

  get capabilities(): KvStore["capabilities"] {
    return this.#inner.capabilities;
  }

  getSync(key: Uint8Array): Buffer | undefined {
    return this.#watch(() => this.#inner.getSync(key));
  }

  getManySync(keys: readonly Uint8Array[]): (Buffer | undefined)[] {
    return this.#watch(() => this.#inner.getManySync(keys));
  }

  rangeSync(range: KvRange): KvEntry[] {
    return this.#watch(() => this.#inner.rangeSync(range));
  }

  batch(operations: readonly KvOperation[]): Promise<void> {
    return this.#watchLater(this.#inner.batch(operations));
  }

  deleteRange(range: { readonly gte: Uint8Array; readonly lt: Uint8Array }): Promise<void> {
    return this.#watchLater(this.#inner.deleteRange(range));
  }

  sync(): Promise<void> {
    return this.#watchLater(this.#inner.sync());
  }

  statistics(): KvStatistics {
    return this.#inner.statistics();
  }

  share(): KvShare | undefined {
    return this.#inner.share();
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  #watch<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      this.#note(error);
      throw error;
    }
  }

  async #watchLater(work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (error) {
      this.#note(error);
      throw error;
    }
  }

  #note(error: unknown): void {
    if (error instanceof KvError && error.code === "KV_CORRUPT") this.#onCorrupt();
  }
}
