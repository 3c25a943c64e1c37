/**
 * The native calls of `@nxtedition/rocksdb` that we use, typed. We call them directly, not through its `RocksLevel`: that class
 * keeps every batch it ever made until the database is closed (each is attached as a resource and never detached), opens by itself
 * in a later turn, and in a second thread would open the directory anew if the first had closed it meanwhile. The package version
 * is pinned exactly, as this surface has no promise of stability.
 *
 * What the native code leaves to the caller, learnt from its source (`binding.cc`):
 *   - After `db_close`, or before `db_open`, any other call dereferences null: `rocks-kv.ts` lets none through.
 *   - An argument of a wrong type makes `db_query` dereference null: `kv-checks.ts` looks at every key and bound.
 *   - `db_query` reads `keyEncoding` and `valueEncoding` uninitialised when they are absent: always give both.
 *   - A collected `RocksContext` closes its database, whoever else uses it: `rocks-kv.ts` holds it until it is closed.
 *   - `WriteOptions.disableWAL`, `ReadOptions.snapshot` and approximate sizes of ranges cannot be reached.
 */
import { createRequire } from "node:module";

declare const context: unique symbol;
declare const batch: unique symbol;

/** One opened database, as seen by one thread. */
export type RocksContext = { readonly [context]: true };
/** A native write batch. */
export type RocksBatch = { readonly [batch]: true };

/** Options of `db_open` that we set. Everything else keeps the binding's default. */
export interface RocksOpenOptions {
  readonly createIfMissing: boolean;
  readonly compaction: "level";
  readonly memtableMemoryBudget: number;
  readonly cacheSize: number;
  readonly cacheIndexAndFilterBlocks: boolean;
  readonly compression: boolean;
  readonly optimize: "point-lookup";
  readonly walCompression: boolean;
  readonly parallelism: number;
}

/** Options of `db_query`. */
export interface RocksQueryOptions {
  readonly gte?: Uint8Array | undefined;
  readonly gt?: Uint8Array | undefined;
  readonly lt?: Uint8Array | undefined;
  readonly lte?: Uint8Array | undefined;
  readonly reverse?: boolean | undefined;
  readonly limit: number;
  /** The result ends with the row that makes the sum of key and value bytes exceed this. */
  readonly highWaterMarkBytes?: number | undefined;
  readonly keyEncoding: "buffer";
  readonly valueEncoding: "buffer";
  readonly fillCache: boolean;
  readonly asyncIO: boolean;
}

/** The native functions. Those without a callback are synchronous; errors are thrown, or the callback's first argument. */
export interface RocksBinding {
  /** A context for a directory, not yet open; or one for the database another thread of this process has open. */
  db_init(directoryOrHandle: string | bigint): RocksContext;
  db_open(db: RocksContext, options: RocksOpenOptions, done: (error: unknown) => void): unknown;
  db_close(db: RocksContext, done: (error: unknown) => void): void;
  db_get_handle(db: RocksContext): bigint;
  db_get_property(db: RocksContext, name: string): string;
  /** undefined: no such key. null: not read, the sum of the values is above 2 GiB. */
  db_get_many_sync(db: RocksContext, keys: readonly Uint8Array[], options: undefined): (Buffer | undefined | null)[];
  /** `rows`: key, value, key, value, … */
  db_query(db: RocksContext, options: RocksQueryOptions): { rows: Buffer[]; finished: boolean };
  /** Removes a range with one range tombstone. */
  db_clear(db: RocksContext, options: { readonly gte: Uint8Array; readonly lt: Uint8Array }): void;
  batch_init(): RocksBatch;
  batch_put(batch: RocksBatch, key: Uint8Array, value: Uint8Array, options: undefined): void;
  batch_del(batch: RocksBatch, key: Uint8Array, options: undefined): void;
  /** Empties the batch; keeps its memory. */
  batch_clear(batch: RocksBatch): void;
  batch_write(db: RocksContext, batch: RocksBatch, options: { readonly sync: true } | undefined): void;
}

/** The loaded native code. Loading fails with the loader's own message where no prebuilt binary fits the machine. */
export const rocksBinding = createRequire(import.meta.url)("@nxtedition/rocksdb/binding.js") as RocksBinding;
