import type { AppKeys } from "./app-keys.ts";
import { type PackedChunk, type PackId, packName } from "./chunk-place.ts";
import { unpackFrame, unpackFrameInPool } from "./compression.ts";
import { decodeObjectHeader, FRAME_TAG_BYTES, OBJECT_HEADER_BYTES, ObjectCipher } from "./object-cipher.ts";
import { damagedObject } from "./object-errors.ts";
import { OBJECT_TRAILER_BYTES, readTrailer } from "./object-trailer.ts";
import { DIRECTORY_BYTES_MAX, decodeDirectory, type PackBlock, type PackDirectory } from "./pack-directory.ts";
import { saltOfPack } from "./pack-writer.ts";

// FORMAT.md, "Pack", for reading.

/** Where a block is, as every place of a chunk in it says. */
export type BlockPlace = Pick<PackBlock, "offset" | "storedLength" | "rawLength">;

/** A block that is not what was written, with the chunks that are lost with it. */
export type PackFault = { readonly error: Error; readonly chunks: readonly PackedChunk[] };

/** Decrypts what is in one pack. */
export class PackOpener {
  readonly pack: PackId;
  readonly name: string;
  readonly #cipher: ObjectCipher;

  constructor(keys: AppKeys, pack: PackId) {
    this.pack = pack;
    this.name = packName(keys.tag, pack);
    this.#cipher = new ObjectCipher(keys, { kind: "pack", name: this.name }, saltOf(pack));
  }

  /** The chunks of a block, one after the other, from its stored bytes. May be a view of those. Throws REPOSITORY_DAMAGED. */
  block(stored: Buffer, place: BlockPlace): Buffer {
    const plain = this.#cipher.open(stored, { offset: place.offset, last: false });
    return this.#damagedAt(place.offset, () => ofLength(unpackFrame(plain, place.rawLength), place.rawLength));
  }

  /** As `block`, decompressed in a thread of Node's pool. `stored` stays unchanged until it resolves. */
  async blockInPool(stored: Buffer, place: BlockPlace): Promise<Buffer> {
    const plain = this.#cipher.open(stored, { offset: place.offset, last: false });
    const raw = await unpackFrameInPool(plain, place.rawLength).catch((error: unknown) =>
      this.#refuse(place.offset, error),
    );
    return this.#damagedAt(place.offset, () => ofLength(raw, place.rawLength));
  }

  /** How many bytes at the end of the pack hold its directory; `tail`: its last bytes, at least OBJECT_TRAILER_BYTES; `packBytes`: how many it has. Throws REPOSITORY_DAMAGED. */
  directoryTailBytes(tail: Buffer, packBytes: number): number {
    const frameBytes = readTrailer(tail, { kind: "pack", name: this.name });
    const tailBytes = frameBytes + OBJECT_TRAILER_BYTES;
    // Beside the directory a frame has its tag and a byte for the method.
    if (frameBytes > DIRECTORY_BYTES_MAX + FRAME_TAG_BYTES + 1 || tailBytes + OBJECT_HEADER_BYTES > packBytes)
      throw damagedObject(this.name, `it claims a directory of ${frameBytes} bytes`);
    return tailBytes;
  }

  /** The directory, from `tail`: as many bytes at the end as `directoryTailBytes` says, or more. Throws REPOSITORY_DAMAGED. */
  directory(tail: Buffer, packBytes: number): PackDirectory {
    const tailBytes = this.directoryTailBytes(tail, packBytes);
    const start = tail.length - tailBytes;
    const offset = packBytes - tailBytes;
    const sealed = tail.subarray(start, tail.length - OBJECT_TRAILER_BYTES);
    const plain = this.#cipher.open(sealed, { offset, last: true });
    return this.#damagedAt(offset, () => {
      const bytes = unpackFrame(plain, DIRECTORY_BYTES_MAX);
      return decodeDirectory(bytes, { pack: this.pack, end: offset });
    });
  }

  #damagedAt<T>(offset: number, read: () => T): T {
    try {
      return read();
    } catch (error) {
      return this.#refuse(offset, error);
    }
  }

  /** What no writer makes is damage all the same, though it was sealed with our key. */
  #refuse(offset: number, error: unknown): never {
    if (!(error instanceof RangeError)) throw error;
    throw damagedObject(this.name, `${error.message} (frame at byte ${offset})`, { cause: error });
  }
}

/**
 * Verifies a whole pack: header, directory, every block and the id of every chunk. Blocks that are damaged are returned; without its directory a pack can't be verified at all: throws
 * REPOSITORY_DAMAGED (or REPOSITORY_NEWER) then. Its chunks may be readable all the same, by their places.
 */
export function checkPack(
  keys: AppKeys,
  pack: PackId,
  bytes: Buffer,
): { readonly directory: PackDirectory; readonly faults: readonly PackFault[] } {
  const opener = new PackOpener(keys, pack);
  const salt = decodeObjectHeader({ kind: "pack", name: opener.name }, bytes);
  if (!salt.equals(saltOf(pack))) throw damagedObject(opener.name, "its header is not that of this pack");
  const directory = opener.directory(bytes, bytes.length);
  const faults: PackFault[] = [];
  for (const block of directory.blocks) {
    const fault = faultOfBlock(keys, opener, { block, bytes });
    if (fault !== undefined) faults.push(fault);
  }
  return { directory, faults };
}

function faultOfBlock(
  keys: AppKeys,
  opener: PackOpener,
  { block, bytes }: { readonly block: PackBlock; readonly bytes: Buffer },
): PackFault | undefined {
  let raw: Buffer;
  try {
    raw = opener.block(bytes.subarray(block.offset, block.offset + block.storedLength), block);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    return { error, chunks: block.chunks };
  }
  const chunks = block.chunks.filter(({ id, place }) => {
    const chunk = raw.subarray(place.chunkOffset, place.chunkOffset + place.length);
    return !keys.chunkId(chunk).equals(id);
  });
  if (chunks.length === 0) return undefined;
  const error = damagedObject(
    opener.name,
    `${chunks.length} chunks of its block at byte ${block.offset} are not what their ids say`,
  );
  return { error, chunks };
}

function ofLength(raw: Buffer, length: number): Buffer {
  if (raw.length !== length) throw new RangeError(`a block holds ${raw.length} bytes, not ${length}`);
  return raw;
}

function saltOf(pack: PackId): Buffer {
  return saltOfPack(Buffer.from(pack, "hex"));
}
