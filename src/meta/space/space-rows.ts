import { ByteReader, ByteWriter, readU64Be } from "../../base/bytes.ts";
import type { Timestamp } from "../../base/clock.ts";
import type { Lsn } from "../../domain/ids.ts";
import { FORK_LSN_OFFSET, lsnAtEnd, TABLE } from "../keys.ts";

/** The rows this folder keeps (../FORMAT.md, "Space"). */

/** How far an app's history reaches back. */
export type FloorRow = {
  /** The oldest LSN whose state can be read; below it only kept moments can. */
  readonly floor: Lsn;
  /** The floor before. */
  readonly previous: Lsn;
  /** Up to where the records below the floor have been collected: previous ≤ walked ≤ floor. */
  readonly walked: Lsn;
  /** Clock era and wall time of the record `floor`: the key of its row in the wall time index. */
  readonly era: number;
  readonly time: Timestamp;
};

export function encodeFloor(row: FloorRow): Buffer {
  const writer = new ByteWriter(40).u64(row.floor).u64(row.previous).u64(row.walked);
  return writer.u32(row.era).i64(row.time.sec).u32(row.time.nsec).finish();
}

export function decodeFloor(value: Buffer): FloorRow {
  const reader = new ByteReader(value);
  const floor = reader.u64() as Lsn;
  const previous = reader.u64() as Lsn;
  const walked = reader.u64() as Lsn;
  return { floor, previous, walked, era: reader.u32(), time: { sec: reader.i64(), nsec: reader.u32() } };
}

/** When the row a pin is about held: over [since, until). */
export type Span = { readonly since: Lsn; readonly until: Lsn };

/** The span of a superseded row: of inodes, names, xattrs, parents, snapshots. Their values begin with `since`, but for names by their beginning. */
export function spanOfPast(key: Buffer, value: Buffer): Span {
  const first = readU64Be(value, 0) as Lsn;
  switch (key[0]) {
    case TABLE.DENTRY_BEGAN:
      return { since: readU64Be(key, FORK_LSN_OFFSET) as Lsn, until: first };
    case TABLE.DENTRY_ENDED:
      return { since: first, until: readU64Be(key, FORK_LSN_OFFSET) as Lsn };
    case TABLE.PARENT_PAST:
      return { since: first, until: readU64Be(key, PARENT_UNTIL_OFFSET) as Lsn };
    default:
      return { since: first, until: lsnAtEnd(key) };
  }
}

/** Where `until` begins in the keys of past parents: after table and inode. */
const PARENT_UNTIL_OFFSET = 6;

export function encodeSpan(span: Span): Buffer {
  return new ByteWriter(16).u64(span.since).u64(span.until).finish();
}

export function decodeSpan(value: Buffer): Span {
  const reader = new ByteReader(value);
  return { since: reader.u64() as Lsn, until: reader.u64() as Lsn };
}

/** A part of a record's data, bytes `skip` to `skip + length` of it, and the data (of a RELOCATE record) where it is now. */
export type Piece = {
  readonly skip: number;
  readonly length: number;
  readonly segment: number;
  readonly dataStart: number;
  readonly dataLength: number;
  readonly newSkip: number;
};

const PIECE_BYTES = 28;

/** Pieces in order of `skip`, without overlaps. */
export function encodePieces(pieces: readonly Piece[]): Buffer {
  const writer = new ByteWriter(4 + pieces.length * PIECE_BYTES).u32(pieces.length);
  for (const piece of pieces) {
    writer.u32(piece.skip).u32(piece.length).u64(piece.segment);
    writer.u32(piece.dataStart).u32(piece.dataLength).u32(piece.newSkip);
  }
  return writer.finish();
}

export function decodePieces(value: Buffer): Piece[] {
  const reader = new ByteReader(value);
  const pieces: Piece[] = [];
  for (let left = reader.u32(); left > 0; left--) {
    const skip = reader.u32();
    const length = reader.u32();
    const segment = reader.u64();
    pieces.push({ skip, length, segment, dataStart: reader.u32(), dataLength: reader.u32(), newSkip: reader.u32() });
  }
  return pieces;
}

/** What of a record's data was erased by order, and by which record. */
export type PurgedRow = {
  readonly dataLength: number;
  readonly lsn: Lsn;
  /** In order, apart from each other. */
  readonly ranges: readonly { readonly from: number; readonly to: number }[];
};

export function encodePurged({ dataLength, lsn, ranges }: PurgedRow): Buffer {
  const writer = new ByteWriter(16 + ranges.length * 8).u32(dataLength).u64(lsn).u32(ranges.length);
  for (const { from, to } of ranges) writer.u32(from).u32(to);
  return writer.finish();
}

export function decodePurged(value: Buffer): PurgedRow {
  const reader = new ByteReader(value);
  const dataLength = reader.u32();
  const lsn = reader.u64() as Lsn;
  const ranges = Array.from({ length: reader.u32() }, () => ({ from: reader.u32(), to: reader.u32() }));
  return { dataLength, lsn, ranges };
}

/**
 * `kept`: its data are read from it. `damaged`: cleaning found bytes in use that can't be read, so it stays. `gone`: what of it is in use was relocated, reading goes there.
 * `dead`: nothing of it is in use. The files of the last two are removed, or about to be.
 */
export type UseState = "kept" | "damaged" | "gone" | "dead";

/** What is in use of a segment below the floor: exact when it was counted, from then on an estimate. */
export type SegmentUse = {
  readonly state: UseState;
  /** Bytes of data that some row names. */
  readonly liveBytes: number;
  /** What relocating them would write: they and their rows. */
  readonly costBytes: number;
};

const STATES: readonly UseState[] = ["kept", "damaged", "gone", "dead"];

export function encodeUse(use: SegmentUse): Buffer {
  return new ByteWriter(17).u8(STATES.indexOf(use.state)).u64(use.liveBytes).u64(use.costBytes).finish();
}

export function decodeUse(value: Buffer): SegmentUse {
  const reader = new ByteReader(value);
  // An unknown state of a later version is kept: nothing is removed that is not understood.
  const state = STATES[reader.u8()] ?? "damaged";
  return { state, liveBytes: reader.u64(), costBytes: reader.u64() };
}
