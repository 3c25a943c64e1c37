import { hash } from "node:crypto";
import { assert } from "../base/assert.ts";
import { ByteReader, ByteWriter } from "../base/bytes.ts";
import type { Lsn } from "../domain/ids.ts";
import { ChainLinker, NO_DATA_HASH } from "../journal/chain.ts";
import type { AppKeys } from "./app-keys.ts";
import { asDamage } from "./as-damage.ts";
import type { RandomFill } from "./key-wrap.ts";
import type { SealId } from "./names.ts";
import { openFrames, openObject, sealObject } from "./object-codec.ts";
import { damagedObject } from "./object-errors.ts";
import { readSealHead, type SealHead } from "./seal-head.ts";
import { readSealRecord, type SealRecord, type SealRecords, sealRecordBytes, writeSealRecord } from "./seal-record.ts";

// FORMAT.md, "Seal".

/** A shipper ends a seal before the record that would pass this, so that who reads one needs no more memory than that, and little more is done again after a broken upload. */
export const SEAL_PLAIN_BYTES_TARGET = 32 * 1024 * 1024;

/** No seal is larger, not with a head and one record of the largest kind (a body of 16 MiB, data of 32 MiB in small pieces). Checked when writing and reading. */
export const SEAL_PLAIN_BYTES_MAX = 64 * 1024 * 1024;

/** Most bytes of a head: 32,768 packs, and labels. */
export const SEAL_HEAD_BYTES_MAX = 4 * 1024 * 1024;

/** Most bytes of a seal's object: what zstd can't compress, with lengths and tags of 64 frames. */
export const SEAL_BYTES_MAX = SEAL_PLAIN_BYTES_MAX + 64 * 1024;

const HEAD_LENGTH_BYTES = 4;

/** Encodes a seal as an object of that name. What is asserted of head and records is what readers verify. */
export function encodeSeal(
  keys: AppKeys,
  name: string,
  seal: { readonly head: SealHead; readonly records: SealRecords; readonly fill?: RandomFill },
): Buffer[] {
  const { head, records, fill } = seal;
  assert(head.appId === keys.appId, "a seal is of its keys' app");
  assert(records.length > 0 && records.length === head.to - head.from + 1, "a seal has all records of its range");
  assert(mayFollow(head.previous, head), "a seal follows the one before");
  const json = Buffer.from(JSON.stringify(head));
  assert(json.length <= SEAL_HEAD_BYTES_MAX, "the head of a seal is too long");
  let bytes = HEAD_LENGTH_BYTES + json.length;
  for (const record of records) bytes += sealRecordBytes(record);
  assert(bytes <= SEAL_PLAIN_BYTES_MAX, "a seal is too long");
  const writer = new ByteWriter(bytes).sized(json);
  let lsn = head.from;
  for (const record of records) {
    assert(writeSealRecord(writer, record).lsn === lsn, "the records of a seal are dense");
    lsn = (lsn + 1) as Lsn;
  }
  return sealObject(keys, { kind: "seal", name }, [writer.view()], fill === undefined ? {} : { fill });
}

/** A seal that was read. */
export class Seal {
  readonly name: string;
  readonly head: SealHead;
  /** SHA-256 of the object's bytes: what the next seal names. */
  readonly hash: Buffer;
  /** Of the object. */
  readonly bytes: number;
  readonly #plain: Buffer;
  readonly #recordsStart: number;

  private constructor(name: string, seal: { bytes: Buffer; plain: Buffer; head: SealHead; recordsStart: number }) {
    this.name = name;
    this.head = seal.head;
    this.hash = hash("sha256", seal.bytes, "buffer");
    this.bytes = seal.bytes.length;
    this.#plain = seal.plain;
    this.#recordsStart = seal.recordsStart;
  }

  /** Opens the object `name`, which must be the seal `id`. Throws REPOSITORY_DAMAGED, REPOSITORY_NEWER. The records are verified as they are read. */
  static open(keys: AppKeys, object: { readonly name: string; readonly id: SealId; readonly bytes: Buffer }): Seal {
    const { name, id, bytes } = object;
    const plain = openObject(keys, { kind: "seal", name }, bytes, { plainBytesMax: SEAL_PLAIN_BYTES_MAX });
    const json = headBytes(name, plain);
    if (json === undefined) throw damagedObject(name, "it is cut off in its head");
    const head = parseHead(keys, { name, id, json });
    return new Seal(name, { bytes, plain, head, recordsStart: HEAD_LENGTH_BYTES + json.length });
  }

  /** The records in order. Their buffers are views of the seal's memory. Throws REPOSITORY_DAMAGED unless they are those of the head's range. */
  *records(): Generator<SealRecord, void> {
    const { from, to } = this.head;
    const reader = new ByteReader(this.#plain, this.#recordsStart);
    for (let lsn = from; lsn <= to; lsn = (lsn + 1) as Lsn) {
      const { record, fields } = asDamage(this.name, () => readSealRecord(reader));
      if (fields.lsn !== lsn) throw damagedObject(this.name, `record ${fields.lsn} is where ${lsn} should be`);
      yield record;
    }
    if (reader.remaining > 0) throw damagedObject(this.name, `${reader.remaining} bytes are behind its last record`);
  }

  /** Throws REPOSITORY_DAMAGED unless `previous`, h of the record before the first, leads to the head's `chain` over these records. Costs a SHA-256 over all of it. */
  verifyChain(previous: Buffer): void {
    const linker = new ChainLinker();
    let link = previous;
    for (const { prefix, body, inner } of this.records())
      link = linker.begin(link, prefix, body).finish(inner ?? NO_DATA_HASH);
    if (link.toString("hex") !== this.head.chain)
      throw damagedObject(this.name, "its records are not those that the journal's chain was made of");
  }
}

/**
 * Reads a seal's head alone: of the object's bytes as they come, only as many are asked for as are needed. Throws as `Seal.open`; what follows the head is not verified.
 */
export async function openSealHead(
  keys: AppKeys,
  object: { readonly name: string; readonly id: SealId; readonly chunks: AsyncIterable<Buffer> },
): Promise<SealHead> {
  const { name, id, chunks } = object;
  let plain: Buffer = Buffer.alloc(0);
  for await (const piece of openFrames(keys, { kind: "seal", name }, chunks)) {
    plain = plain.length === 0 ? piece : Buffer.concat([plain, piece]);
    const json = headBytes(name, plain);
    if (json !== undefined) return parseHead(keys, { name, id, json });
  }
  throw damagedObject(name, "it is cut off in its head");
}

function headBytes(name: string, plain: Buffer): Buffer | undefined {
  if (plain.length < HEAD_LENGTH_BYTES) return undefined;
  const length = plain.readUInt32BE(0);
  if (length > SEAL_HEAD_BYTES_MAX) throw damagedObject(name, `its head claims ${length} bytes`);
  const end = HEAD_LENGTH_BYTES + length;
  return plain.length < end ? undefined : plain.subarray(HEAD_LENGTH_BYTES, end);
}

function parseHead(keys: AppKeys, { name, id, json }: { name: string; id: SealId; json: Buffer }): SealHead {
  const head = asDamage(name, () => readSealHead(json));
  if (head.appId !== keys.appId || head.epoch !== id.epoch || head.sequence !== id.sequence)
    throw damagedObject(name, "its head is that of another seal");
  if (!mayFollow(head.previous, id)) throw damagedObject(name, "it goes on from a seal that can't be before it");
  return head;
}

// Of an epoch's first seal an earlier epoch's is the one before, or none; of others the one before in the epoch.
function mayFollow(previous: SealId | null, { epoch, sequence }: SealId): boolean {
  if (sequence === 1) return previous === null || (previous.epoch < epoch && previous.sequence > 0);
  return previous !== null && previous.epoch === epoch && previous.sequence === sequence - 1;
}
