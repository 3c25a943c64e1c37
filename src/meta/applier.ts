import type { Log } from "../base/log.ts";
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

  async close(): Promise<void> {}
}

export type ApplierOptions = {
  readonly appId: AppId;
  readonly backend: ApplyBackend;
  readonly store: RowStore;
  readonly log: Log;
  /** Totals at the applied LSN. */
  readonly counters: Counters;
};

/**
 * Drives one app's backend: whenever the durable LSN moves, applies up to it, and tells the store.
 * A failing KV stops it with an alarm: the overlay then grows to its bound, and writers wait rather than run away from the KV.
 */
export class Applier {
  readonly #options: ApplierOptions;
  #counters: Counters;
  #target: Lsn;
  #running: Promise<void> | undefined;
  #closed = false;
  #waiters: (() => void)[] = [];
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
    this.#running ??= this.#run();
  }

  /** Resolves after the next batch, or at once when nothing is under way and nothing is left. */
  nextBatch(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  /** Resolves when everything up to `lsn` is applied. Rejects when the KV failed. */
  async reached(lsn: Lsn): Promise<void> {
    while (this.#options.store.appliedLsn < lsn) {
      if (this.failed !== undefined) throw this.failed;
      await this.nextBatch();
    }
  }

  async close(): Promise<void> {
    await this.#running;
    this.#closed = true;
    await this.#options.backend.close();
    this.#wake();
  }

  async #run(): Promise<void> {
    const { store, backend, log, appId } = this.#options;
    try {
      while (store.appliedLsn < this.#target && !this.#closed) {
        const applied = await backend.apply(store.appliedLsn, this.#target, this.#counters);
        this.#counters = applied.counters;
        store.applied(applied.lsn);
        this.#wake();
      }
    } catch (error) {
      this.failed = error;
      log.alarm("the applier stopped: rows can't be written to the KV; restart the service when the cause is gone", { appId, error: String(error) });
      this.#wake();
    } finally {
      this.#running = undefined;
      if (this.failed === undefined && !this.#closed && store.appliedLsn < this.#target) this.#running = this.#run();
    }
  }

  #wake(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const wake of waiters) wake();
  }
}
