/**
 * The key-value port on RocksDB.
 *
 * Durability and order. The write-ahead log is on and not synced by `batch`. On, because then `kill -9` loses nothing (the log is in the
 * page cache), so that the next start replays one log and not the journal of everything that was in write buffers; the binding also has
 * no switch to turn it off. Unsynced, because a sync holds the write queue of all threads, and what is applied has been made durable by the
 * journal before. After power loss RocksDB's point-in-time recovery (its default) takes the logs up to the first damage or gap and
 * nothing after; `rocks-log-seal.ts` closes the two holes it leaves. Tables and the manifest are synced by RocksDB itself before the log they
 * replace is dropped. There is one column family, so there is one order: the store is a prefix of its batches (I2, I3 of the port).
 *
 * Memory. `memoryBytesMax` is divided: half for write buffers (6 of them at the worst, of a quarter of `memtableMemoryBudget` each, so
 * 1.5 times the budget), half for the block cache, which with `cacheIndexAndFilterBlocks` also bounds indexes and filters. Compactions,
 * the log's buffers and the allocator come on top, some 10 to 20 MiB.
 *
 * Tables: leveled compaction; zstd from level 2 down, without dictionaries (they made ranges a quarter slower for 4 % of space);
 * filters and a hash index in each block for point reads.
 */
import type { MessagePort } from "node:worker_threads";
import { assert } from "../base/assert.ts";
import { KvError } from "./kv-error.ts";
import type { KvCapabilities, KvEntry, KvOperation, KvRange, KvShare, KvStatistics, KvStore } from "./kv-store.ts";
import { KV_SHARES_MAX } from "./kv-store.ts";
import { type RocksContext, type RocksOpenOptions, rocksBinding } from "./rocks-binding.ts";
import { RocksCalls } from "./rocks-calls.ts";
import { prepareRocksDirectory } from "./rocks-directory.ts";
import { rocksError } from "./rocks-error.ts";
import { OwnerGate, VisitorGate } from "./share-gate.ts";

const MEBIBYTE = 1024 * 1024;

/** 32 MiB of write buffers and 32 MiB of block cache: a sixth of the 400 MiB all our processes may take. */
export const ROCKS_MEMORY_BYTES_DEFAULT = 64 * MEBIBYTE;

/** Less gives write buffers under 1 MiB, and with them thousands of small tables. */
export const ROCKS_MEMORY_BYTES_MIN = 16 * MEBIBYTE;

/** The binding takes the cache's size as 32 bits. */
export const ROCKS_MEMORY_BYTES_MAX = 4096 * MEBIBYTE;

export interface RocksKvOptions {
  /** A directory of the store's own, on a local disk. */
  readonly directory: string;
  /** What to do when there is no store in it yet. A damaged one is never taken for a missing one. */
  readonly missing: "create" | "fail";
  /** Memory for write buffers and caches together, see the head of this file. */
  readonly memoryBytesMax?: number | undefined;
}

/** Stores that are open. A context that is collected would close its database under the threads that share it. */
const OPEN = new Set<RocksKv>();

/** A RocksDB that this thread has opened. Calls are those of the port. */
export class RocksKv implements KvStore {
  readonly capabilities: KvCapabilities = { persistent: true, shareable: true };
  readonly directory: string;
  readonly #context: RocksContext;
  readonly #calls: RocksCalls;
  readonly #gates = new Set<OwnerGate>();
  #closing: Promise<void> | undefined;

  private constructor(directory: string, context: RocksContext) {
    this.directory = directory;
    this.#context = context;
    this.#calls = new RocksCalls(context, directory);
    OPEN.add(this);
  }

  /**
   * Opens or creates the store in `options.directory`. Replays the write-ahead log, at most 128 MiB of it at the default memory. Throws
   * KV_LOCKED, KV_MISSING, KV_FOREIGN, KV_CORRUPT, KV_NO_SPACE (replaying writes tables) or KV_IO.
   */
  static async open(options: RocksKvOptions): Promise<RocksKv> {
    const memoryBytesMax = options.memoryBytesMax ?? ROCKS_MEMORY_BYTES_DEFAULT;
    assert(memoryBytesMax >= ROCKS_MEMORY_BYTES_MIN, "memoryBytesMax is below ROCKS_MEMORY_BYTES_MIN");
    assert(memoryBytesMax <= ROCKS_MEMORY_BYTES_MAX, "memoryBytesMax is above ROCKS_MEMORY_BYTES_MAX");
    await prepareRocksDirectory(options.directory, options.missing);
    const context = rocksBinding.db_init(options.directory);
    try {
      await new Promise<void>((resolve, reject) => {
        rocksBinding.db_open(context, openOptions(memoryBytesMax, options.missing), (error) =>
          error ? reject(error) : resolve(),
        );
      });
    } catch (error) {
      throw rocksError(error, options.directory, "open");
    }
    return new RocksKv(options.directory, context);
  }

  getSync(key: Uint8Array): Buffer | undefined {
    this.#assertOpen();
    return this.#calls.get(key);
  }

  getManySync(keys: readonly Uint8Array[]): (Buffer | undefined)[] {
    this.#assertOpen();
    return this.#calls.getMany(keys);
  }

  rangeSync(range: KvRange): KvEntry[] {
    this.#assertOpen();
    return this.#calls.range(range);
  }

  async batch(operations: readonly KvOperation[]): Promise<void> {
    this.#assertOpen();
    this.#calls.write(operations);
  }

  async deleteRange(range: { readonly gte: Uint8Array; readonly lt: Uint8Array }): Promise<void> {
    this.#assertOpen();
    this.#calls.deleteRange(range);
  }

  async sync(): Promise<void> {
    this.#assertOpen();
    this.#calls.sync();
  }

  statistics(): KvStatistics {
    this.#assertOpen();
    return this.#calls.statistics();
  }

  share(): KvShare {
    this.#assertOpen();
    assert(this.#gates.size < KV_SHARES_MAX, "more shares than KV_SHARES_MAX");
    const gate: OwnerGate = new OwnerGate(() => this.#gates.delete(gate));
    this.#gates.add(gate);
    const handle: RocksKvHandle = {
      kind: "tidemark-rocks-kv",
      processId: process.pid,
      database: rocksBinding.db_get_handle(this.#context),
      directory: this.directory,
      gateState: gate.ticket.state,
      gatePort: gate.ticket.port,
    };
    return { handle, transferList: [gate.ticket.port] };
  }

  close(): Promise<void> {
    // From here on #assertOpen fails. Calls of this thread are synchronous, so none is under way.
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    try {
      await Promise.all([...this.#gates].map((gate) => gate.close()));
      await new Promise<void>((resolve, reject) => {
        rocksBinding.db_close(this.#context, (error) => (error ? reject(error) : resolve()));
      });
    } catch (error) {
      throw rocksError(error, this.directory, "close");
    } finally {
      OPEN.delete(this);
    }
  }

  #assertOpen(): void {
    if (this.#closing !== undefined) throw closedError(this.directory);
  }
}

/** What `RocksKv.share` puts into a handle. */
interface RocksKvHandle {
  readonly kind: "tidemark-rocks-kv";
  readonly processId: number;
  /** Address of the native database object, which is never freed, only closed: valid in all threads of the process. */
  readonly database: bigint;
  readonly directory: string;
  readonly gateState: SharedArrayBuffer;
  readonly gatePort: MessagePort;
}

/**
 * Opens, in a worker thread, the store that another thread shares (`KvStore.share`). Calls are those of the port; `share` gives nothing,
 * `close` detaches this thread only. The handle can be opened once.
 */
export function openSharedRocksKv(handle: unknown): KvStore {
  assert(isRocksKvHandle(handle), "not the handle of a shared RocksDB");
  assert(handle.processId === process.pid, "the handle of a shared RocksDB was sent to another process");
  return new SharedRocksKv(handle);
}

class SharedRocksKv implements KvStore {
  readonly capabilities: KvCapabilities = { persistent: true, shareable: false };
  readonly #directory: string;
  readonly #calls: RocksCalls;
  readonly #gate: VisitorGate;

  constructor(handle: RocksKvHandle) {
    this.#directory = handle.directory;
    this.#calls = new RocksCalls(rocksBinding.db_init(handle.database), handle.directory);
    this.#gate = new VisitorGate({ state: handle.gateState, port: handle.gatePort });
  }

  getSync(key: Uint8Array): Buffer | undefined {
    return this.#inside(() => this.#calls.get(key));
  }

  getManySync(keys: readonly Uint8Array[]): (Buffer | undefined)[] {
    return this.#inside(() => this.#calls.getMany(keys));
  }

  rangeSync(range: KvRange): KvEntry[] {
    return this.#inside(() => this.#calls.range(range));
  }

  async batch(operations: readonly KvOperation[]): Promise<void> {
    this.#inside(() => this.#calls.write(operations));
  }

  async deleteRange(range: { readonly gte: Uint8Array; readonly lt: Uint8Array }): Promise<void> {
    this.#inside(() => this.#calls.deleteRange(range));
  }

  async sync(): Promise<void> {
    this.#inside(() => this.#calls.sync());
  }

  statistics(): KvStatistics {
    return this.#inside(() => this.#calls.statistics());
  }

  share(): KvShare | undefined {
    return this.#inside(() => undefined);
  }

  async close(): Promise<void> {
    this.#gate.close();
  }

  /** Runs `work`, which must be synchronous, while the owner can't close the database. */
  #inside<T>(work: () => T): T {
    if (!this.#gate.enter()) throw closedError(this.#directory);
    try {
      return work();
    } finally {
      this.#gate.leave();
    }
  }
}

function isRocksKvHandle(handle: unknown): handle is RocksKvHandle {
  return typeof handle === "object" && handle !== null && "kind" in handle && handle.kind === "tidemark-rocks-kv";
}

function closedError(directory: string): KvError {
  return new KvError("KV_CLOSED", directory, `The key-value store in "${directory}" is closed.`);
}

function openOptions(memoryBytesMax: number, missing: "create" | "fail"): RocksOpenOptions {
  const half = Math.floor(memoryBytesMax / 2);
  return {
    createIfMissing: missing === "create",
    compaction: "level",
    memtableMemoryBudget: Math.floor(half / 1.5),
    cacheSize: half,
    cacheIndexAndFilterBlocks: true,
    compression: false,
    optimize: "point-lookup",
    walCompression: false,
    // One flush and one compaction at a time.
    parallelism: 2,
  };
}
