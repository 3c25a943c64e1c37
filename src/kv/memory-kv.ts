import { checkBatch, checkKey, checkKeys, checkRange } from "./kv-checks.ts";
import { KvError } from "./kv-error.ts";
import type { KvCapabilities, KvEntry, KvOperation, KvRange, KvShare, KvStatistics, KvStore } from "./kv-store.ts";
import { SortedKeys } from "./sorted-keys.ts";

/** The key-value port in memory: for tests, and wherever rows need not outlive the process. Nothing yields, so every call is one moment. */
export class MemoryKv implements KvStore {
  readonly capabilities: KvCapabilities = { persistent: false, shareable: false };

  // Keys as latin1 strings: a byte is a code unit, so strings compare as the bytes do (I1). Each key of #values is in #keys.
  readonly #keys = new SortedKeys();
  readonly #values = new Map<string, Buffer>();
  #bytes = 0;
  #closed = false;

  getSync(key: Uint8Array): Buffer | undefined {
    this.#assertOpen();
    checkKey(key);
    return copyOf(this.#values.get(keyString(key)));
  }

  getManySync(keys: readonly Uint8Array[]): (Buffer | undefined)[] {
    this.#assertOpen();
    checkKeys(keys);
    return keys.map((key) => copyOf(this.#values.get(keyString(key))));
  }

  rangeSync(range: KvRange): KvEntry[] {
    this.#assertOpen();
    checkRange(range);
    const entries: KvEntry[] = [];
    let bytes = 0;
    for (const key of this.#walk(range)) {
      const value = Buffer.from(this.#values.get(key) as Buffer);
      entries.push({ key: Buffer.from(key, "latin1"), value });
      bytes += key.length + value.length;
      if (entries.length >= range.limit || (range.bytesMax !== undefined && bytes >= range.bytesMax)) break;
    }
    return entries;
  }

  async batch(operations: readonly KvOperation[]): Promise<void> {
    this.#assertOpen();
    checkBatch(operations);
    for (const operation of operations) {
      const key = keyString(operation.key);
      if (operation.type === "put") this.#put(key, Buffer.from(operation.value));
      else this.#delete(key);
    }
  }

  async deleteRange(range: { readonly gte: Uint8Array; readonly lt: Uint8Array }): Promise<void> {
    this.#assertOpen();
    checkRange({ ...range, limit: 1 });
    for (const key of [...this.#walk({ ...range, limit: 1 })]) this.#delete(key);
  }

  async sync(): Promise<void> {
    this.#assertOpen();
  }

  statistics(): KvStatistics {
    this.#assertOpen();
    return { rowCountEstimate: this.#keys.count, diskBytes: 0, memoryBytes: this.#bytes, writesStopped: false };
  }

  share(): KvShare | undefined {
    this.#assertOpen();
    return undefined;
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  /** The keys of `range` in its direction. Its limit is the caller's business. */
  *#walk(range: KvRange): Generator<string, void> {
    const low = bound(range.gte ?? range.gt);
    const high = bound(range.lte ?? range.lt);
    const keys = range.reverse
      ? this.#keys.descending(high, range.lte !== undefined)
      : this.#keys.ascending(low ?? "", range.gt === undefined);
    for (const key of keys) {
      if (low !== undefined && (key < low || (key === low && range.gt !== undefined))) {
        if (range.reverse) return;
        continue;
      }
      if (high !== undefined && (key > high || (key === high && range.lt !== undefined))) {
        if (!range.reverse) return;
        continue;
      }
      yield key;
    }
  }

  #put(key: string, value: Buffer): void {
    const before = this.#values.get(key);
    if (before === undefined) this.#keys.add(key);
    this.#bytes += value.length + (before === undefined ? key.length : -before.length);
    this.#values.set(key, value);
  }

  #delete(key: string): void {
    const before = this.#values.get(key);
    if (before === undefined) return;
    this.#keys.remove(key);
    this.#bytes -= key.length + before.length;
    this.#values.delete(key);
  }

  #assertOpen(): void {
    if (this.#closed) throw new KvError("KV_CLOSED", "memory", "The key-value store in memory is closed.");
  }
}

function keyString(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1");
}

function bound(key: Uint8Array | undefined): string | undefined {
  return key === undefined ? undefined : keyString(key);
}

function copyOf(value: Buffer | undefined): Buffer | undefined {
  return value === undefined ? undefined : Buffer.from(value);
}
