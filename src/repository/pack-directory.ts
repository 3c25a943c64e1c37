import { assert } from "../base/assert.ts";
import { ByteReader, ByteWriter } from "../base/bytes.ts";
import { CHUNK_ID_BYTES } from "./app-keys.ts";
import { BLOCK_RAW_BYTES_MAX, type PackedChunk, type PackId } from "./chunk-place.ts";
import { FRAME_TAG_BYTES, OBJECT_HEADER_BYTES } from "./object-cipher.ts";

// FORMAT.md, "Pack": what is in a pack.

/** Most chunks of a pack: what its directory (2.3 MiB then) and the rows of an index for it take in memory at once. Reached with chunks under 500 bytes. */
export const PACK_CHUNKS_MAX = 65_536;

const BLOCK_ENTRY_BYTES = 12;
const CHUNK_ENTRY_BYTES = CHUNK_ID_BYTES + 4;

/** Longest directory, if each chunk is a block. */
export const DIRECTORY_BYTES_MAX = 4 + PACK_CHUNKS_MAX * (BLOCK_ENTRY_BYTES + CHUNK_ENTRY_BYTES);

/** A block of a pack: where, and which chunks are in it, one after the other. */
export type PackBlock = {
  readonly offset: number;
  readonly storedLength: number;
  readonly rawLength: number;
  readonly chunks: readonly PackedChunk[];
};

/** What a pack says is in it. */
export type PackDirectory = { readonly pack: PackId; readonly blocks: readonly PackBlock[] };

/** All chunks of a pack, in its order. */
export function chunksOf(directory: PackDirectory): PackedChunk[] {
  return directory.blocks.flatMap(({ chunks }) => chunks);
}

/** The directory's bytes. */
export function encodeDirectory(blocks: readonly PackBlock[]): Buffer {
  const writer = new ByteWriter(64 * 1024).u32(blocks.length);
  for (const block of blocks) {
    writer.u32(block.storedLength).u32(block.rawLength).u32(block.chunks.length);
    for (const { id, place } of block.chunks) {
      assert(id.length === CHUNK_ID_BYTES, "a chunk's id has 32 bytes");
      writer.bytes(id).u32(place.length);
    }
  }
  return writer.view();
}

/** Reads what `encodeDirectory` wrote; the blocks end at `end` of the pack. Throws RangeError for what no writer makes. */
export function decodeDirectory(
  bytes: Buffer,
  options: { readonly pack: PackId; readonly end: number },
): PackDirectory {
  const reader = new ByteReader(bytes);
  const blockCount = reader.u32();
  if (blockCount > PACK_CHUNKS_MAX) throw new RangeError(`the directory names ${blockCount} blocks`);
  const blocks: PackBlock[] = [];
  let offset = OBJECT_HEADER_BYTES;
  let chunkCount = 0;
  for (let index = 0; index < blockCount; index += 1) {
    const block = readBlock(reader, { pack: options.pack, offset });
    offset += block.storedLength;
    chunkCount += block.chunks.length;
    blocks.push(block);
  }
  if (chunkCount > PACK_CHUNKS_MAX) throw new RangeError(`the directory names ${chunkCount} chunks`);
  if (reader.remaining !== 0) throw new RangeError(`the directory has ${reader.remaining} bytes too many`);
  if (offset !== options.end)
    throw new RangeError(`the blocks of the directory end at ${offset}, not at ${options.end}`);
  return { pack: options.pack, blocks };
}

function readBlock(reader: ByteReader, at: { readonly pack: PackId; readonly offset: number }): PackBlock {
  const storedLength = reader.u32();
  const rawLength = reader.u32();
  const chunkCount = reader.u32();
  if (storedLength <= FRAME_TAG_BYTES || rawLength > BLOCK_RAW_BYTES_MAX)
    throw new RangeError(`the directory has a block of ${storedLength} bytes that holds ${rawLength}`);
  // Before anything is allocated for it.
  if (chunkCount * CHUNK_ENTRY_BYTES > reader.remaining)
    throw new RangeError(`the directory has no room for a block's ${chunkCount} chunks`);
  const chunks: PackedChunk[] = [];
  let chunkOffset = 0;
  for (let index = 0; index < chunkCount; index += 1) {
    const id = Buffer.from(reader.bytes(CHUNK_ID_BYTES));
    const length = reader.u32();
    chunks.push({ id, place: { pack: at.pack, offset: at.offset, storedLength, rawLength, chunkOffset, length } });
    chunkOffset += length;
    if (length === 0 || chunkOffset > rawLength)
      throw new RangeError("the chunks of a block are longer than the block");
  }
  if (chunkOffset !== rawLength) throw new RangeError("the chunks of a block are shorter than the block");
  return { offset: at.offset, storedLength, rawLength, chunks };
}
