import { SIZE_BYTES_MAX } from "../../domain/inode.ts";
import { BLOCK_BYTES } from "./blocks.ts";
import type { ExtendedHeader } from "./extended-header.ts";
import { decodeNumber } from "./header-block.ts";
import { RANGES_MAX, RangeList } from "./range-list.ts";
import { TarError } from "./tar-error.ts";
import type { TarSource } from "./tar-source.ts";

/** Where a sparse member has its data, and how large the file is. */
export type SparseLayout = {
  readonly ranges: RangeList;
  readonly size: bigint;
  /** Bytes of the member's content that were the map itself. */
  readonly mapBytes: bigint;
};

/** Digits of a 64-bit number. */
const DIGITS_MAX = 20;

/** In GNU's old header: from byte 386 four ranges of 24 bytes, 482 whether a block of more follows, 483 the size. In such a block: 21 ranges, 504 whether another follows. */
const OLD_HEADER = { from: 386, count: 4, more: 482 };
const OLD_BLOCK = { from: 0, count: 21, more: 504 };

/** What is read, and how it is named in messages. */
type Sparse = { readonly source: TarSource; readonly shown: string };

/** The map of a member in GNU's sparse formats 0.0, 0.1 (both in the extended header) and 1.0 (before the content); undefined when it is not sparse. Throws TarError. */
export async function paxSparseLayout(extended: ExtendedHeader, sparse: Sparse): Promise<SparseLayout | undefined> {
  const major = extended.value("GNU.sparse.major");
  const sizeText = extended.value("GNU.sparse.realsize") ?? extended.value("GNU.sparse.size");
  if (sizeText === undefined) {
    if (major === undefined && extended.value("SCHILY.realsize") === undefined) return undefined;
    throw new TarError("TAR_UNSUPPORTED", `${sparse.shown} is sparse in a format that is not known`);
  }
  const size = decimal(sizeText, sparse);
  if (size > SIZE_BYTES_MAX) throw damaged(sparse);
  const map = new RangeMap(size, sparse);
  if (major !== undefined) {
    if (major.toString() !== "1") {
      throw new TarError("TAR_UNSUPPORTED", `${sparse.shown} is sparse in a format that is not known`);
    }
    const mapBytes = await readMap(map, sparse);
    return { ranges: map.ranges, size, mapBytes };
  }
  const listed = extended.value("GNU.sparse.map");
  if (listed !== undefined) addListed(map, listed, sparse);
  else {
    const pairs = extended.sparseRanges;
    if (pairs.length % 2 !== 0) throw damaged(sparse);
    for (let at = 0; at < pairs.length; at += 2) map.add(decimal(pairs[at], sparse), decimal(pairs[at + 1], sparse));
  }
  return { ranges: map.ranges, size, mapBytes: 0n };
}

/** The map of a member of GNU's old type "S", in its header `block` and the blocks after it. Throws TarError. */
export async function oldSparseLayout(block: Buffer, sparse: Sparse): Promise<SparseLayout> {
  const size = decodeNumber(block.subarray(483, 495));
  if (size === undefined || size < 0n || size > SIZE_BYTES_MAX) throw damaged(sparse);
  const map = new RangeMap(size, sparse);
  let hasMore = addOld(map, block, OLD_HEADER, sparse);
  while (hasMore) {
    const next = await sparse.source.block();
    if (next === undefined) throw new TarError("TAR_DAMAGED", `the archive is cut off inside of ${sparse.shown}`);
    hasMore = addOld(map, next, OLD_BLOCK, sparse);
  }
  return { ranges: map.ranges, size, mapBytes: 0n };
}

function addOld(map: RangeMap, block: Buffer, place: typeof OLD_HEADER, sparse: Sparse): boolean {
  for (let index = 0; index < place.count; index += 1) {
    const at = place.from + 24 * index;
    if (block[at + 12] === 0) break;
    const offset = decodeNumber(block.subarray(at, at + 12));
    const length = decodeNumber(block.subarray(at + 12, at + 24));
    if (offset === undefined || length === undefined) throw damaged(sparse);
    map.add(offset, length);
  }
  return (block[place.more] ?? 0) !== 0;
}

function addListed(map: RangeMap, listed: Buffer, sparse: Sparse): void {
  let offset: bigint | undefined;
  for (let at = 0; at <= listed.length; ) {
    const comma = listed.indexOf(0x2c, at);
    const end = comma === -1 ? listed.length : comma;
    const value = decimal(listed.subarray(at, end), sparse);
    at = end + 1;
    if (offset === undefined) offset = value;
    else {
      map.add(offset, value);
      offset = undefined;
    }
  }
  if (offset !== undefined) throw damaged(sparse);
}

/** Reads the map of format 1.0: decimal numbers, a line each, up to the end of a block. Answers its bytes. */
async function readMap(map: RangeMap, sparse: Sparse): Promise<bigint> {
  let blocks = 0n;
  let digits = "";
  let left: bigint | undefined;
  let offset: bigint | undefined;
  while (left === undefined || left > 0n) {
    const block = await sparse.source.block();
    if (block === undefined) throw new TarError("TAR_DAMAGED", `the archive is cut off inside of ${sparse.shown}`);
    blocks += 1n;
    for (let at = 0; at < BLOCK_BYTES && (left === undefined || left > 0n); at += 1) {
      const byte = block[at] ?? 0;
      if (byte !== 0x0a) {
        digits += String.fromCharCode(byte);
        if (byte < 0x30 || byte > 0x39 || digits.length > DIGITS_MAX) throw damaged(sparse);
        continue;
      }
      const value = decimal(Buffer.from(digits, "latin1"), sparse);
      digits = "";
      if (left === undefined) left = value;
      else if (offset === undefined) offset = value;
      else {
        map.add(offset, value);
        offset = undefined;
        left -= 1n;
      }
    }
  }
  return blocks * BigInt(BLOCK_BYTES);
}

/** Ranges as they come, checked: ascending, without overlap, within the size. */
class RangeMap {
  readonly ranges = new RangeList();
  readonly #size: bigint;
  readonly #sparse: Sparse;
  #end = 0n;

  constructor(size: bigint, sparse: Sparse) {
    this.#size = size;
    this.#sparse = sparse;
  }

  add(offset: bigint, length: bigint): void {
    const end = offset + length;
    if (offset < this.#end || length < 0n || end > this.#size) throw damaged(this.#sparse);
    this.#end = end;
    if (length === 0n) return;
    if (this.ranges.count === RANGES_MAX) {
      throw new TarError("TAR_UNSUPPORTED", `${this.#sparse.shown} has more than ${RANGES_MAX} ranges of data`);
    }
    this.ranges.add(offset, length);
  }
}

function decimal(text: Buffer | undefined, sparse: Sparse): bigint {
  const digits = text?.toString("latin1") ?? "";
  if (digits.length > DIGITS_MAX || !/^\d+$/.test(digits)) throw damaged(sparse);
  return BigInt(digits);
}

function damaged({ shown }: Sparse): TarError {
  return new TarError("TAR_DAMAGED", `${shown} is damaged: its map of holes does not fit`);
}
