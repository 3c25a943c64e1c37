import type { ByteReader, ByteWriter } from "../base/bytes.ts";
import { isHexId } from "../domain/ids.ts";

// FORMAT.md, "Pack": where a chunk is, and how packs are named.

/** A pack's random 128-bit id as 32 lower-case hex digits. */
export type PackId = string & { readonly brand: "PackId" };

/** Where the bytes of a chunk are. */
export type ChunkPlace = {
  readonly pack: PackId;
  /** Of the block's cipher text in the pack. */
  readonly offset: number;
  /** Of the block in the pack, with its tag. */
  readonly storedLength: number;
  /** Of the block's chunks together. */
  readonly rawLength: number;
  /** Of the chunk among those. */
  readonly chunkOffset: number;
  readonly length: number;
};

/** A chunk with its place, as a pack's directory has it. */
export type PackedChunk = { readonly id: Buffer; readonly place: ChunkPlace };

export const PACK_ID_BYTES = 16;
export const CHUNK_PLACE_BYTES = PACK_ID_BYTES + 5 * 4;

/** Most bytes of one chunk, and of the chunks of one block. What a reader decompresses at once, so foreign bytes never make it take more. */
export const BLOCK_RAW_BYTES_MAX = 4 * 1024 * 1024;

/** The full name of a pack: listed in the order of the ids. */
export function packName(tag: string, id: PackId): string {
  return `apps/${tag}/packs/${id.slice(0, 2)}/${id}`;
}

/** The id in a pack's name (full, or any end of it that has both parts), or undefined if this is no name of a pack. */
export function packIdOfName(name: string): PackId | undefined {
  const match = /(?:^|\/)([0-9a-f]{2})\/([0-9a-f]{32})$/.exec(name);
  return match?.[2]?.startsWith(match[1] ?? "-") === true ? (match[2] as PackId) : undefined;
}

/** Checks and brands a pack's id. Throws RangeError. */
export function packId(text: string): PackId {
  if (!isHexId(text)) throw new RangeError(`"${text.slice(0, 40)}" is not the id of a pack`);
  return text as PackId;
}

/** Writes the 36 bytes of a place. */
export function writePlace(writer: ByteWriter, place: ChunkPlace): void {
  writer.bytes(Buffer.from(place.pack, "hex"));
  writer.u32(place.offset).u32(place.storedLength).u32(place.rawLength).u32(place.chunkOffset).u32(place.length);
}

/** Reads what `writePlace` wrote. Throws RangeError for bytes that are no place. */
export function readPlace(reader: ByteReader): ChunkPlace {
  const pack = reader.bytes(PACK_ID_BYTES).toString("hex") as PackId;
  const offset = reader.u32();
  const storedLength = reader.u32();
  const rawLength = reader.u32();
  const chunkOffset = reader.u32();
  const length = reader.u32();
  if (rawLength > BLOCK_RAW_BYTES_MAX || chunkOffset + length > rawLength || length === 0 || storedLength === 0)
    throw new RangeError(`no chunk of ${length} bytes is at ${chunkOffset} of a block of ${rawLength}`);
  return { pack, offset, storedLength, rawLength, chunkOffset, length };
}
