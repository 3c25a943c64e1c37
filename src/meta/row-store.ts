import { assert } from "../base/assert.ts";
import type { Lsn } from "../domain/ids.ts";
import type { RowOp } from "../journal/record.ts";
import { KV_READ_ROWS_MAX, type KvStore } from "../kv/kv-store.ts";

/**
 * The rows of one app: the KV, which holds everything up to the applied LSN, and over it the overlay, which holds the rows of
 * records not yet applied. Reads see both as one ordered table.
 *
 * Invariants
 * R1  An overlay row is removed only after the KV acknowledged a batch that contains it or a newer one of its key.
 * R2  A read never yields: what it returns is one state, that of the last record.
 */

export type Row = { readonly key: Buffer; readonly value: Buffer };

export type RowRange = {
  readonly gte: Buffer;
  readonly lt: Buffer;
  readonly reverse?: boolean;
  readonly limit: number;
};

type Entry = { value: Buffer | null; lsn: number };

/** Pending rows of one table: points in a map; order is made when a range asks for it. */
type PendingTable = { readonly rows: Map<string, Entry>; sorted: string[]; unsorted: string[]; stale: number };

type PendingRecord = {
  readonly lsn: number;
  readonly keys: readonly string[];
  readonly rows: readonly RowOp[];
  readonly bytes: number;
};

/** Estimated memory of a pending row beside its bytes: string, map slot, entry, queue slot. */
const ROW_OVERHEAD_BYTES = 200;

export class RowStore {
  readonly #kv: KvStore;
  readonly #slot: Buffer;
  readonly #tables = new Map<number, PendingTable>();
  #queue: PendingRecord[] = [];
  #queueHead = 0;
  #pendingBytes = 0;
  #appliedLsn: Lsn;

  constructor(options: { readonly kv: KvStore; readonly slot: number; readonly appliedLsn: Lsn }) {
    this.#kv = options.kv;
    this.#slot = slotPrefix(options.slot);
    this.#appliedLsn = options.appliedLsn;
  }

  get appliedLsn(): Lsn {
    return this.#appliedLsn;
  }

  /** Memory that rows not yet applied take, estimated. */
  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  get pendingRecords(): number {
    return this.#queue.length - this.#queueHead;
  }

  /** The current value of `key`, or undefined. */
  get(key: Buffer): Buffer | undefined {
    const pending = this.#tables.get(key.readUInt8(0))?.rows.get(key.toString("latin1"));
    if (pending !== undefined) return pending.value ?? undefined;
    return this.#kv.getSync(this.#kvKey(key));
  }

  /** Up to `limit` rows with gte ≤ key < lt in order, or in reverse. Both bounds must be of one table. */
  range(range: RowRange): Row[] {
    const pending = this.#pendingIn(range);
    const rows: Row[] = [];
    const reverse = range.reverse ?? false;
    let gte = this.#kvKey(range.gte);
    let lt = this.#kvKey(range.lt);
    let next = 0;
    for (;;) {
      const wanted = Math.min(range.limit - rows.length, KV_READ_ROWS_MAX);
      const batch = this.#kv.rangeSync({ gte, lt, reverse, limit: wanted });
      for (const stored of batch) {
        const key = Buffer.from(stored.key.buffer, stored.key.byteOffset + 4, stored.key.length - 4);
        const text = key.toString("latin1");
        while (next < pending.length && comesBefore(pending[next] as string, text, reverse)) {
          this.#emit(rows, pending[next++] as string);
          if (rows.length === range.limit) return rows;
        }
        if (next < pending.length && pending[next] === text) this.#emit(rows, pending[next++] as string);
        else rows.push({ key, value: asBuffer(stored.value) });
        if (rows.length === range.limit) return rows;
      }
      const last = batch.at(-1);
      if (last === undefined || batch.length < wanted) break;
      if (reverse) lt = asBuffer(last.key);
      else gte = Buffer.concat([last.key, ZERO]);
    }
    while (next < pending.length && rows.length < range.limit) this.#emit(rows, pending[next++] as string);
    return rows;
  }

  /** Makes the rows of the record `lsn` visible. */
  add(lsn: Lsn, rows: readonly RowOp[]): void {
    const keys: string[] = [];
    let bytes = 0;
    for (const row of rows) {
      const text = row.key.toString("latin1");
      const table = this.#table(row.key.readUInt8(0));
      const entry = table.rows.get(text);
      if (entry === undefined) {
        table.rows.set(text, { value: row.value, lsn });
        table.unsorted.push(text);
      } else {
        entry.value = row.value;
        entry.lsn = lsn;
      }
      keys.push(text);
      bytes += ROW_OVERHEAD_BYTES + 2 * text.length + (row.value?.length ?? 0);
    }
    this.#queue.push({ lsn, keys, rows, bytes });
    this.#pendingBytes += bytes;
  }

  /** Rows of records up to `limit` that are not applied yet, oldest first: what an in-process applier writes. At most `recordsMax` records. */
  pendingUpTo(limit: Lsn, recordsMax: number): { readonly lsn: Lsn; readonly rows: readonly RowOp[] }[] {
    const records: { lsn: Lsn; rows: readonly RowOp[] }[] = [];
    for (let at = this.#queueHead; at < this.#queue.length && records.length < recordsMax; at++) {
      const record = this.#queue[at] as PendingRecord;
      if (record.lsn > limit) break;
      records.push({ lsn: record.lsn as Lsn, rows: record.rows });
    }
    return records;
  }

  /** Tells that the KV holds everything up to `lsn` (R1). */
  applied(lsn: Lsn): void {
    assert(lsn >= this.#appliedLsn, "the applied LSN went back");
    this.#appliedLsn = lsn;
    while (this.#queueHead < this.#queue.length) {
      const record = this.#queue[this.#queueHead] as PendingRecord;
      if (record.lsn > lsn) break;
      this.#queueHead++;
      this.#pendingBytes -= record.bytes;
      for (const text of record.keys) this.#drop(text, lsn);
    }
    if (this.#queueHead > 1024 && this.#queueHead * 2 > this.#queue.length) {
      this.#queue = this.#queue.slice(this.#queueHead);
      this.#queueHead = 0;
    }
  }

  #drop(text: string, lsn: number): void {
    const table = this.#table(text.charCodeAt(0));
    const entry = table.rows.get(text);
    if (entry === undefined || entry.lsn > lsn) return;
    table.rows.delete(text);
    table.stale++;
    if (table.rows.size === 0) {
      table.sorted = [];
      table.unsorted = [];
      table.stale = 0;
    }
  }

  #emit(rows: Row[], text: string): void {
    const value = this.#tables.get(text.charCodeAt(0))?.rows.get(text)?.value;
    if (value !== null && value !== undefined) rows.push({ key: Buffer.from(text, "latin1"), value });
  }

  /** Keys of pending rows inside the range, in its direction; rows dropped meanwhile may still be among them, `#emit` skips those. */
  #pendingIn(range: RowRange): string[] {
    const table = this.#tables.get(range.gte.readUInt8(0));
    if (table === undefined || table.rows.size === 0) return [];
    sortTable(table);
    const from = lowerBound(table.sorted, range.gte.toString("latin1"));
    const to = lowerBound(table.sorted, range.lt.toString("latin1"));
    const keys = table.sorted.slice(from, to).filter((text) => table.rows.has(text));
    return range.reverse ? keys.reverse() : keys;
  }

  #table(byte: number): PendingTable {
    let table = this.#tables.get(byte);
    if (table === undefined) {
      table = { rows: new Map(), sorted: [], unsorted: [], stale: 0 };
      this.#tables.set(byte, table);
    }
    return table;
  }

  #kvKey(key: Buffer): Buffer {
    const full = Buffer.allocUnsafe(4 + key.length);
    this.#slot.copy(full);
    key.copy(full, 4);
    return full;
  }
}

const ZERO = Buffer.alloc(1);

/** The KV prefix of an app's rows in this data folder. */
export function slotPrefix(slot: number): Buffer {
  const prefix = Buffer.alloc(4);
  prefix.writeUInt32BE(slot);
  return prefix;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function comesBefore(left: string, right: string, reverse: boolean): boolean {
  return reverse ? left > right : left < right;
}

/** Latin-1 strings compare by code unit, which is the byte order of the keys. */
function lowerBound(sorted: readonly string[], text: string): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] as string) < text) low = middle + 1;
    else high = middle;
  }
  return low;
}

function sortTable(table: PendingTable): void {
  if (table.unsorted.length === 0 && table.stale * 2 <= table.sorted.length) return;
  const added = table.unsorted.sort(compareText);
  const merged: string[] = [];
  let left = 0;
  let right = 0;
  let last: string | undefined;
  while (left < table.sorted.length || right < added.length) {
    const a = table.sorted[left];
    const b = added[right];
    const text = (b === undefined || (a !== undefined && a <= b) ? table.sorted[left++] : added[right++]) as string;
    // A key dropped and added again stands in both lists: keep one.
    if (text !== last && table.rows.has(text)) merged.push(text);
    last = text;
  }
  table.sorted = merged;
  table.unsorted = [];
  table.stale = 0;
}

function compareText(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0;
}
