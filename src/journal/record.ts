import type { Timestamp } from "../base/clock.ts";
import type { Actor } from "../domain/actor.ts";
import type { Lsn } from "../domain/ids.ts";

// The layout is FORMAT.md, "Record". What is here is what several parts need to agree on.

/** A new value of a row; null deletes. Keys are app-relative. */
export type RowOp = { readonly key: Buffer; readonly value: Buffer | null };

/** A record to be appended. The journal adds LSN, durable LSN and checksums. */
export type RecordDraft = {
  /** One of RECORD_OP. */
  readonly op: number;
  readonly time: Timestamp;
  readonly actor: Actor;
  /** FUSE `unique` of the request on the actor's mount without its resend bit; 0 = none. */
  readonly unique: number;
  readonly detail: Buffer;
  readonly rows: readonly RowOp[];
  readonly data: Uint8Array | null;
};

/** A record as it is read. Its buffers are views of one copy that belongs to the record. */
export type JournalRecord = {
  lsn: Lsn;
  op: number;
  time: Timestamp;
  actor: Actor;
  unique: number;
  /** The durable LSN known when the record was written. */
  durableLsn: Lsn;
  detail: Buffer;
  rows: RowOp[];
  segment: number;
  /** Of the record's first byte in its segment. */
  position: number;
  /** Of its data's first byte in its segment, also when there is none. */
  dataStart: number;
  dataLength: number;
};

export const RECORD_VERSION = 1;
export const PREFIX_BYTES = 96;
export const SALT_BYTES = 16;

/** Data is checksummed in blocks of this size: a small read verifies at most two of them, 10 µs each. */
export const BLOCK_BYTES = 65_536;
export const CHECKSUM_BYTES = 4;

/** Data of one record: a FUSE write is at most 1 MiB; room for engines that join some. Bounds what a reader buffers. */
export const DATA_BYTES_MAX = 32 * 1024 * 1024;

/** Label, detail and rows of one record: the largest are chunk checkpoints. Bounds what a reader believes of a length. */
export const BODY_BYTES_MAX = 16 * 1024 * 1024;

/** `value length` of a row that is deleted. */
export const DELETED_VALUE_LENGTH = 0xffff_ffff;

/** How many blocks `dataLength` bytes have. */
export function blockCount(dataLength: number): number {
  return Math.ceil(dataLength / BLOCK_BYTES);
}

/** Bytes from a record's start to its data: the prefix and the checksum table. Depends on the data's length only. */
export function dataOffset(dataLength: number): number {
  return PREFIX_BYTES + CHECKSUM_BYTES * blockCount(dataLength);
}

/** Length of a whole record on disk. */
export function recordLength(dataLength: number, bodyLength: number): number {
  return dataOffset(dataLength) + dataLength + saltLength(dataLength) + bodyLength;
}

/** Bytes of salt behind the data: none where there is no data. */
export function saltLength(dataLength: number): number {
  return dataLength > 0 ? SALT_BYTES : 0;
}
