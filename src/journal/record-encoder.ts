import { randomFillSync } from "node:crypto";
import { crc32 } from "node:zlib";
import { assert } from "../base/assert.ts";
import { writeU64Be } from "../base/bytes.ts";
import { ACTOR_LABEL_BYTES_MAX } from "../domain/actor.ts";
import type { Lsn } from "../domain/ids.ts";
import {
  BLOCK_BYTES,
  BODY_BYTES_MAX,
  blockCount,
  CHECKSUM_BYTES,
  DATA_BYTES_MAX,
  DELETED_VALUE_LENGTH,
  dataOffset,
  PREFIX_BYTES,
  RECORD_VERSION,
  type RecordDraft,
  SALT_BYTES,
} from "./record.ts";

/**
 * Data up to this length is copied between head and tail, so that the record is one piece: a copy of 4 KiB costs 40 ns, a vector of
 * three costs 600 ns. Above it the copy costs more.
 */
const COPIED_DATA_BYTES_MAX = 32_768;

/** Salts are taken from a pool: one call of the random source for 4,096 of them. */
const SALT_POOL_BYTES = 65_536;

/** Where the encoder takes salts from: fills the whole buffer. */
export type SaltSource = (pool: Buffer) => void;

export type EncodeContext = {
  readonly lsn: Lsn;
  readonly durableLsn: Lsn;
  /** Of the segment: where its checksums start. */
  readonly seed: number;
};

export type EncodedRecord = {
  /** To be written one after the other. Views of the encoder's buffer and of the draft's data: valid until the next `encode`. */
  readonly parts: readonly Uint8Array[];
  readonly length: number;
};

/** Encodes drafts (FORMAT.md, "Record") into a buffer of its own, used again for every record. */
export class RecordEncoder {
  #buffer = Buffer.allocUnsafeSlow(131_072);
  readonly #salts = Buffer.allocUnsafeSlow(SALT_POOL_BYTES);
  #saltsUsed = SALT_POOL_BYTES;
  readonly #fillSalts: SaltSource;

  /** `fillSalts` is for tests: salts must be unpredictable. */
  constructor(fillSalts: SaltSource = (pool) => void randomFillSync(pool)) {
    this.#fillSalts = fillSalts;
  }

  /** Encodes `draft`. Its limits are asserted: an engine that passes them has a bug. */
  encode(draft: RecordDraft, context: EncodeContext): EncodedRecord {
    const dataLength = draft.data?.length ?? 0;
    const bodyLength = bodyLengthOf(draft);
    assert(dataLength <= DATA_BYTES_MAX, "data of a record is too long");
    assert(bodyLength <= BODY_BYTES_MAX, "body of a record is too long");
    const headLength = dataOffset(dataLength);
    const copied = dataLength <= COPIED_DATA_BYTES_MAX;
    const tailStart = copied ? headLength + dataLength : headLength;
    const bodyStart = dataLength > 0 ? tailStart + SALT_BYTES : tailStart;
    const end = bodyStart + bodyLength;
    this.#reserve(end);
    const buffer = this.#buffer;

    if (draft.data !== null && dataLength > 0) {
      writeChecksumTable(buffer, headLength, draft.data);
      this.#writeSalt(buffer, tailStart);
    }
    const bodyEnd = writeBody(buffer, bodyStart, draft);
    assert(bodyEnd === end, "body length");
    const tableChecksum =
      dataLength > 0 ? crc32(buffer.subarray(PREFIX_BYTES, headLength), context.seed) : context.seed;
    const restChecksum = crc32(buffer.subarray(tailStart, end), tableChecksum);
    writePrefix(buffer, draft, { ...context, dataLength, bodyLength, restChecksum });

    if (draft.data === null || dataLength === 0) return { parts: [buffer.subarray(0, end)], length: end };
    if (copied) {
      buffer.set(draft.data, headLength);
      return { parts: [buffer.subarray(0, end)], length: end };
    }
    const parts = [buffer.subarray(0, headLength), draft.data, buffer.subarray(tailStart, end)];
    return { parts, length: end + dataLength };
  }

  #reserve(length: number): void {
    if (length > this.#buffer.length) this.#buffer = Buffer.allocUnsafeSlow(Math.max(length, this.#buffer.length * 2));
  }

  #writeSalt(target: Buffer, position: number): void {
    if (this.#saltsUsed === SALT_POOL_BYTES) {
      this.#fillSalts(this.#salts);
      this.#saltsUsed = 0;
    }
    this.#salts.copy(target, position, this.#saltsUsed, this.#saltsUsed + SALT_BYTES);
    this.#saltsUsed += SALT_BYTES;
  }
}

/** Length of the body that `draft` will have. */
export function bodyLengthOf(draft: RecordDraft): number {
  const { label } = draft.actor;
  let length = 1 + (label === "" ? 0 : Buffer.byteLength(label)) + 2 + draft.detail.length + 4;
  for (const row of draft.rows) length += 6 + row.key.length + (row.value === null ? 0 : row.value.length);
  return length;
}

// The table stands right before the data, last block first.
function writeChecksumTable(buffer: Buffer, dataStart: number, data: Uint8Array): void {
  const blocks = blockCount(data.length);
  if (blocks === 1) {
    buffer.writeUInt32BE(crc32(data), dataStart - CHECKSUM_BYTES);
    return;
  }
  for (let block = 0; block < blocks; block += 1) {
    const bytes = data.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
    buffer.writeUInt32BE(crc32(bytes), dataStart - CHECKSUM_BYTES * (block + 1));
  }
}

function writeBody(buffer: Buffer, start: number, draft: RecordDraft): number {
  const { label } = draft.actor;
  const labelLength = label === "" ? 0 : buffer.write(label, start + 1);
  assert(labelLength <= ACTOR_LABEL_BYTES_MAX, "actor label is too long");
  let at = buffer.writeUInt8(labelLength, start) + labelLength;
  at = buffer.writeUInt16BE(draft.detail.length, at);
  buffer.set(draft.detail, at);
  at = buffer.writeUInt32BE(draft.rows.length, at + draft.detail.length);
  for (const { key, value } of draft.rows) {
    at = buffer.writeUInt16BE(key.length, at);
    at = buffer.writeUInt32BE(value === null ? DELETED_VALUE_LENGTH : value.length, at);
    buffer.set(key, at);
    at += key.length;
    if (value !== null) {
      buffer.set(value, at);
      at += value.length;
    }
  }
  return at;
}

type PrefixContext = EncodeContext & {
  readonly dataLength: number;
  readonly bodyLength: number;
  readonly restChecksum: number;
};

function writePrefix(buffer: Buffer, draft: RecordDraft, context: PrefixContext): void {
  const { time, actor } = draft;
  assert(Number.isSafeInteger(time.sec), "seconds out of the safe range");
  assert(time.nsec >= 0 && time.nsec < 1_000_000_000, "nanoseconds out of range");
  buffer.fill(0, 0, PREFIX_BYTES);
  buffer.write("TMRC", 0, "latin1");
  buffer.writeUInt8(RECORD_VERSION, 4);
  buffer.writeUInt8(draft.op, 5);
  writeU64Be(buffer, context.lsn, 8);
  buffer.writeInt32BE(Math.floor(time.sec / 0x1_0000_0000), 16);
  buffer.writeUInt32BE(time.sec >>> 0, 20);
  buffer.writeUInt32BE(time.nsec, 24);
  buffer.writeUInt32BE(actor.mountId, 28);
  writeU64Be(buffer, draft.unique, 32);
  writeU64Be(buffer, context.durableLsn, 40);
  buffer.writeUInt32BE(context.dataLength, 48);
  buffer.writeUInt32BE(context.bodyLength, 52);
  buffer.writeUInt32BE(actor.uid, 56);
  buffer.writeUInt32BE(actor.gid, 60);
  buffer.writeUInt32BE(actor.pid, 64);
  buffer.writeUInt32BE(context.restChecksum, 88);
  buffer.writeUInt32BE(crc32(buffer.subarray(0, PREFIX_BYTES - CHECKSUM_BYTES), context.seed), 92);
}
