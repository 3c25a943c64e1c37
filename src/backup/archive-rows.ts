import { ByteReader, ByteWriter } from "../base/bytes.ts";
import { RECORD_OP } from "../domain/record-op.ts";
import type { DataPlace } from "../journal/data-reader.ts";
import type { RowOp } from "../journal/record.ts";
import type { Counters } from "../meta/counters.ts";
import { TABLE } from "../meta/keys.ts";
import { type ChunkPlace, writePlace } from "../repository/chunk-place.ts";
import { type DataPiece, readPieces } from "../repository/seal-record.ts";

// ../repository/FORMAT.md, "Runs and checkpoints". What the rows in a repository are, for who writes and who reads them.

/** First byte of a run's key: a row of the metadata engine follows. */
export const RUN_ROW = 0x52;

/** First byte of a run's key: where the data of a record are. */
export const RUN_DATA = 0x44;

/** Tables about the folder that wrote them (and its mounts), not about the app. */
const FOLDER_TABLES: ReadonlySet<number> = new Set([
  TABLE.APPLIED,
  TABLE.FLOOR,
  TABLE.GRID,
  TABLE.PINNED,
  TABLE.CHAIN,
  TABLE.LAID,
  TABLE.LOCK,
  TABLE.REFERENCE,
  TABLE.RELOCATION,
  TABLE.SEGMENT_USE,
  TABLE.ERASING,
]);

/** Bytes of data of one piece, beside its place: skip and length. */
const PIECE_HEAD_BYTES = 8;

/** Most pieces of one record's data: 32 MiB in pieces of 256 bytes. Bounds what a reader believes of a count. */
const PIECES_MAX = 131_072;

/**
 * The rows of a record that go into the repository. Of SPACE and RELOCATE records, which are about the folder that wrote them, only what they add to the wall time index: else an era of the clock that begins
 * with one would begin late.
 */
export function keptRows({ op, rows }: { readonly op: number; readonly rows: readonly RowOp[] }): readonly RowOp[] {
  if (op === RECORD_OP.SPACE || op === RECORD_OP.RELOCATE)
    return rows.filter(({ key, value }) => key[0] === TABLE.TIME && value !== null);
  return rows.some(({ key }) => FOLDER_TABLES.has(key.readUInt8(0)))
    ? rows.filter(({ key }) => !FOLDER_TABLES.has(key.readUInt8(0)))
    : rows;
}

/** Whether a table is about the folder that wrote it. Such rows are in no run. */
export function isFolderTable(table: number): boolean {
  return FOLDER_TABLES.has(table);
}

/** The key in a run of the engine's row `key`. */
export function runRowKey(key: Uint8Array): Buffer {
  const full = Buffer.allocUnsafe(1 + key.length);
  full[0] = RUN_ROW;
  full.set(key, 1);
  return full;
}

/** The key in a run of where the data at `dataStart` of `segment` are. */
export function runDataKey(segment: number, dataStart: number): Buffer {
  return new ByteWriter(13).u8(RUN_DATA).u64(segment).u32(dataStart).finish();
}

/** Where a record's data are. Pieces in order of `skip`; bytes between them are not kept. */
export type ArchivedData = { readonly dataLength: number; readonly pieces: readonly DataPiece[] };

export function encodeArchivedData(data: ArchivedData): Buffer {
  const writer = new ByteWriter(8 + data.pieces.length * 44).u32(data.dataLength).u32(data.pieces.length);
  for (const { skip, length, place } of data.pieces) {
    writer.u32(skip).u32(length);
    writePlace(writer, place);
  }
  return writer.finish();
}

/** Throws RangeError for bytes that make no sense. */
export function decodeArchivedData(value: Buffer): ArchivedData {
  const reader = new ByteReader(value);
  const dataLength = reader.u32();
  const count = reader.u32();
  if (count > PIECES_MAX || count * PIECE_HEAD_BYTES > reader.remaining)
    throw new RangeError(`${count} pieces of data in ${reader.remaining} bytes`);
  const pieces = readPieces(reader, { count, dataLength });
  if (reader.remaining !== 0) throw new RangeError(`${reader.remaining} bytes left over`);
  return { dataLength, pieces };
}

/** Where the bytes of `place` are, in order. Throws when any of them is nowhere. */
export function placesIn(data: ArchivedData | undefined, place: DataPlace): ChunkPlace[] {
  if (data === undefined) throw new Error("the repository has no data of that record");
  if (data.dataLength !== place.dataLength)
    throw new Error(`the data are ${data.dataLength} bytes long in the repository, not ${place.dataLength}`);
  const places: ChunkPlace[] = [];
  let at = place.skip;
  const end = place.skip + place.length;
  for (const piece of data.pieces) {
    if (piece.skip + piece.length <= at) continue;
    if (piece.skip > at || at >= end) break;
    const within = at - piece.skip;
    const length = Math.min(end, piece.skip + piece.length) - at;
    places.push({ ...piece.place, chunkOffset: piece.place.chunkOffset + within, length });
    at += length;
  }
  if (at < end) throw new Error(`byte ${at} of the data is not in the repository`);
  return places;
}

/** Totals as a checkpoint has them. */
export function countersToJson(counters: Counters): { readonly liveBytes: string; readonly inodeCount: number } {
  return { liveBytes: counters.liveBytes.toString(), inodeCount: counters.inodeCount };
}

/** Throws RangeError for what are no totals. */
export function countersFromJson(json: unknown): Counters {
  const { liveBytes, inodeCount } = (json ?? {}) as { liveBytes?: unknown; inodeCount?: unknown };
  if (typeof liveBytes !== "string" || !/^-?[0-9]{1,20}$/.test(liveBytes) || !Number.isSafeInteger(inodeCount))
    throw new RangeError("a checkpoint's totals are malformed");
  return { liveBytes: BigInt(liveBytes), inodeCount: inodeCount as number };
}
