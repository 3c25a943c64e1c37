import { present } from "../../base/assert.ts";
import type { AppKeys } from "../app-keys.ts";
import { asDamage } from "../as-damage.ts";
import { OBJECT_HEADER_BYTES } from "../object-cipher.ts";
import { FRAME_LENGTH_BYTES, ObjectOpener } from "../object-codec.ts";
import { damagedObject } from "../object-errors.ts";
import { OBJECT_TRAILER_BYTES, readTrailer } from "../object-trailer.ts";
import { type RunBlock, type RunPart, readIndex } from "./run-codec.ts";

/** What is read from a part's end for its index: with small keys all of it. */
const INDEX_READ_BYTES = 128 * 1024;

/** One object of a run, whose index was read. */
export type OpenPart = {
  readonly part: RunPart;
  readonly name: string;
  readonly opener: ObjectOpener;
  readonly blocks: readonly RunBlock[];
  readonly firstKeys: readonly Buffer[];
};

/** From where on a part is read to find its index. */
export function tailStart({ bytes }: RunPart): number {
  return Math.max(0, bytes - INDEX_READ_BYTES);
}

/** Where the index begins, as the last bytes of the part say. Throws REPOSITORY_DAMAGED. */
export function indexStart({ bytes }: RunPart, name: string, tail: Buffer): number {
  if (bytes <= OBJECT_HEADER_BYTES + OBJECT_TRAILER_BYTES) throw damagedObject(name, "it is too short for a run");
  const start = bytes - OBJECT_TRAILER_BYTES - readTrailer(tail, { kind: "run", name });
  if (start < OBJECT_HEADER_BYTES) throw damagedObject(name, "its index claims to be longer than all of it");
  return start;
}

/** Opens a part by its header and its last bytes, from its index on or from before. Verified. Throws REPOSITORY_DAMAGED. */
export function openPart(
  keys: AppKeys,
  read: { readonly part: RunPart; readonly name: string; readonly header: Buffer; readonly tail: Buffer },
): OpenPart {
  const { part, name, tail } = read;
  const start = indexStart(part, name, tail);
  const opener = new ObjectOpener(keys, { kind: "run", name }, read.header.subarray(0, OBJECT_HEADER_BYTES));
  const stored = tail.subarray(start - (part.bytes - tail.length), tail.length - OBJECT_TRAILER_BYTES);
  const index = opener.frame(stored, { offset: start, last: true });
  const blocks = asDamage(name, () => readIndex(index, { start: OBJECT_HEADER_BYTES, end: start }));
  const rows = blocks.reduce((sum, block) => sum + block.rows, 0);
  if (rows !== part.rows || blocks[0]?.firstKey.toString("hex") !== part.firstKey)
    throw damagedObject(name, "its index is not that of the run that was named");
  return { part, name, opener, blocks, firstKeys: blocks.map(({ firstKey }) => firstKey) };
}

/** A block's rows as they are written: its frames, one after the other. `stored`: the bytes that the index says. Throws REPOSITORY_DAMAGED. */
export function openBlock({ name, opener }: OpenPart, block: RunBlock, stored: Buffer): Buffer {
  const pieces: Buffer[] = [];
  for (let at = 0; at < stored.length; ) {
    const end = stored.length - at < FRAME_LENGTH_BYTES ? 0 : at + FRAME_LENGTH_BYTES + stored.readUInt32BE(at);
    if (end <= at || end > stored.length) throw damagedObject(name, `a block at byte ${block.offset} is not one`);
    pieces.push(opener.frame(stored.subarray(at, end), { offset: block.offset + at, last: false }));
    at = end;
  }
  const plain = pieces.length === 1 ? present(pieces[0], "frame") : Buffer.concat(pieces);
  const { firstKey } = block;
  const length = plain.length < 2 ? 0 : plain.readUInt16BE(0);
  if (!plain.subarray(2, 2 + length).equals(firstKey)) throw damagedObject(name, "a block is not where the index says");
  return plain;
}

/** Index of the last of `keys`, which ascend, that is not above `key`; -1: none. */
export function lastAtMost(keys: readonly Buffer[], key: Buffer): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (Buffer.compare(present(keys[middle], "key"), key) <= 0) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
