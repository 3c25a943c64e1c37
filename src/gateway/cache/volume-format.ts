import { crc32 } from "node:zlib";
import { assert } from "../../base/assert.ts";
import type { AppId } from "../../domain/ids.ts";

/**
 * A volume of the read cache: a file of extents, one after the other as they were fetched. Numbers are big endian. Nothing is ever synced: what a crash has torn does not verify and is fetched again.
 *
 * Head, 64 bytes:   0..7 magic "tmkcache" | 8 version u8 = 1 | 9..15 zero | 16..31 id of the app | 32..59 zero | 60..63 crc32 of bytes 0..59
 * Extent:           0..3 magic "tmke" | 4..7 length u32 | 8..15 segment u64 | 16..23 position u64 | 24..27 zero | 28..31 crc32 of bytes 0..27 and the sums
 *                   then a u32 for each 64 KiB of data, the last may be shorter: their crc32, begun with the crc32 of bytes 4..23, so that the bytes of one place never pass for those of another
 *                   then the data
 */

export const VOLUME_HEAD_BYTES = 64;
export const EXTENT_HEAD_BYTES = 32;

/** Data that has a checksum of its own: a small read verifies a small part. */
export const SUMMED_BYTES = 65_536;

/** Largest extent: what one read brings. */
export const EXTENT_BYTES_MAX = 1024 * 1024;

/** Room to read the head of any extent with its sums. */
export const EXTENT_HEAD_BYTES_MAX = EXTENT_HEAD_BYTES + 4 * (EXTENT_BYTES_MAX / SUMMED_BYTES);

const VOLUME_MAGIC = Buffer.from("tmkcache");
const EXTENT_MAGIC = 0x746d6b65;
const VERSION = 1;

/** Bytes of an app's journal: where they are, for ever. */
export type Place = { readonly segment: number; readonly position: number };

/** An extent as its head tells. `dataAt`: where its data begin, from the head's first byte. */
export type ExtentHead = Place & {
  readonly length: number;
  readonly sums: readonly number[];
  readonly dataAt: number;
};

export function encodeVolumeHead(app: AppId): Buffer {
  const head = Buffer.alloc(VOLUME_HEAD_BYTES);
  VOLUME_MAGIC.copy(head, 0);
  head.writeUInt8(VERSION, 8);
  head.write(app, 16, "hex");
  head.writeUInt32BE(crc32(head.subarray(0, 60)), 60);
  return head;
}

/** Whether a file begins as a volume of `app` in this format. Any other is of no use, and nothing is lost with it. */
export function isVolumeHead(bytes: Buffer, app: AppId): boolean {
  return bytes.length >= VOLUME_HEAD_BYTES && bytes.subarray(0, VOLUME_HEAD_BYTES).equals(encodeVolumeHead(app));
}

/** Bytes that an extent of `length` takes in a volume. */
export function extentBytes(length: number): number {
  return EXTENT_HEAD_BYTES + 4 * Math.ceil(length / SUMMED_BYTES) + length;
}

/** Writes the extent to `into` at `at`. Answers what its head says. */
export function encodeExtent(
  into: Buffer,
  at: number,
  { segment, position, data }: Place & { readonly data: Uint8Array },
): ExtentHead {
  const { length } = data;
  assert(length > 0 && length <= EXTENT_BYTES_MAX, "length of a cached extent");
  const head = into.subarray(at, at + EXTENT_HEAD_BYTES);
  head.fill(0);
  head.writeUInt32BE(EXTENT_MAGIC, 0);
  head.writeUInt32BE(length, 4);
  head.writeBigUInt64BE(BigInt(segment), 8);
  head.writeBigUInt64BE(BigInt(position), 16);
  const sums = sumsOf(seedOf(head), data);
  const dataAt = EXTENT_HEAD_BYTES + 4 * sums.length;
  for (const [index, sum] of sums.entries()) into.writeUInt32BE(sum, at + EXTENT_HEAD_BYTES + 4 * index);
  head.writeUInt32BE(crc32(into.subarray(at + EXTENT_HEAD_BYTES, at + dataAt), crc32(head.subarray(0, 28))), 28);
  into.set(data, at + dataAt);
  return { segment, position, length, sums, dataAt };
}

/** The head at the beginning of `bytes`; undefined when there is none that is whole. */
export function decodeExtentHead(bytes: Buffer): ExtentHead | undefined {
  if (bytes.length < EXTENT_HEAD_BYTES || bytes.readUInt32BE(0) !== EXTENT_MAGIC) return undefined;
  const length = bytes.readUInt32BE(4);
  if (length === 0 || length > EXTENT_BYTES_MAX) return undefined;
  const dataAt = EXTENT_HEAD_BYTES + 4 * Math.ceil(length / SUMMED_BYTES);
  if (bytes.length < dataAt) return undefined;
  const table = bytes.subarray(EXTENT_HEAD_BYTES, dataAt);
  if (crc32(table, crc32(bytes.subarray(0, 28))) !== bytes.readUInt32BE(28)) return undefined;
  const sums = Array.from({ length: table.length / 4 }, (_, index) => table.readUInt32BE(4 * index));
  const segment = Number(bytes.readBigUInt64BE(8));
  const position = Number(bytes.readBigUInt64BE(16));
  return { segment, position, length, sums, dataAt };
}

/** Whether `data`, from `from` (a multiple of SUMMED_BYTES) on in the extent, is what was kept. It ends where a sum ends. */
export function verifies(extent: Place & Pick<ExtentHead, "length" | "sums">, from: number, data: Buffer): boolean {
  assert(from % SUMMED_BYTES === 0, "checked from a sum's beginning");
  const key = Buffer.alloc(20);
  key.writeUInt32BE(extent.length, 0);
  key.writeBigUInt64BE(BigInt(extent.segment), 4);
  key.writeBigUInt64BE(BigInt(extent.position), 12);
  const seed = crc32(key);
  return sumsOf(seed, data).every((sum, index) => sum === extent.sums[from / SUMMED_BYTES + index]);
}

function seedOf(head: Buffer): number {
  return crc32(head.subarray(4, 24));
}

function sumsOf(seed: number, data: Uint8Array): number[] {
  const sums: number[] = [];
  for (let at = 0; at < data.length; at += SUMMED_BYTES) sums.push(crc32(data.subarray(at, at + SUMMED_BYTES), seed));
  return sums;
}
