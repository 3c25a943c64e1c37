import { hash } from "node:crypto";
import { assert } from "../base/assert.ts";
import type { ByteReader, ByteWriter } from "../base/bytes.ts";
import { CHAIN_HASH_BYTES, NO_DATA_HASH } from "../journal/chain.ts";
import { type JournalRecord, PREFIX_BYTES, SALT_BYTES } from "../journal/record.ts";
import { readBody } from "../journal/record-decoder.ts";
import { CHUNK_PLACE_BYTES, type ChunkPlace, readPlace, writePlace } from "./chunk-place.ts";
import { prefixOf, type RecordFields } from "./record-fields.ts";

// FORMAT.md, "Seal": its records.

/** Bytes `skip` to `skip + length` of a record's data are those of `place`, which is as long. */
export type DataPiece = { readonly skip: number; readonly length: number; readonly place: ChunkPlace };

/** Where the data of a record stood in the journal, and where they are now: pieces in order of `skip`. None: they are not kept here. */
export type SealedData = {
  readonly segment: number;
  readonly dataStart: number;
  readonly pieces: readonly DataPiece[];
};

/** A record without its data. Where there is none, `inner`, `salt` and `data` are null. */
export type SealRecord = {
  readonly prefix: Buffer;
  /** SHA-256(salt ‖ checksum table ‖ data): with it the chain goes on without the data. */
  readonly inner: Buffer | null;
  readonly salt: Buffer | null;
  readonly body: Buffer;
  readonly data: SealedData | null;
};

/** Records in order, as an array has them or made one by one: a seal has many. They may be gone through more than once. */
export type SealRecords = Iterable<SealRecord> & { readonly length: number };

const DATA_HEAD_BYTES = 8 + 4 + 4;
const PIECE_BYTES = 4 + 4 + CHUNK_PLACE_BYTES;

/** How many bytes of a seal a record takes. */
export function sealRecordBytes(record: SealRecord): number {
  const data =
    record.data === null
      ? 0
      : CHAIN_HASH_BYTES + SALT_BYTES + DATA_HEAD_BYTES + PIECE_BYTES * record.data.pieces.length;
  return PREFIX_BYTES + 4 + record.body.length + data;
}

/** Adds a record to a seal's plain text. */
export function writeSealRecord(writer: ByteWriter, record: SealRecord): RecordFields {
  const { prefix, inner, salt, body, data } = record;
  const fields = prefixOf(prefix);
  assert(fields.bodyLength === body.length, "the body of a record is that of its prefix");
  assert(fields.dataLength > 0 === (data !== null), "a record has data or not");
  writer.bytes(prefix);
  if (data !== null) {
    assert(inner?.length === CHAIN_HASH_BYTES && salt?.length === SALT_BYTES, "inner hash and salt stand for data");
    writer.bytes(inner).bytes(salt);
  }
  writer.sized(body);
  if (data === null) return fields;
  writer.u64(data.segment).u32(data.dataStart).u32(data.pieces.length);
  let end = 0;
  for (const { skip, length, place } of data.pieces) {
    assert(skip >= end && length > 0 && length === place.length, "pieces are in order");
    end = skip + length;
    writer.u32(skip).u32(length);
    writePlace(writer, place);
  }
  assert(end <= fields.dataLength, "pieces are inside of the data");
  return fields;
}

/** Reads the next record; its buffers are views of the reader's. Throws RangeError for what is none. */
export function readSealRecord(reader: ByteReader): { readonly record: SealRecord; readonly fields: RecordFields } {
  const prefix = reader.bytes(PREFIX_BYTES);
  const fields = prefixOf(prefix);
  const hasData = fields.dataLength > 0;
  const inner = hasData ? reader.bytes(CHAIN_HASH_BYTES) : null;
  const salt = hasData ? reader.bytes(SALT_BYTES) : null;
  const body = reader.sized();
  if (body.length !== fields.bodyLength) throw new RangeError(`record ${fields.lsn} has a body of another length`);
  const data = hasData ? readData(reader, fields) : null;
  return { record: { prefix, inner, salt, body, data }, fields };
}

function readData(reader: ByteReader, { lsn, dataLength }: RecordFields): SealedData {
  const segment = reader.u64();
  const dataStart = reader.u32();
  const count = reader.u32();
  if (count * PIECE_BYTES > reader.remaining) throw new RangeError(`record ${lsn} claims ${count} pieces of data`);
  return { segment, dataStart, pieces: readPieces(reader, { count, dataLength }) };
}

/** Reads `count` pieces of `dataLength` bytes of data; the caller has checked that so many can be there. Throws RangeError for pieces that are out of order or of the data. */
export function readPieces(
  reader: ByteReader,
  { count, dataLength }: { readonly count: number; readonly dataLength: number },
): DataPiece[] {
  const pieces: DataPiece[] = [];
  let end = 0;
  for (let index = 0; index < count; index++) {
    const skip = reader.u32();
    const length = reader.u32();
    const place = readPlace(reader);
    if (skip < end || length === 0 || skip + length > dataLength || length !== place.length)
      throw new RangeError(`a piece at ${skip}, ${length} bytes long, of ${dataLength} bytes of data`);
    end = skip + length;
    pieces.push({ skip, length, place });
  }
  return pieces;
}

/** h(n) from h(n-1) and record n (../journal/FORMAT.md, "Chain"). */
export function chainNext(previous: Buffer, { prefix, body, inner }: SealRecord): Buffer {
  return hash("sha256", Buffer.concat([previous, prefix, body, inner ?? NO_DATA_HASH]), "buffer");
}

/** The record as the journal would give it; its place is where its data stood, if it had some. Throws RangeError for a body that is none. */
export function journalRecordOf({ prefix, body, data }: SealRecord): JournalRecord {
  const { lsn, op, time, mountId, unique, durableLsn, dataLength, uid, gid, pid } = prefixOf(prefix);
  const { label, detail, rows } = readBody(body);
  return {
    lsn,
    op,
    time,
    actor: { mountId, uid, gid, pid, label },
    unique,
    durableLsn,
    detail,
    rows,
    segment: data?.segment ?? 0,
    position: 0,
    dataStart: data?.dataStart ?? 0,
    dataLength,
  };
}
