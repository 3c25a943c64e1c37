import type { Log } from "../base/log.ts";
import { SystemTimers, type Timers } from "../base/timers.ts";
import { FsError } from "../domain/errors.ts";
import type { AppId, Lsn } from "../domain/ids.ts";
import type { KvStore } from "../kv/kv-store.ts";
import { addToCounters, type Counters, encodeApplied } from "./counters.ts";
import { plainKey, TABLE } from "./keys.ts";
import { type RowStore, slotPrefix } from "./row-store.ts";

/** What one round applied. */
export type Applied = { readonly lsn: Lsn; readonly counters: Counters };

/** Carries the durable part of a journal into the KV. */
export interface ApplyBackend {
  /**
   * Applies records after `from` up to `to` (all durable), at least one, at most a bounded batch, atomically with the applied LSN it reaches.
   * `counters` are the totals at `from`.
   */
  apply(from: Lsn, to: Lsn, counters: Counters): Promise<Applied>;
  /** Makes what was applied survive power loss. Throws as `KvStore.sync`. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** Records of one in-process batch. */
const RECORDS_PER_BATCH = 2000;

/** Applies from the overlay's own queue, in this process: for the memory KV, and wherever no worker can be had. */
export class LocalApplyBackend implements ApplyBackend {
  readonly #kv: KvStore;
  readonly #store: RowStore;
  readonly #slot: Buffer;

  constructor(kv: KvStore, store: RowStore, slot: number) {
    this.#kv = kv;
    this.#store = store;
    this.#slot = slotPrefix(slot);
  }

  async apply(_from: Lsn, to: Lsn, counters: Counters): Promise<Applied> {
    const totals = { ...counters };
    const operations: Parameters<KvStore["batch"]>[0][number][] = [];
    let lsn = _from;
    for (const record of this.#store.pendingUpTo(to, RECORDS_PER_BATCH)) {
      for (const row of record.rows) {
        const key = Buffer.concat([this.#slot, row.key]);
        operations.push(row.value === null ? { type: "del", key } : { type: "put", key, value: row.value });
      }
      addToCounters(totals, record.rows);
      lsn = record.lsn;
    }
    const key = Buffer.concat([this.#slot, plainKey(TABLE.APPLIED)]);
    await this.#kv.batch([...operations, { type: "put", key, value: encodeApplied(lsn, totals) }]);
    return { lsn, counters: totals };
  }

  sync(): Promise<void> {
    return this.#kv.sync();
  }

  async close(): Promise<void> {}
}

export type ApplierOptions = {
  readonly appId: AppId;
  readonly backend: ApplyBackend;
  readonly store: RowStore;
  readonly log: Log;
  /** Totals at the applied LSN. */
  readonly counters: Counters;
  /** Called each time the KV has no room: to make some. */
  readonly onNoSpace?: () => void;
  readonly timers?: Timers;
};

/**
 * How long durable rows wait for more of them before they are applied: somebody who syncs a thousand times a second shall not pay for a message, a batch and a
 * thread's waking each time. They wait in the overlay, where the journal makes them safe.
 */
const GATHER_MS = 50;

/** Overlay at which they wait no longer: a few of the worker's batches. */
const GATHER_BYTES_MAX = 4 * 1024 * 1024;

/** Waits between attempts while the KV has no room: RocksDB itself looks for room every few seconds. */
const RETRY_MS_MIN = 100;
const RETRY_MS_MAX = 5000;

/**
 * Drives one app's backend: whenever the durable LSN moves, applies up to it, and tells the store.
 * A KV without room is tried again until there is some: the rows wait in the overlay, which the journal makes safe; writers who find it full get ENOSPC.
 * A KV that fails in another way stops it with an alarm: writers who find the overlay full get EIO.
 */
export class Applier {
  readonly #options: ApplierOptions;
  #counters: Counters;
  #target: Lsn;
  #running: Promise<void> | undefined;
  #closed = false;
  #closing = false;
  #waiters: { readonly resolve: () => void; readonly reject: (error: FsError) => void }[] = [];
  #progress: (() => void)[] = [];
  #noSpace = false;
  #endPause: (() => void) | undefined;
  #cancelGathering: (() => void) | undefined;
  failed: unknown;

  constructor(options: ApplierOptions) {
    this.#options = options;
    this.#counters = options.counters;
    this.#target = options.store.appliedLsn;
  }

  /** Tells how far the journal is durable. */
  durable(lsn: Lsn): void {
    if (lsn <= this.#target || this.#closed) return;
    this.#target = lsn;
    if (this.#running === undefined) this.#gather();
  }

  /** The KV has no room; rows wait. */
  get isOutOfSpace(): boolean {
    return this.#noSpace;
  }

  /** Resolves after the next batch: for who makes sure that one comes. Rejects with ENOSPC while the KV has no room, with EIO when it failed. */
  nextBatch(): Promise<void> {
    const refusal = this.#refusal();
    if (refusal !== undefined) return rejected(refusal);
    this.#hurry();
    const next = new Promise<void>((resolve, reject) => this.#waiters.push({ resolve, reject }));
    // Who asks may be waiting for the journal first: a refusal is still theirs, and nobody's surprise.
    next.catch(() => {});
    return next;
  }

  /** Makes what was applied survive power loss. Throws as `KvStore.sync`. */
  syncKv(): Promise<void> {
    return this.#options.backend.sync();
  }

  /** Resolves when everything up to `lsn` is applied. Rejects when the KV failed. */
  async reached(lsn: Lsn): Promise<void> {
    while (this.#options.store.appliedLsn < lsn) {
      if (this.failed !== undefined) throw this.failed;
      if (this.#closed) throw new FsError("EIO", "the service is stopping");
      this.#hurry();
      await new Promise<void>((resolve) => this.#progress.push(resolve));
    }
  }

  /** Ends after the batches that are wanted, or at once when there is no room for them: the journal has them. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#endPause?.();
    this.#hurry();
    while (this.#running !== undefined) await this.#running;
    this.#closed = true;
    this.#cancelGathering?.();
    await this.#options.backend.close();
    this.#wake();
  }

  /** Starts applying what is durable, now or a little later. */
  #gather(): void {
    const isWanted = this.#waiters.length > 0 || this.#progress.length > 0;
    if (isWanted || this.#options.store.pendingBytes >= GATHER_BYTES_MAX) {
      this.#hurry();
      return;
    }
    const timers = this.#options.timers ?? SYSTEM_TIMERS;
    this.#cancelGathering ??= timers.after(GATHER_MS, () => this.#hurry());
  }

  /** Starts applying now what is durable. */
  #hurry(): void {
    this.#cancelGathering?.();
    this.#cancelGathering = undefined;
    if (this.#running !== undefined || this.#closed || this.failed !== undefined) return;
    // One attempt is enough to know that there is no room: who waits for more is told so when it is closed.
    if (this.#closing && this.#noSpace) return;
    if (this.#options.store.appliedLsn < this.#target) this.#running = this.#run();
  }

  async #run(): Promise<void> {
    const { store, log, appId } = this.#options;
    const goal = this.#target;
    try {
      for (let delayMs = RETRY_MS_MIN; store.appliedLsn < goal && !this.#closed; ) {
        if (await this.#apply()) {
          delayMs = RETRY_MS_MIN;
          continue;
        }
        // The journal has what there is no room for.
        if (this.#closing) return;
        await this.#pause(delayMs);
        delayMs = Math.min(2 * delayMs, RETRY_MS_MAX);
      }
    } catch (error) {
      this.failed = error;
      log.alarm("the applier stopped: rows can't be written to the KV; restart the service when the cause is gone", {
        appId,
        error: String(error),
      });
      this.#wake();
    } finally {
      this.#running = undefined;
      if (this.failed === undefined && !this.#closed && store.appliedLsn < this.#target) this.#gather();
    }
  }

  /** One batch. Answers false when there was no room for it. */
  async #apply(): Promise<boolean> {
    const { store, backend, log, appId } = this.#options;
    try {
      const applied = await backend.apply(store.appliedLsn, this.#target, this.#counters);
      if (this.#noSpace) log.info("there is room again: rows are applied", { appId });
      this.#noSpace = false;
      this.#counters = applied.counters;
      store.applied(applied.lsn);
      this.#wake();
      return true;
    } catch (error) {
      if ((error as { code?: unknown }).code !== "KV_NO_SPACE") throw error;
      if (!this.#noSpace)
        log.alarm("the disk is full: rows wait in memory until there is room", { appId, error: String(error) });
      this.#noSpace = true;
      this.#options.onNoSpace?.();
      this.#wake();
      return false;
    }
  }

  async #pause(delayMs: number): Promise<void> {
    const timers = this.#options.timers ?? SYSTEM_TIMERS;
    await new Promise<void>((resolve) => {
      const cancel = timers.after(delayMs, resolve);
      this.#endPause = () => {
        cancel();
        resolve();
      };
    });
    this.#endPause = undefined;
  }

  #refusal(): FsError | undefined {
    if (this.failed !== undefined) return new FsError("EIO", "rows can't be written to the KV", { cause: this.failed });
    return this.#noSpace ? FsError.of("ENOSPC") : undefined;
  }

  #wake(): void {
    const waiters = this.#waiters;
    const progress = this.#progress;
    const refusal = this.#refusal();
    this.#waiters = [];
    this.#progress = [];
    for (const waiter of waiters) {
      if (refusal === undefined) waiter.resolve();
      else waiter.reject(refusal);
    }
    for (const wake of progress) wake();
  }
}

function rejected(error: FsError): Promise<void> {
  const promise = Promise.reject<void>(error);
  promise.catch(() => {});
  return promise;
}

const SYSTEM_TIMERS = new SystemTimers();
