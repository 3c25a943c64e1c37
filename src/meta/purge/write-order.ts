import { ByteWriter, readU64Be } from "../../base/bytes.ts";
import type { Lsn } from "../../domain/ids.ts";
import type { RequestContext } from "../../domain/metadata-api.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import type { RowOp } from "../../journal/record.ts";
import type { EngineCore } from "../core.ts";
import { numberKey, plainKey, purgedKey, relocationKey, TABLE } from "../keys.ts";
import type { OpenApp } from "../open-app.ts";
import { encodeJson } from "../rows.ts";
import { ByteRanges } from "../space/byte-ranges.ts";
import { sortedPieces } from "../space/pieces.ts";
import { encodePieces, encodePurged, type Piece } from "../space/space-rows.ts";
import type { ErasedBytes } from "./erased-bytes.ts";
import type { Concerned } from "./plan.ts";

/** Rows of one record: 6 MB of it, a third of what a record may have. */
const ROWS_MAX = 100_000;

const NO_BYTES = Buffer.alloc(0);

/** Counter with the LSN of the newest order. */
const NEWEST_ORDER = plainKey(TABLE.COUNTER, Buffer.from("newest-order"));

/** The record of the newest order; undefined: there was none. */
export function newestOrder(core: EngineCore): Lsn | undefined {
  const row = core.store.get(NEWEST_ORDER);
  return row === undefined ? undefined : (readU64Be(row, 0) as Lsn);
}

/**
 * Writes an order down: from here on nobody reads these bytes, and they are going to be erased. In one turn; in one record, or with very many rows in several, each right by itself. What the journal holds up to here is in
 * sealed segments then. Answers the last record's LSN; undefined: all of it was erased before. Throws FsError.
 */
export function commitPurge(
  app: OpenApp,
  concerned: Concerned,
  order: {
    readonly path: string;
    readonly reason: string;
    readonly shared: boolean;
    readonly context: RequestContext;
  },
): Lsn | undefined {
  const { core, journal } = app;
  const lsnAfter = (core.lastLsn + 1) as Lsn;
  const purged: { readonly segment: number; readonly dataStart: number }[] = [];
  const relocated: { readonly segment: number; readonly dataStart: number }[] = [];
  const rows: RowOp[] = [];
  const add = (all: ErasedBytes): void => {
    for (const { segment, dataStart, dataLength, ranges } of all.all()) {
      const before = core.data.erased(segment, dataStart);
      const now = merged(before, ranges);
      if (now.bytes === before.bytes) continue;
      purged.push({ segment, dataStart });
      rows.push({
        key: purgedKey(segment, dataStart),
        value: encodePurged({ dataLength, lsn: lsnAfter, ranges: now.ranges }),
      });
    }
  };
  add(concerned.bytes);
  add(concerned.copies);
  if (rows.length === 0) return undefined;
  for (const { segment, dataStart, ranges } of concerned.bytes.all()) {
    const pieces = core.data.relocation(segment, dataStart);
    const left = piecesWithout(pieces, ranges);
    if (left === undefined) continue;
    relocated.push({ segment, dataStart });
    const key = relocationKey(segment, dataStart);
    rows.push({ key, value: left.length === 0 ? null : encodePieces(left) });
  }
  const here = new Set(journal.segments().map(({ segment }) => segment));
  for (const segment of new Set(purged.map((each) => each.segment)))
    if (here.has(segment)) rows.push({ key: numberKey(TABLE.ERASING, segment), value: NO_BYTES });
  journal.roll({ useReserve: true });
  const lsn = commitRows(app, rows, { concerned, order });
  for (const { segment, dataStart } of purged) core.data.purged(segment, dataStart);
  for (const { segment, dataStart } of relocated) core.data.relocated(segment, dataStart);
  return lsn;
}

function commitRows(
  { core }: OpenApp,
  rows: readonly RowOp[],
  {
    concerned,
    order,
  }: {
    concerned: Concerned;
    order: {
      readonly path: string;
      readonly reason: string;
      readonly shared: boolean;
      readonly context: RequestContext;
    };
  },
): Lsn {
  const { path, reason, shared, context } = order;
  const parts = Math.ceil(rows.length / ROWS_MAX);
  let lsn = 0 as Lsn;
  for (let part = 0; part < parts; part++) {
    const tx = core.begin(context);
    for (const { key, value } of rows.slice(part * ROWS_MAX, (part + 1) * ROWS_MAX)) tx.row(key, value);
    tx.row(NEWEST_ORDER, new ByteWriter(8).u64(tx.lsn).finish());
    // Kernels of live mounts keep pages.
    for (const ino of part === 0 ? [...concerned.files.keys(), ...concerned.sharers.keys()] : [])
      tx.tellInode(ino, true);
    const counts = {
      files: concerned.files.size,
      writes: concerned.bytes.recordCount,
      bytes: concerned.bytes.bytes,
      sharedWith: concerned.sharers.size,
    };
    const detail = { path, reason, ...counts, shared, ...(parts === 1 ? {} : { part: part + 1, parts }) };
    lsn = tx.commit(RECORD_OP.PURGE, encodeJson(detail), { useReserve: true });
  }
  return lsn;
}

function merged(before: ByteRanges, more: ByteRanges): ByteRanges {
  const all = new ByteRanges();
  for (const { from, to } of [...before.ranges, ...more.ranges]) all.add(from, to);
  return all;
}

/** What is left of a relocation without these bytes; undefined: it has none of them. */
function piecesWithout(pieces: readonly Piece[], ranges: ByteRanges): Piece[] | undefined {
  let any = false;
  const left: Piece[] = [];
  for (const piece of pieces) {
    const kept = ranges.missing(piece.skip, piece.skip + piece.length);
    const isWhole = kept.length === 1 && kept[0]?.from === piece.skip && kept[0].to === piece.skip + piece.length;
    if (!isWhole) any = true;
    for (const { from, to } of kept)
      left.push({ ...piece, skip: from, length: to - from, newSkip: piece.newSkip + (from - piece.skip) });
  }
  return any ? sortedPieces(left) : undefined;
}
