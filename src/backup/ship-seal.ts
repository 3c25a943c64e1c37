import { assert, present } from "../base/assert.ts";
import type { Timestamp } from "../base/clock.ts";
import type { Lsn } from "../domain/ids.ts";
import { CHAIN_HASH_BYTES } from "../journal/chain.ts";
import { PREFIX_BYTES, SALT_BYTES } from "../journal/record.ts";
import type { VerifiedRecord } from "../journal/verified-stream.ts";
import { CHUNK_PLACE_BYTES } from "../repository/chunk-place.ts";
import { CHUNK_SIZES } from "../repository/chunker.ts";
import type { DataPiece, SealRecord, SealRecords } from "../repository/seal-record.ts";
import type { DraftPiece } from "./ship-chunks.ts";

/** Bounds of one seal: what is reached first ends it. */
export type SealLimits = {
  /** Of journal, data included. What a retry does again at most. */
  readonly journalBytesMax: number;
  readonly recordsMax: number;
  /** Of records without their data: held in memory until the seal is put, and while that is encoded about twice more. Well below what a reader takes (seal-codec.ts). */
  readonly plainBytesMax: number;
};

export const SEAL_LIMITS: SealLimits = {
  journalBytesMax: 256 * 1024 * 1024,
  recordsMax: 100_000,
  plainBytesMax: 16 * 1024 * 1024,
};

/** Framing of a record in a seal beside its body: prefix, lengths, hash, salt, where its data are. */
const RECORD_BYTES = 200;
const PIECE_BYTES = 8 + CHUNK_PLACE_BYTES;

/** Copies share buffers of this size: a buffer of its own for each would cost more than what is in it. */
const SLAB_BYTES = 1024 * 1024;

/** Where the copy of a record is: prefix, body, and of one with data inner hash and salt. */
type DraftRecord = {
  readonly bytes: Buffer;
  readonly at: number;
  readonly bodyLength: number;
  readonly segment: number;
  readonly dataStart: number;
  /** null: there are no data. */
  readonly pieces: DraftPiece[] | null;
};

/** A seal being made: records of the journal in order, with where their data will be. */
export class SealDraft {
  readonly from: Lsn;
  readonly #limits: SealLimits;
  readonly #records: DraftRecord[] = [];
  #slab = Buffer.alloc(0);
  #slabUsed = 0;
  #firstTime: Timestamp | undefined;
  #lastTime: Timestamp | undefined;
  journalBytes = 0;
  /** Of the records without their data. */
  plainBytes = 0;
  to: Lsn;
  /** h(to). */
  chain: Buffer;

  constructor(from: Lsn, options: { readonly chain: Buffer; readonly limits: SealLimits }) {
    this.from = from;
    this.to = (from - 1) as Lsn;
    this.chain = options.chain;
    this.#limits = options.limits;
  }

  get recordCount(): number {
    return this.#records.length;
  }

  get firstTime(): Timestamp {
    return present(this.#firstTime, "a record");
  }

  get lastTime(): Timestamp {
    return present(this.#lastTime, "a record");
  }

  /** Whether the record would make the seal too large. One that is alone never does. */
  isFullFor(record: VerifiedRecord): boolean {
    if (this.#records.length === 0) return false;
    const { journalBytesMax, recordsMax, plainBytesMax } = this.#limits;
    return (
      this.#records.length >= recordsMax ||
      this.journalBytes + record.fields.length > journalBytesMax ||
      this.plainBytes + plainBytesOf(record) > plainBytesMax
    );
  }

  /** Adds the next record, of which it keeps a copy. `pieces`, of one with data: they may come later, but before `sealRecords`. */
  add(record: VerifiedRecord, chain: Buffer, pieces: DraftPiece[] | null): void {
    const { fields, segment, dataStart } = record;
    assert(fields.lsn === this.to + 1, "the records of a seal are dense");
    assert(fields.dataLength > 0 === (pieces !== null), "a record has data or not");
    this.to = fields.lsn;
    this.chain = chain;
    this.#lastTime = { sec: fields.sec, nsec: fields.nsec };
    this.#firstTime ??= this.#lastTime;
    this.journalBytes += fields.length;
    this.plainBytes += plainBytesOf(record);
    const { bytes, at } = this.#copy(record, pieces !== null);
    this.#records.push({ bytes, at, bodyLength: fields.bodyLength, segment, dataStart, pieces });
  }

  /** The records as a seal has them, made as they are asked for. All packs are finished by now. */
  sealRecords(): SealRecords {
    const records = this.#records;
    return {
      length: records.length,
      *[Symbol.iterator]() {
        for (const record of records) yield sealRecordOf(record);
      },
    };
  }

  /** Whether a piece is in one of `packs`. */
  names(packs: ReadonlySet<string>): boolean {
    if (packs.size === 0) return false;
    return this.#records.some(
      ({ pieces }) => pieces?.some(({ source }) => packs.has(source.place?.pack ?? "")) ?? false,
    );
  }

  #copy({ prefix, body, inner, salt }: VerifiedRecord, hasData: boolean): { bytes: Buffer; at: number } {
    const length = prefix.length + body.length + (hasData ? inner.length + salt.length : 0);
    if (length > this.#slab.length - this.#slabUsed) {
      this.#slab = Buffer.allocUnsafeSlow(Math.max(SLAB_BYTES, length));
      this.#slabUsed = 0;
    }
    const place = { bytes: this.#slab, at: this.#slabUsed };
    let at = this.#slabUsed;
    for (const part of hasData ? [prefix, body, inner, salt] : [prefix, body]) at += part.copy(this.#slab, at);
    this.#slabUsed = at;
    return place;
  }
}

/** Pieces in the order of the data, each with the place of its own bytes. */
export function placed(pieces: DraftPiece[]): DataPiece[] {
  pieces.sort((left, right) => left.skip - right.skip);
  return pieces.map(({ skip, length, source, chunkSkip }) => {
    const chunk = present(source.place, "the place of a chunk whose pack is finished");
    return { skip, length, place: { ...chunk, chunkOffset: chunk.chunkOffset + chunkSkip, length } };
  });
}

function sealRecordOf({ bytes, at, bodyLength, segment, dataStart, pieces }: DraftRecord): SealRecord {
  const bodyAt = at + PREFIX_BYTES;
  const innerAt = bodyAt + bodyLength;
  const saltAt = innerAt + CHAIN_HASH_BYTES;
  const prefix = bytes.subarray(at, bodyAt);
  const body = bytes.subarray(bodyAt, innerAt);
  if (pieces === null) return { prefix, body, inner: null, salt: null, data: null };
  const inner = bytes.subarray(innerAt, saltAt);
  const salt = bytes.subarray(saltAt, saltAt + SALT_BYTES);
  return { prefix, body, inner, salt, data: { segment, dataStart, pieces: placed(pieces) } };
}

function plainBytesOf({ fields }: VerifiedRecord): number {
  const pieces = fields.dataLength === 0 ? 0 : 2 + Math.ceil(fields.dataLength / CHUNK_SIZES.averageBytes);
  return RECORD_BYTES + fields.bodyLength + pieces * PIECE_BYTES;
}
