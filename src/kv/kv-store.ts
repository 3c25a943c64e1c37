/**
 * The ordered key-value port: where the rows of the metadata engine are kept, and what is derived from the journal lives.
 *
 * May import: `src/base`, `src/domain`. Adapters: `rocks-kv.ts` (on disk), `memory-kv.ts` (tests); both pass
 * `test/contract/kv-contract.ts`. How it fails: always with a `KvError` (`kv-error.ts`).
 *
 * Invariants every adapter keeps:
 *   I1  Keys are ordered as strings of unsigned bytes; a key that is a prefix of another comes before it.
 *   I2  A batch is seen whole or not at all, by every reader of every thread, and after every crash.
 *   I3  After a crash or power loss the store is exactly what some number of its oldest writes made of it: a newest part may be
 *       missing, but never a write without all the writes before it. So a batch that carries "applied up to LSN n" tells the truth.
 *   I4  One call of `getManySync` or `rangeSync` reads one moment.
 *   I5  A batch is not durable by itself: durability is the journal's. `sync` and `close` leave everything on disk.
 *   I6  What was damaged on disk is an error (KV_CORRUPT), never a wrong or a missing row.
 */
import type { MessagePort } from "node:worker_threads";

/** Longest key in bytes. The longest row key is an inode, a name or xattr name of 255 bytes and a few numbers: under 600. */
export const KV_KEY_BYTES_MAX = 4096;

/** Longest value in bytes. The longest rows are an xattr (64 KiB) and a chunk's checkpoint of extents (a few MiB at worst). */
export const KV_VALUE_BYTES_MAX = 16 * 1024 * 1024;

/** Most keys of one `getManySync` and most rows of one `rangeSync`: about 50 ms of a loop that nobody else gets meanwhile. */
export const KV_READ_ROWS_MAX = 10_000;

/** Most keys and values, in bytes, of one batch: it is held in memory twice while it is written. */
export const KV_BATCH_BYTES_MAX = 64 * 1024 * 1024;

/** One change of a batch. Later operations of a batch win over earlier ones on the same key. */
export type KvOperation =
  | { readonly type: "put"; readonly key: Uint8Array; readonly value: Uint8Array }
  | { readonly type: "del"; readonly key: Uint8Array };

/** A row as it was read. Both buffers belong to the caller. */
export interface KvEntry {
  readonly key: Buffer;
  readonly value: Buffer;
}

/** What `rangeSync` reads. At most one of `gte`, `gt` and at most one of `lt`, `lte`; a bound that is absent is open. */
export interface KvRange {
  readonly gte?: Uint8Array | undefined;
  readonly gt?: Uint8Array | undefined;
  readonly lt?: Uint8Array | undefined;
  readonly lte?: Uint8Array | undefined;
  /** From the last key to the first. Bounds mean the same. */
  readonly reverse?: boolean | undefined;
  /** Most rows to return, 1 to `KV_READ_ROWS_MAX`. */
  readonly limit: number;
  /** End with the row that makes the sum of key and value bytes reach this (so at least one row is returned). At least 1. */
  readonly bytesMax?: number | undefined;
}

/** Rough figures, for status and metrics, never for a decision about data. */
export interface KvStatistics {
  /** Number of rows, give or take superseded and deleted ones. */
  readonly rowCountEstimate: number;
  /** Bytes of the tables on disk, without the write-ahead log. 0 in memory. */
  readonly diskBytes: number;
  /** Bytes of memory held for rows: write buffers, caches, indexes. */
  readonly memoryBytes: number;
  /** Writers are being made to wait for a compaction right now. */
  readonly writesStopped: boolean;
}

/** What differs between stores, as data. */
export interface KvCapabilities {
  /** Rows are there again when the same store is opened later. */
  readonly persistent: boolean;
  /** `share` gives other threads of this process the same store. */
  readonly shareable: boolean;
}

/** What a worker thread needs to open the same store: `new Worker(file, { workerData: { kv: share.handle }, transferList: share.transferList })`. */
export interface KvShare {
  /** Opaque; passes through `workerData` or `postMessage` once, together with `transferList`. Given to the adapter's `openShared…`. */
  readonly handle: unknown;
  readonly transferList: MessagePort[];
}

/**
 * An ordered store of byte strings. Every method may be called from the thread that opened it (or attached to it) only.
 *
 * For all methods: keys have 1 to `KV_KEY_BYTES_MAX` bytes, values 0 to `KV_VALUE_BYTES_MAX` (asserted: breaking these is our own
 * bug). Buffers passed in are read before the call returns and may be reused at once; buffers passed out belong to the caller.
 * Errors: `KvError` with KV_CLOSED once `close` was called on the store or on the one it is attached to; KV_CORRUPT when what was
 * read does not match its checksum; KV_IO for other failures of the disk.
 */
export interface KvStore {
  readonly capabilities: KvCapabilities;

  /** The value of `key`, or undefined. Answers in the same turn; reads the disk when the row is not cached. */
  getSync(key: Uint8Array): Buffer | undefined;

  /** The values of `keys`, in their order, undefined where absent; all of one moment (I4). At most `KV_READ_ROWS_MAX` keys. */
  getManySync(keys: readonly Uint8Array[]): (Buffer | undefined)[];

  /**
   * The rows of a range, in key order or reversed, all of one moment (I4). Fewer rows than `limit`, with no `bytesMax` given, means the
   * range is finished; else go on with `gt` (reverse: `lt`) the last key until nothing comes. An inverted range is empty.
   */
  rangeSync(range: KvRange): KvEntry[];

  /**
   * Applies all operations or none (I2), after everything this thread wrote before (I3: "oldest" is the order of these calls). Already
   * visible to every reader when the promise settles. Repeat-safe. May wait for a compaction, holding the calling thread: so the loop
   * that serves requests doesn't write, a worker on the shared handle does. An empty batch succeeds. Throws KV_NO_SPACE (nothing was
   * applied; later batches succeed again some seconds after there is room) and KV_IO (nothing was applied; `close` and open again).
   */
  batch(operations: readonly KvOperation[]): Promise<void>;

  /**
   * Removes all rows with `gte` ≤ key < `lt`, atomically, as one write of its own in the order of the batches. Costs the same for any
   * number of rows, but leaves a mark that slows reads near it until it is compacted away: for whole apps, not for files. Repeat-safe.
   * An inverted range removes nothing. Throws as `batch`.
   */
  deleteRange(range: { readonly gte: Uint8Array; readonly lt: Uint8Array }): Promise<void>;

  /**
   * When it settles, everything written before the call, by any thread, survives power loss. For whoever is about to destroy what the rows
   * could be derived from again, as when a segment is removed; not for ordinary writes. Holds the calling thread, and the writers of
   * other threads, for as long as the disk takes. In memory it does nothing. Throws as `batch`.
   */
  sync(): Promise<void>;

  /** Rough figures. A few µs. */
  statistics(): KvStatistics;

  /**
   * A new way in for one worker thread of this process, or undefined where `capabilities.shareable` is false. It ends with `close` of either
   * side or with the thread, however that ends. At most `KV_SHARES_MAX` at a time (asserted). The thread that opened the store must
   * outlive the others or close the store before it ends, so it is the main thread that opens.
   */
  share(): KvShare | undefined;

  /**
   * Ends the store: every later call, here and in the threads it is shared with, fails with KV_CLOSED; a call that is under way in another
   * thread is waited for. Then all rows are on disk and the lock is released. Closing again returns the same promise. On an attached
   * store it only detaches this thread. Throws KV_IO if the last rows couldn't be written: the store is closed all the same, and opens
   * again with a prefix of what was written (I3).
   */
  close(): Promise<void>;
}

/** Threads that share one store: an applier, a collector, a backup reader, and room for as many again and more. */
export const KV_SHARES_MAX = 16;
