import { crc32 } from "node:zlib";
import { ByteReader, readU64Be } from "../base/bytes.ts";
import type { Lsn, MountId } from "../domain/ids.ts";
import type { Erasure } from "./erasures.ts";
import {
  BLOCK_BYTES,
  BODY_BYTES_MAX,
  blockCount,
  CHECKSUM_BYTES,
  DATA_BYTES_MAX,
  DELETED_VALUE_LENGTH,
  dataOffset,
  type JournalRecord,
  PREFIX_BYTES,
  RECORD_VERSION,
  type RowOp,
  recordLength,
  saltLength,
} from "./record.ts";

/** What a record's first 96 bytes say, and what follows from it. */
export type RecordPrefix = {
  readonly lsn: Lsn;
  readonly op: number;
  readonly sec: number;
  readonly nsec: number;
  readonly mountId: MountId;
  readonly unique: number;
  readonly durableLsn: Lsn;
  readonly dataLength: number;
  readonly bodyLength: number;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  readonly restChecksum: number;
  /** Of the whole record. */
  readonly length: number;
};

/** Why bytes are not what they should be: words for people. */
export type Fault = { readonly fault: string };

export const RECORD_MAGIC = Buffer.from("TMRC", "latin1");
const MAGIC = RECORD_MAGIC.readUInt32BE(0);

/** Reads and verifies the prefix at `offset` of `buffer`, which must hold all of it. Foreign bytes give a fault, never an exception. */
export function decodePrefix(buffer: Buffer, offset: number, seed: number): RecordPrefix | Fault {
  if (buffer.readUInt32BE(offset) !== MAGIC) return { fault: "no record begins here" };
  const checksum = crc32(buffer.subarray(offset, offset + PREFIX_BYTES - CHECKSUM_BYTES), seed);
  if (checksum !== buffer.readUInt32BE(offset + 92))
    return { fault: "the record's prefix does not match its checksum" };
  if (buffer.readUInt8(offset + 4) !== RECORD_VERSION)
    return { fault: `record version ${buffer.readUInt8(offset + 4)}` };
  if (buffer.readUInt16BE(offset + 6) !== 0) return { fault: "unknown record flags" };
  const dataLength = buffer.readUInt32BE(offset + 48);
  const bodyLength = buffer.readUInt32BE(offset + 52);
  if (dataLength > DATA_BYTES_MAX || bodyLength > BODY_BYTES_MAX)
    return { fault: "the record is longer than any may be" };
  const sec = buffer.readInt32BE(offset + 16) * 0x1_0000_0000 + buffer.readUInt32BE(offset + 20);
  const nsec = buffer.readUInt32BE(offset + 24);
  if (!Number.isSafeInteger(sec) || nsec >= 1_000_000_000) return { fault: "the record's time is out of range" };
  // High words above 2^21 would pass the safe integers.
  for (const at of [8, 32, 40])
    if (buffer.readUInt32BE(offset + at) > 0x1f_ffff) return { fault: "a number is out of range" };
  return {
    lsn: readU64Be(buffer, offset + 8) as Lsn,
    op: buffer.readUInt8(offset + 5),
    sec,
    nsec,
    mountId: buffer.readUInt32BE(offset + 28) as MountId,
    unique: readU64Be(buffer, offset + 32),
    durableLsn: readU64Be(buffer, offset + 40) as Lsn,
    dataLength,
    bodyLength,
    uid: buffer.readUInt32BE(offset + 56),
    gid: buffer.readUInt32BE(offset + 60),
    pid: buffer.readUInt32BE(offset + 64),
    restChecksum: buffer.readUInt32BE(offset + 88),
    length: recordLength(dataLength, bodyLength),
  };
}

/** Whether a decoder's answer is a fault. */
export function isFault(value: object): value is Fault {
  return "fault" in value;
}

export type RecordPlace = { readonly segment: number; readonly position: number; readonly seed: number };

/**
 * Verifies table, salt and body of a record and reads the body. `table` is what stands between prefix and data, `tail` what follows the
 * data. The record keeps a copy of the body: `tail` may be used again.
 */
export function decodeRecord(
  prefix: RecordPrefix,
  table: Buffer,
  tail: Buffer,
  place: RecordPlace,
): JournalRecord | Fault {
  const tableChecksum = table.length > 0 ? crc32(table, place.seed) : place.seed;
  if (crc32(tail, tableChecksum) !== prefix.restChecksum)
    return { fault: "the record's body does not match its checksum" };
  return recordOf(prefix, tail.subarray(saltLength(prefix.dataLength)) as Buffer, place);
}

/** The same for a record whose data were erased, and with them what the prefix's checksum of the rest covers beside the body. */
export function decodeErasedRecord(
  prefix: RecordPrefix,
  tail: Buffer,
  place: RecordPlace,
  erasure: Erasure,
): JournalRecord | Fault {
  const body = tail.subarray(saltLength(prefix.dataLength)) as Buffer;
  const isOfIt = erasure.lsn === prefix.lsn && erasure.dataLength === prefix.dataLength && !erasure.isBodyDamaged;
  if (!isOfIt || crc32(body, place.seed) !== erasure.bodyChecksum)
    return { fault: "the record's body does not match its checksum, and its data were erased" };
  return recordOf(prefix, body, place);
}

/** Reads a body that was verified. The record keeps a copy of it. */
function recordOf(prefix: RecordPrefix, verified: Buffer, place: RecordPlace): JournalRecord | Fault {
  let body: RecordBody;
  try {
    body = readBody(Buffer.from(verified));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return { fault: `the record's body is malformed: ${error.message}` };
  }
  const { mountId, uid, gid, pid } = prefix;
  return {
    lsn: prefix.lsn,
    op: prefix.op,
    time: { sec: prefix.sec, nsec: prefix.nsec },
    actor: { mountId, uid, gid, pid, label: body.label },
    unique: prefix.unique,
    durableLsn: prefix.durableLsn,
    detail: body.detail,
    rows: body.rows,
    segment: place.segment,
    position: place.position,
    dataStart: place.position + dataOffset(prefix.dataLength),
    dataLength: prefix.dataLength,
  };
}

/** Index of the first block of `data` that does not match, or -1. The last entry of `table` is that of the first block (FORMAT.md: last block first). */
export function damagedBlock(table: Buffer, data: Uint8Array): number {
  const blocks = blockCount(data.length);
  for (let index = 0; index < blocks; index += 1) {
    const bytes = blocks === 1 ? data : data.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
    if (crc32(bytes) !== table.readUInt32BE(table.length - CHECKSUM_BYTES * (index + 1))) return index;
  }
  return -1;
}

/** What a record's body says. Its buffers are views of it. */
export type RecordBody = { readonly label: string; readonly detail: Buffer; readonly rows: RowOp[] };

/** Reads a record's body. Throws RangeError for what is none. */
export function readBody(bytes: Buffer): RecordBody {
  const reader = new ByteReader(bytes);
  const label = reader.bytes(reader.u8()).toString();
  const detail = reader.bytes(reader.u16());
  const count = reader.u32();
  // Each row takes at least 6 bytes: a count beyond what is left is refused before anything is allocated for it.
  if (count * 6 > reader.remaining) throw new RangeError(`${count} rows in ${reader.remaining} bytes`);
  const rows: RowOp[] = [];
  for (let index = 0; index < count; index += 1) {
    const keyLength = reader.u16();
    const valueLength = reader.u32();
    const key = reader.bytes(keyLength);
    rows.push({ key, value: valueLength === DELETED_VALUE_LENGTH ? null : reader.bytes(valueLength) });
  }
  if (reader.remaining !== 0) throw new RangeError(`${reader.remaining} bytes left over`);
  return { label, detail, rows };
}
