import fs from "node:fs";
import path from "node:path";
import { crc32 } from "node:zlib";
import { assert } from "../base/assert.ts";
import { ByteReader, ByteWriter } from "../base/bytes.ts";
import { writeWhole } from "../base/durable-file.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { AppId, Lsn } from "../domain/ids.ts";
import { BLOCK_BYTES, blockCount, CHECKSUM_BYTES } from "./record.ts";

// FORMAT.md, "Erasing": what is known of records whose data were erased.

/** A part of a record's data: [from, to). */
export type DataRange = { readonly from: number; readonly to: number };

/** What stands for the erased data of a record, so that the rest of it can still be verified. */
export type Erasure = {
  /** Of the record's first byte in its segment. */
  readonly position: number;
  readonly lsn: Lsn;
  readonly dataLength: number;
  /** The record's inner hash (FORMAT.md, "Chain"), as it was before. */
  readonly inner: Buffer;
  /** crc32 of the body, started with the segment's seed. */
  readonly bodyChecksum: number;
  /** The body did not verify before: it never does again. */
  readonly isBodyDamaged: boolean;
  /** What was erased: in order, apart from each other. These bytes are zeros. */
  readonly ranges: readonly DataRange[];
  /** The checksums of the blocks that the ranges touch, as they are after it, in order. */
  readonly blocks: readonly { readonly index: number; readonly checksum: number }[];
};

const MAGIC = "TMER";
const VERSION = 1;
const HEADER_BYTES = 36;
const FLAG_BODY_DAMAGED = 1;

/** Records of one segment: none is shorter than a prefix. Bounds what a reader believes of a count. */
const ENTRIES_MAX = 1_000_000;

const NAME = /^([0-9a-f]{16})\.erased(\.new)?$/;

/** The file that tells what was erased of a segment. */
export function erasuresName(segment: number): string {
  return `${segment.toString(16).padStart(16, "0")}.erased`;
}

/** Whether a file of a journal's folder is such a one, or its draft. */
export function isErasuresName(name: string): boolean {
  return NAME.test(name);
}

/** Looks up what was erased, in the files themselves: shared with nobody, so any thread may have its own. Keeps those of one segment in memory. */
export class Erasures {
  readonly #folder: string;
  readonly #appId: AppId;
  #known: { readonly segment: number; readonly stamp: string; readonly byPosition: Map<number, Erasure> } | undefined;

  constructor(folder: string, appId: AppId) {
    this.#folder = folder;
    this.#appId = appId;
  }

  /** Of the record at `position` of the segment; undefined: nothing of it was erased. Throws DATA_DAMAGED or DATA_FOLDER_FOREIGN for a file that can't be used. */
  find(segment: number, position: number): Erasure | undefined {
    const file = path.join(this.#folder, erasuresName(segment));
    const stamp = stampOf(file);
    if (stamp === undefined) return undefined;
    if (this.#known?.segment !== segment || this.#known.stamp !== stamp) {
      const all = readErasures(this.#folder, this.#appId, segment);
      this.#known = { segment, stamp, byPosition: new Map(all.map((each) => [each.position, each])) };
    }
    return this.#known.byPosition.get(position);
  }
}

function stampOf(file: string): string | undefined {
  const stat = fs.statSync(file, { throwIfNoEntry: false });
  return stat === undefined ? undefined : `${stat.ino}:${stat.size}:${stat.mtimeMs}`;
}

/** All erasures of a segment, in order. Throws as `Erasures.find`. */
export function readErasures(folder: string, appId: AppId, segment: number): Erasure[] {
  const file = path.join(folder, erasuresName(segment));
  let bytes: Buffer;
  try {
    bytes = fs.readFileSync(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
  try {
    return decodeErasures(bytes, { appId, segment });
  } catch (error) {
    if (error instanceof TidemarkError) throw new TidemarkError(error.code, `${file}: ${error.message}`);
    throw new TidemarkError("DATA_DAMAGED", `${file} is damaged: ${(error as Error).message}`, { data: { segment } });
  }
}

/** Writes what was erased of a segment in place of what the file said before: durable when it resolves, and whole at any time. */
export function writeErasures(
  folder: string,
  of: { readonly appId: AppId; readonly segment: number },
  all: readonly Erasure[],
): Promise<void> {
  return writeWhole(path.join(folder, erasuresName(of.segment)), encodeErasures(of, all));
}

/** The bytes of the file. */
export function encodeErasures(
  { appId, segment }: { readonly appId: AppId; readonly segment: number },
  all: readonly Erasure[],
): Buffer {
  const writer = new ByteWriter(HEADER_BYTES + all.length * 96);
  writer.bytes(Buffer.from(MAGIC, "latin1")).u8(VERSION).bytes(Buffer.alloc(3));
  writer.bytes(Buffer.from(appId, "hex")).u64(segment).u32(all.length);
  const sorted = [...all].sort((left, right) => left.position - right.position);
  for (const each of sorted) {
    writer
      .u32(each.position)
      .u64(each.lsn)
      .u32(each.dataLength)
      .u8(each.isBodyDamaged ? FLAG_BODY_DAMAGED : 0);
    writer.bytes(each.inner).u32(each.bodyChecksum).u32(each.ranges.length).u32(each.blocks.length);
    for (const { from, to } of each.ranges) writer.u32(from).u32(to);
    for (const { index, checksum } of each.blocks) writer.u32(index).u32(checksum);
  }
  const body = writer.finish();
  const checksum = Buffer.alloc(CHECKSUM_BYTES);
  checksum.writeUInt32BE(crc32(body));
  return Buffer.concat([body, checksum]);
}

/** Throws RangeError for bytes that make no sense, DATA_FOLDER_FOREIGN for a newer version or another segment's. */
export function decodeErasures(
  bytes: Buffer,
  expected: { readonly appId: AppId; readonly segment: number },
): Erasure[] {
  if (bytes.length < HEADER_BYTES || bytes.toString("latin1", 0, 4) !== MAGIC)
    throw new RangeError("not an erasures file");
  const reader = new ByteReader(bytes.subarray(0, bytes.length - CHECKSUM_BYTES), 4);
  const version = reader.u8();
  if (version !== VERSION) throw foreign(`version ${version}, this program reads version ${VERSION}`);
  if (crc32(bytes.subarray(0, -CHECKSUM_BYTES)) !== bytes.readUInt32BE(bytes.length - CHECKSUM_BYTES))
    throw new RangeError("the checksum does not match");
  reader.bytes(3);
  if (reader.bytes(16).toString("hex") !== expected.appId || reader.u64() !== expected.segment)
    throw foreign("it is of another segment");
  const count = reader.u32();
  if (count > ENTRIES_MAX) throw new RangeError(`${count} records`);
  const all: Erasure[] = [];
  for (let left = count; left > 0; left -= 1) all.push(readErasure(reader));
  if (reader.remaining !== 0) throw new RangeError(`${reader.remaining} bytes left over`);
  return all;
}

function readErasure(reader: ByteReader): Erasure {
  const position = reader.u32();
  const lsn = reader.u64() as Lsn;
  const dataLength = reader.u32();
  const isBodyDamaged = (reader.u8() & FLAG_BODY_DAMAGED) !== 0;
  const inner = Buffer.from(reader.bytes(32));
  const bodyChecksum = reader.u32();
  const rangeCount = reader.u32();
  const blocksTouched = reader.u32();
  if ((rangeCount + blocksTouched) * 8 > reader.remaining) throw new RangeError("more ranges than bytes");
  const ranges = Array.from({ length: rangeCount }, () => ({ from: reader.u32(), to: reader.u32() }));
  const blocks = Array.from({ length: blocksTouched }, () => ({ index: reader.u32(), checksum: reader.u32() }));
  if (ranges.some(({ from, to }) => from >= to || to > dataLength)) throw new RangeError("a range that is none");
  if (blocks.some(({ index }) => index >= blockCount(dataLength))) throw new RangeError("a block that is none");
  return { position, lsn, dataLength, inner, bodyChecksum, isBodyDamaged, ranges, blocks };
}

function foreign(why: string): TidemarkError {
  return new TidemarkError("DATA_FOLDER_FOREIGN", why);
}

/** The parts of [0, dataLength) that were not erased, in order. */
export function survivors(erasure: Pick<Erasure, "ranges" | "dataLength">): DataRange[] {
  const left: DataRange[] = [];
  let at = 0;
  for (const { from, to } of erasure.ranges) {
    if (from > at) left.push({ from: at, to: from });
    at = to;
  }
  if (at < erasure.dataLength) left.push({ from: at, to: erasure.dataLength });
  return left;
}

/** Makes the erased bytes of a record's data zeros, also where a process that was at it has not come to yet. */
export function zeroErased(data: Buffer, erasure: Erasure): void {
  for (const { from, to } of erasure.ranges) data.fill(0, from, to);
}

/**
 * Index of the first block of a record's data, whose erased bytes are zeros, that does not verify, or -1: the blocks that were touched by what the erasure says, the others by the record's table. So it doesn't matter
 * how far erasing had come when table and data were read.
 */
export function damagedSurvivor(table: Buffer, data: Buffer, erasure: Erasure): number {
  assert(data.length === erasure.dataLength, "the data of an erasure");
  const touched = new Map(erasure.blocks.map(({ index, checksum }) => [index, checksum]));
  for (let index = 0; index < blockCount(data.length); index += 1) {
    const wanted = touched.get(index) ?? table.readUInt32BE(table.length - CHECKSUM_BYTES * (index + 1));
    if (crc32(data.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES)) !== wanted) return index;
  }
  return -1;
}
