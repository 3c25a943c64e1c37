import { ByteWriter, readU64Be, writeU64Be } from "../../base/bytes.ts";
import type { Lsn } from "../../domain/ids.ts";
import type { RequestContext } from "../../domain/metadata-api.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import type { EngineCore } from "../core.ts";
import { numberKey, plainKey, purgedKey, relocationKey, TABLE } from "../keys.ts";
import type { OpenApp } from "../open-app.ts";
import type { Work } from "../reading/work.ts";
import { encodeJson } from "../rows.ts";
import { ByteRanges } from "../space/byte-ranges.ts";
import { sortedPieces } from "../space/pieces.ts";
import { encodePieces, encodePurged, type Piece } from "../space/space-rows.ts";
import type { ErasedBytes } from "./erased-bytes.ts";
import type { Concerned } from "./plan.ts";

/** Records' data in one PURGE record: it holds the loop for some 50 ms. */
const PART_RECORDS = 5000;

const NO_BYTES = Buffer.alloc(0);

/** Where the LSN of the order is in the value of an `u` row. */
const ORDER_LSN_OFFSET = 4;

/** Counter with the LSN of the newest order. */
const NEWEST_ORDER = plainKey(TABLE.COUNTER, Buffer.from("newest-order"));

/** The record of the newest order; undefined: there was none. */
export function newestOrder(core: EngineCore): Lsn | undefined {
  const row = core.store.get(NEWEST_ORDER);
  return row === undefined ? undefined : (readU64Be(row, 0) as Lsn);
}

/** Data of one record: its rows, as they will be. `pieces`: of its relocation, if that changes. */
type Entry = {
  readonly segment: number;
  readonly dataStart: number;
  readonly purged: Buffer;
  readonly pieces: readonly Piece[] | undefined;
};

/** The rows of an order, in parts of which each is right by itself: one record each. */
export type PreparedOrder = { readonly parts: readonly (readonly Entry[])[] };

/** Makes the rows of an order. Nothing moves data until they are written. No parts: all of it was erased before. */
export async function prepareOrder(app: OpenApp, { bytes, copies }: Concerned, work: Work): Promise<PreparedOrder> {
  const { data } = app.core;
  const parts: Entry[][] = [];
  const add = async (all: ErasedBytes, isMoved: boolean): Promise<void> => {
    for (const { segment, dataStart, dataLength, ranges } of all.all()) {
      if (work.due) await work.pause();
      const before = data.erased(segment, dataStart);
      const now = merged(before, ranges);
      if (now.bytes === before.bytes) continue;
      const purged = encodePurged({ dataLength, lsn: 0 as Lsn, ranges: now.ranges });
      const pieces = isMoved ? piecesWithout(data.relocation(segment, dataStart), ranges) : undefined;
      const last = parts.at(-1);
      const part = last === undefined || last.length === PART_RECORDS ? [] : last;
      if (part !== last) parts.push(part);
      part.push({ segment, dataStart, purged, pieces });
    }
  };
  // Copies first: what leads to them is in the rows of the others.
  await add(copies, false);
  await add(bytes, true);
  return { parts };
}

export type OrderText = {
  readonly path: string;
  readonly reason: string;
  readonly shared: boolean;
  readonly context: RequestContext;
};

/**
 * Writes an order down: from here on nobody reads these bytes, and they are going to be erased. The first part in this turn, with what the journal held before in sealed segments; after each further one others have theirs: `between`. Answers the
 * last record's LSN; undefined: there was nothing to write. Throws FsError, and what `between` throws: what was written by then holds.
 */
export async function commitOrder(
  app: OpenApp,
  { prepared, concerned, order }: { prepared: PreparedOrder; concerned: Concerned; order: OrderText },
  between: () => Promise<void>,
): Promise<Lsn | undefined> {
  const { parts } = prepared;
  let lsn: Lsn | undefined;
  const here = new Set(app.journal.segments().map(({ segment }) => segment));
  for (const [index, part] of parts.entries()) {
    if (index === 0) app.journal.roll({ useReserve: true });
    else await between();
    const count = parts.length === 1 ? {} : { part: index + 1, parts: parts.length };
    lsn = commitPart(app, { part, here, isFirst: index === 0, count }, { concerned, order });
  }
  return lsn;
}

function commitPart(
  { core }: OpenApp,
  {
    part,
    here,
    isFirst,
    count,
  }: { part: readonly Entry[]; here: ReadonlySet<number>; isFirst: boolean; count: object },
  { concerned, order }: { concerned: Concerned; order: OrderText },
): Lsn {
  const tx = core.begin(order.context);
  for (const { segment, dataStart, purged, pieces } of part) {
    writeU64Be(purged, tx.lsn, ORDER_LSN_OFFSET);
    tx.row(purgedKey(segment, dataStart), purged);
    if (pieces === undefined) continue;
    tx.row(relocationKey(segment, dataStart), pieces.length === 0 ? null : encodePieces(pieces));
  }
  for (const segment of new Set(part.map((each) => each.segment)))
    if (here.has(segment)) tx.row(numberKey(TABLE.ERASING, segment), NO_BYTES);
  tx.row(NEWEST_ORDER, new ByteWriter(8).u64(tx.lsn).finish());
  // Who has one of them open, or shares its bytes, may keep pages. The others are gone from the present.
  for (const ino of isFirst ? [...concerned.since.keys(), ...concerned.sharers.keys()] : [])
    if (core.findInodeNow(ino) !== undefined) tx.tellInode(ino, true);
  const { path, reason, shared } = order;
  const { bytes, files, sharers } = concerned;
  const counts = { files: files.size, writes: bytes.recordCount, bytes: bytes.bytes, sharedWith: sharers.size };
  const detail = encodeJson({ path, reason, ...counts, shared, ...count });
  const lsn = tx.commit(RECORD_OP.PURGE, detail, { useReserve: true });
  for (const { segment, dataStart, pieces } of part) {
    core.data.purged(segment, dataStart);
    if (pieces !== undefined) core.data.relocated(segment, dataStart);
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
