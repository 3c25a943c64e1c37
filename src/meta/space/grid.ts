import type { Timestamp } from "../../base/clock.ts";
import type { Lsn } from "../../domain/ids.ts";
import { plainKey, prefixEnd, TABLE } from "../keys.ts";
import type { RowStore } from "../row-store.ts";
import { decodeLsn, encodeLsn } from "../rows.ts";

/** A turn of an hour, day, week, month or year, and the last record at or before it: its moment is kept below the floor. */
export type GridRow = { readonly turn: Timestamp; readonly lsn: Lsn };

/** Rows read in one go. */
const PAGE_ROWS = 1000;

/** Turns are whole seconds. The sign bit is flipped, so that keys sort like them. */
export function gridKey({ sec }: Timestamp): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeUInt32BE((Math.floor(sec / 2 ** 32) ^ 0x8000_0000) >>> 0, 0);
  bytes.writeUInt32BE(sec >>> 0, 4);
  return plainKey(TABLE.GRID, bytes);
}

/** The row's value. */
export function gridValue({ lsn }: GridRow): Buffer {
  return encodeLsn(lsn);
}

/** The rows of the grid, oldest turn first. A few hundred, 50,000 at most (RETENTION_COUNT_MAX of each kind). */
export function gridRows(store: RowStore): GridRow[] {
  const gte = plainKey(TABLE.GRID);
  const rows: GridRow[] = [];
  for (let from = gte; ; ) {
    const page = store.range({ gte: from, lt: prefixEnd(gte), limit: PAGE_ROWS });
    for (const { key, value } of page) rows.push({ turn: { sec: secondsOf(key), nsec: 0 }, lsn: decodeLsn(value) });
    const last = page.at(-1);
    if (last === undefined || page.length < PAGE_ROWS) return rows;
    from = Buffer.concat([last.key, Buffer.alloc(1)]);
  }
}

function secondsOf(key: Buffer): number {
  return (key.readUInt32BE(1) - 0x8000_0000) * 2 ** 32 + key.readUInt32BE(5);
}
