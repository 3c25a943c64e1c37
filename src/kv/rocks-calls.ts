import { checkBatch, checkKey, checkKeys, checkRange } from "./kv-checks.ts";
import { KvError } from "./kv-error.ts";
import type { KvEntry, KvOperation, KvRange, KvStatistics } from "./kv-store.ts";
import { type RocksBatch, type RocksContext, rocksBinding } from "./rocks-binding.ts";
import { rocksError } from "./rocks-error.ts";

/** A native batch keeps the memory of its largest use; above this it is given back. The applier's batches are a few hundred KiB. */
const BATCH_KEPT_BYTES_MAX = 4 * 1024 * 1024;

/**
 * The port's calls on an open database, synchronous, for one thread. The caller guarantees that the database is open from the start of
 * each call to its end.
 */
export class RocksCalls {
  readonly #context: RocksContext;
  readonly #directory: string;
  #batch: RocksBatch | undefined;

  constructor(context: RocksContext, directory: string) {
    this.#context = context;
    this.#directory = directory;
  }

  get(key: Uint8Array): Buffer | undefined {
    checkKey(key);
    return this.#getMany([key])[0];
  }

  getMany(keys: readonly Uint8Array[]): (Buffer | undefined)[] {
    checkKeys(keys);
    return keys.length === 0 ? [] : this.#getMany(keys);
  }

  range(range: KvRange): KvEntry[] {
    checkRange(range);
    const rows = this.#query(range);
    const entries: KvEntry[] = [];
    for (let index = 0; index < rows.length; index += 2) {
      entries.push({ key: rows[index] as Buffer, value: rows[index + 1] as Buffer });
    }
    return entries;
  }

  write(operations: readonly KvOperation[]): void {
    checkBatch(operations);
    if (operations.length === 0) return;
    this.#batch ??= rocksBinding.batch_init();
    const batch = this.#batch;
    let bytes = 0;
    try {
      for (const operation of operations) {
        bytes += operation.key.length;
        if (operation.type === "put") {
          bytes += operation.value.length;
          rocksBinding.batch_put(batch, operation.key, operation.value, undefined);
        } else {
          rocksBinding.batch_del(batch, operation.key, undefined);
        }
      }
      rocksBinding.batch_write(this.#context, batch, undefined);
    } catch (error) {
      throw rocksError(error, this.#directory, "write to");
    } finally {
      rocksBinding.batch_clear(batch);
      if (bytes > BATCH_KEPT_BYTES_MAX) this.#batch = undefined;
    }
  }

  deleteRange(range: { readonly gte: Uint8Array; readonly lt: Uint8Array }): void {
    checkRange({ gte: range.gte, lt: range.lt, limit: 1 });
    try {
      rocksBinding.db_clear(this.#context, { gte: range.gte, lt: range.lt });
    } catch (error) {
      throw rocksError(error, this.#directory, "write to");
    }
  }

  sync(): void {
    try {
      // An empty batch, written with sync: RocksDB syncs the logs that earlier batches are in, all of them that aren't yet.
      rocksBinding.batch_write(this.#context, rocksBinding.batch_init(), { sync: true });
    } catch (error) {
      throw rocksError(error, this.#directory, "write to");
    }
  }

  statistics(): KvStatistics {
    const memory =
      this.#property("rocksdb.size-all-mem-tables") +
      this.#property("rocksdb.block-cache-usage") +
      this.#property("rocksdb.estimate-table-readers-mem");
    return {
      rowCountEstimate: this.#property("rocksdb.estimate-num-keys"),
      diskBytes: this.#property("rocksdb.total-sst-files-size"),
      memoryBytes: memory,
      writesStopped: this.#property("rocksdb.is-write-stopped") === 1,
    };
  }

  #getMany(keys: readonly Uint8Array[]): (Buffer | undefined)[] {
    let values: (Buffer | undefined | null)[];
    try {
      values = rocksBinding.db_get_many_sync(this.#context, keys, undefined);
    } catch (error) {
      throw rocksError(error, this.#directory, "read from");
    }
    if (values.includes(null)) {
      throw new KvError(
        "KV_IO",
        this.#directory,
        `Rows of more than 2 GiB were asked for at once of the key-value store in "${this.#directory}".`,
      );
    }
    return values as (Buffer | undefined)[];
  }

  #query(range: KvRange): Buffer[] {
    try {
      return rocksBinding.db_query(this.#context, {
        gte: range.gte,
        gt: range.gt,
        lt: range.lt,
        lte: range.lte,
        reverse: range.reverse,
        limit: range.limit,
        // A result that ends by bytes does not look for a next row. That matters for "the first row after": behind it there may be a
        // thousand deleted ones to step over.
        highWaterMarkBytes:
          range.limit === 1 ? 0 : range.bytesMax === undefined ? undefined : Math.min(range.bytesMax - 1, 0x7fff_ffff),
        keyEncoding: "buffer",
        valueEncoding: "buffer",
        fillCache: true,
        asyncIO: false,
      }).rows;
    } catch (error) {
      throw rocksError(error, this.#directory, "read from");
    }
  }

  #property(name: string): number {
    return Number(rocksBinding.db_get_property(this.#context, name));
  }
}
