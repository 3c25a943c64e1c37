import type { Log } from "../base/log.ts";
import type { Timers } from "../base/timers.ts";
import { FsError } from "../domain/errors.ts";
import type { Lsn } from "../domain/ids.ts";
import type { FileOps } from "./file-ops.ts";

/** A segment that is, or was, written to. */
export type DirtyFile = {
  readonly segment: number;
  readonly fd: number;
  /** Of the last record in it. */
  lastLsn: Lsn;
  /** Its name in the folder survives power loss. */
  named: boolean;
  sealed: boolean;
  /** What had been appended to the journal, in this process, when its last record was. */
  appendedBytes?: number;
};

export type SyncQueueOptions = {
  readonly ops: FileOps;
  readonly timers: Timers;
  readonly log: Log;
  readonly backgroundSyncDelayMs: number;
  readonly durableLsn: Lsn;
  /** Makes the folder's names durable. */
  readonly syncFolder: () => Promise<void>;
  /** A sealed file needs no further sync. */
  readonly onSealedDurable: (file: DirtyFile) => void;
};

type Waiter = { readonly lsn: Lsn; readonly resolve: () => void; readonly reject: (error: FsError) => void };

/**
 * Decides when what was appended becomes durable: one sync at a time, shared by all who wait (group commit).
 *
 * Invariants
 * S1  The durable LSN passes a record only after an fdatasync of its file, begun after the record was written, succeeded; and after the
 *     file's name was made durable; and after the same for all earlier files.
 * S2  Nothing is unsynced without a timer or a sync under way, unless the queue failed.
 * S3  After a failed sync nothing becomes durable any more (FORMAT.md, "Append, sync, and the crash argument", 6).
 */
export class SyncQueue {
  readonly #options: SyncQueueOptions;
  // Oldest first. Bound: a roll waits for nothing, so this grows by one for each 64 MiB appended during one sync.
  readonly #files: DirtyFile[] = [];
  #waiters: Waiter[] = [];
  readonly #listeners = new Set<(durable: Lsn) => void>();
  #durableLsn: Lsn;
  #appendedLsn: Lsn;
  #appendedBytes = 0;
  #durableBytes = 0;
  #running: Promise<void> | undefined;
  #cancelTimer: (() => void) | undefined;
  #failure: FsError | undefined;

  constructor(options: SyncQueueOptions) {
    this.#options = options;
    this.#durableLsn = options.durableLsn;
    this.#appendedLsn = options.durableLsn;
  }

  get durableLsn(): Lsn {
    return this.#durableLsn;
  }

  get unsyncedBytes(): number {
    return this.#appendedBytes - this.#durableBytes;
  }

  /** Set after a sync failed. */
  get failure(): FsError | undefined {
    return this.#failure;
  }

  /** `file` will be written to from now on, after all earlier ones. */
  add(file: DirtyFile): void {
    this.#files.push(file);
  }

  /** A record of `length` bytes was appended to the newest file. */
  appended(lsn: Lsn, length: number): void {
    this.#appendedLsn = lsn;
    this.#appendedBytes += length;
    const file = this.#files[this.#files.length - 1];
    if (file !== undefined) {
      file.lastLsn = lsn;
      file.appendedBytes = this.#appendedBytes;
    }
    if (this.#cancelTimer === undefined && this.#running === undefined) this.#arm();
  }

  /** The newest file gets no further records. */
  seal(): void {
    const file = this.#files[this.#files.length - 1];
    if (file === undefined) return;
    file.sealed = true;
    if (this.#running === undefined) this.#releaseDurable();
  }

  /** Resolves when `lsn` is durable. Throws EIO after a failed sync. */
  sync(lsn: Lsn): Promise<void> {
    if (lsn <= this.#durableLsn) return Promise.resolve();
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#waiters.push({ lsn, resolve, reject });
      this.#start();
    });
  }

  /** Calls `listener` with the durable LSN whenever it moved. Returns how to stop. */
  onDurable(listener: (durable: Lsn) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Nothing becomes durable any more: everyone who waits gets EIO. */
  fail(cause: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = new FsError("EIO", "the journal could not be made durable", { cause });
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter.reject(this.#failure);
  }

  /** Ends: no timer, no sync under way. Hands back the files still open. What is unsynced stays so: sync first. */
  async close(): Promise<DirtyFile[]> {
    await this.#running;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    return this.#files.splice(0);
  }

  #arm(): void {
    this.#cancelTimer = this.#options.timers.after(this.#options.backgroundSyncDelayMs, () => {
      this.#cancelTimer = undefined;
      this.#start();
    });
  }

  #start(): void {
    if (this.#running !== undefined || this.#failure !== undefined) return;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#running = this.#run().finally(() => {
      this.#running = undefined;
      if (this.#failure !== undefined) return;
      // Whoever came during the last fdatasync is served by the next one; what nobody waits for gets the timer (S2).
      if (this.#waiters.length > 0) this.#start();
      else if (this.#appendedLsn > this.#durableLsn) this.#arm();
    });
  }

  async #run(): Promise<void> {
    try {
      // Files that come while this runs are the next run's.
      for (const file of [...this.#files]) await this.#syncFile(file);
    } catch (error) {
      const unsynced = { durableLsn: this.#durableLsn, appendedLsn: this.#appendedLsn };
      this.#options.log.alarm("a journal could not be made durable: no further changes are taken", {
        ...unsynced,
        cause: error,
      });
      this.fail(error);
    }
    this.#releaseDurable();
  }

  async #syncFile(file: DirtyFile): Promise<void> {
    const { lastLsn: reached, appendedBytes = 0 } = file;
    if (reached <= this.#durableLsn) return;
    if (!file.named) {
      await this.#options.syncFolder();
      file.named = true;
    }
    await this.#options.ops.sync(file.fd);
    if (this.#failure !== undefined) return;
    this.#durableBytes = appendedBytes;
    this.#advance(reached);
  }

  #advance(durable: Lsn): void {
    this.#durableLsn = durable;
    const waiting: Waiter[] = [];
    const served: Waiter[] = [];
    for (const waiter of this.#waiters) (waiter.lsn <= durable ? served : waiting).push(waiter);
    this.#waiters = waiting;
    for (const waiter of served) waiter.resolve();
    for (const listener of this.#listeners) {
      try {
        listener(durable);
      } catch (error) {
        // A listener's bug says nothing about the disk: it must not pass for a failed sync.
        this.#options.log.error("a listener for the durable LSN failed", { cause: error });
      }
    }
  }

  #releaseDurable(): void {
    while (this.#files[0]?.sealed === true && this.#files[0].lastLsn <= this.#durableLsn) {
      const file = this.#files.shift();
      if (file !== undefined) this.#options.onSealedDurable(file);
    }
  }
}
