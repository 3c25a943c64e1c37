import { assert } from "../base/assert.ts";
import type { Lsn } from "../domain/ids.ts";
import type { RowOp } from "../journal/record.ts";
import { KV_READ_ROWS_MAX, type KvStore } from "../kv/kv-store.ts";
import { SortedKeys } from "../kv/sorted-keys.ts";

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

/** A pending row. `lsn` is `DROPPED` once a newer one of its key is indexed or the row has left. */
type Entry = {
  /** Until it is indexed. */
  key: Buffer;
  /** The key from then on. */
  text: string;
  readonly table: PendingTable;
  readonly value: Buffer | null;
  lsn: number;
  orderNumber: number;
};

/**
 * Pending rows of one table: points in a map. Rows are put there when somebody first asks for the table: most past rows leave before that.
 * The order of keys is made when a range first asks for it and kept up from then on, until the table is empty or nobody asks any more;
 * `orderNumber` counts how often, and an entry with that number is in `order`, the others are in `unordered`.
 */
type PendingTable = {
  readonly rows: Map<string, Entry>;
  /** In the order of their records; from `unindexedHead` on they are pending. */
  unindexed: Entry[];
  unindexedHead: number;
  order: SortedKeys | undefined;
  orderNumber: number;
  unordered: Entry[];
};

type PendingRecord = {
  readonly lsn: number;
  readonly entries: readonly Entry[];
  readonly rows: readonly RowOp[];
  readonly bytes: number;
};

const DROPPED = Number.POSITIVE_INFINITY;

/** New rows of an ordered table that no range asked for: above this, and above the rows there are, the order is given up. */
const UNORDERED_MAX = 4096;

/** Rows that left and are still in `unindexed`, at least, before it is cut. */
const UNINDEXED_DEAD_MAX = 1024;

const NO_ROWS: readonly RowOp[] = [];
const NO_KEY = Buffer.alloc(0);

/** Estimated memory of a pending row beside its bytes: string, map slot, entry, queue slot. */
const ROW_OVERHEAD_BYTES = 200;

export class RowStore {
  readonly #kv: KvStore;
  readonly #slot: Buffer;
  readonly #keepsRows: boolean;
  readonly #tables = new Map<number, PendingTable>();
  #queue: PendingRecord[] = [];
  #queueHead = 0;
  #pendingBytes = 0;
  #appliedLsn: Lsn;

  /** `keepsRows: false`: nobody calls `pendingUpTo`, the rows are applied from the journal. */
  constructor(options: {
    readonly kv: KvStore;
    readonly slot: number;
    readonly appliedLsn: Lsn;
    readonly keepsRows?: boolean;
  }) {
    this.#kv = options.kv;
    this.#keepsRows = options.keepsRows ?? true;
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
    const table = this.#tables.get(key.readUInt8(0));
    const pending = table === undefined ? undefined : indexed(table).get(key.toString("latin1"));
    if (pending !== undefined) return pending.value ?? undefined;
    return this.#kv.getSync(this.#kvKey(key));
  }

  /** As `get` for each of `keys`, at a fraction of the cost where most of them are in the KV. */
  getMany(keys: readonly Buffer[]): (Buffer | undefined)[] {
    const values: (Buffer | undefined)[] = new Array(keys.length);
    const asked: number[] = [];
    for (const [index, key] of keys.entries()) {
      const table = this.#tables.get(key.readUInt8(0));
      const pending = table === undefined ? undefined : indexed(table).get(key.toString("latin1"));
      if (pending === undefined) asked.push(index);
      else values[index] = pending.value ?? undefined;
    }
    for (let at = 0; at < asked.length; at += KV_READ_ROWS_MAX) {
      const batch = asked.slice(at, at + KV_READ_ROWS_MAX);
      const stored = this.#kv.getManySync(batch.map((index) => this.#kvKey(keys[index] as Buffer)));
      for (const [place, index] of batch.entries()) values[index] = stored[place];
    }
    return values;
  }

  /** Up to `limit` rows with gte ≤ key < lt in order, or in reverse. Both bounds must be of one table. */
  range(range: RowRange): Row[] {
    const nextPending = this.#pendingIn(range);
    let pending = nextPending();
    const rows: Row[] = [];
    const reverse = range.reverse ?? false;
    let gte = this.#kvKey(range.gte);
    let lt = this.#kvKey(range.lt);
    for (;;) {
      const wanted = Math.min(range.limit - rows.length, KV_READ_ROWS_MAX);
      const batch = this.#kv.rangeSync({ gte, lt, reverse, limit: wanted });
      for (const stored of batch) {
        const key = Buffer.from(stored.key.buffer, stored.key.byteOffset + 4, stored.key.length - 4);
        const text = pending === undefined ? "" : key.toString("latin1");
        while (pending !== undefined && comesBefore(pending, text, reverse)) {
          this.#emit(rows, pending);
          pending = nextPending();
          if (rows.length === range.limit) return rows;
        }
        if (pending !== undefined && pending === text) {
          this.#emit(rows, pending);
          pending = nextPending();
        } else rows.push({ key, value: asBuffer(stored.value) });
        if (rows.length === range.limit) return rows;
      }
      const last = batch.at(-1);
      if (last === undefined || batch.length < wanted) break;
      if (reverse) lt = asBuffer(last.key);
      else gte = Buffer.concat([last.key, ZERO]);
    }
    for (; pending !== undefined && rows.length < range.limit; pending = nextPending()) this.#emit(rows, pending);
    return rows;
  }

  /** Makes the rows of the record `lsn` visible. */
  add(lsn: Lsn, rows: readonly RowOp[]): void {
    const entries: Entry[] = [];
    let bytes = 0;
    for (const { key, value } of rows) {
      const table = this.#table(key.readUInt8(0));
      const entry: Entry = { key, text: "", table, value, lsn, orderNumber: 0 };
      table.unindexed.push(entry);
      entries.push(entry);
      bytes += ROW_OVERHEAD_BYTES + 2 * key.length + (value?.length ?? 0);
    }
    this.#queue.push({ lsn, entries, rows: this.#keepsRows ? rows : NO_ROWS, bytes });
    this.#pendingBytes += bytes;
  }

  /** Rows of records up to `limit` that are not applied yet, oldest first: what an in-process applier writes. At most `recordsMax` records. */
  pendingUpTo(limit: Lsn, recordsMax: number): { readonly lsn: Lsn; readonly rows: readonly RowOp[] }[] {
    assert(this.#keepsRows, "rows are not kept");
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
      for (const entry of record.entries) if (entry.lsn <= lsn) drop(entry);
    }
    if (this.#queueHead > 1024 && this.#queueHead * 2 > this.#queue.length) {
      this.#queue = this.#queue.slice(this.#queueHead);
      this.#queueHead = 0;
    }
  }

  #emit(rows: Row[], text: string): void {
    const value = this.#tables.get(text.charCodeAt(0))?.rows.get(text)?.value;
    if (value !== null && value !== undefined) rows.push({ key: Buffer.from(text, "latin1"), value });
  }

  /** Gives the keys of pending rows inside the range, one after the other, in its direction. */
  #pendingIn(range: RowRange): () => string | undefined {
    const table = this.#tables.get(range.gte.readUInt8(0));
    if (table === undefined || indexed(table).size === 0) return nothing;
    const order = orderOf(table);
    const from = range.gte.toString("latin1");
    const to = range.lt.toString("latin1");
    const keys = range.reverse ? order.descending(to, false) : order.ascending(from, true);
    return () => {
      const text = keys.next().value ?? undefined;
      return text === undefined || text < from || text >= to ? undefined : text;
    };
  }

  #table(byte: number): PendingTable {
    let table = this.#tables.get(byte);
    if (table === undefined) {
      table = {
        rows: new Map(),
        unindexed: [],
        unindexedHead: 0,
        order: undefined,
        orderNumber: 0,
        unordered: [],
      };
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

function nothing(): undefined {
  return undefined;
}

/** The pending rows of a table by key, all of them. */
function indexed(table: PendingTable): ReadonlyMap<string, Entry> {
  const { rows, unindexed } = table;
  for (let at = table.unindexedHead; at < unindexed.length; at++) {
    const entry = unindexed[at] as Entry;
    const text = entry.key.toString("latin1");
    const before = rows.get(text);
    entry.text = text;
    entry.key = NO_KEY;
    rows.set(text, entry);
    if (before !== undefined) {
      before.lsn = DROPPED;
      entry.orderNumber = before.orderNumber;
    }
    if (table.order !== undefined && entry.orderNumber !== table.orderNumber) addUnordered(table, entry);
  }
  if (unindexed.length > 0) {
    table.unindexed = [];
    table.unindexedHead = 0;
  }
  return rows;
}

/** The KV has the row. */
function drop(entry: Entry): void {
  const { table, text } = entry;
  entry.lsn = DROPPED;
  if (entry.key !== NO_KEY) {
    // Rows leave in the order in which they came.
    assert(table.unindexed[table.unindexedHead] === entry, "a row that is not the oldest left");
    table.unindexedHead++;
    if (table.unindexedHead * 2 < table.unindexed.length || table.unindexedHead < UNINDEXED_DEAD_MAX) return;
    table.unindexed = table.unindexed.slice(table.unindexedHead);
    table.unindexedHead = 0;
    return;
  }
  table.rows.delete(text);
  if (table.order === undefined) return;
  if (table.rows.size === 0) forgetOrder(table);
  else if (entry.orderNumber === table.orderNumber) table.order.remove(text);
}

function addUnordered(table: PendingTable, entry: Entry): void {
  table.unordered.push(entry);
  if (table.unordered.length > Math.max(UNORDERED_MAX, table.rows.size)) forgetOrder(table);
}

function forgetOrder(table: PendingTable): void {
  table.order = undefined;
  table.unordered = [];
}

/** The keys in order. Latin-1 strings compare by code unit, which is the byte order of the keys. */
function orderOf(table: PendingTable): SortedKeys {
  let { order } = table;
  if (order === undefined) {
    order = new SortedKeys();
    table.order = order;
    table.orderNumber++;
    table.unordered = [...table.rows.values()];
  }
  if (table.unordered.length === 0) return order;
  // In order, neighbours go into the same run.
  const added = table.unordered.sort((left, right) => (left.text < right.text ? -1 : left.text > right.text ? 1 : 0));
  table.unordered = [];
  for (const entry of added) {
    if (entry.lsn === DROPPED) continue;
    entry.orderNumber = table.orderNumber;
    order.add(entry.text);
  }
  return order;
}
