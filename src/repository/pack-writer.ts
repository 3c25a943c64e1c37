import { randomFillSync } from "node:crypto";
import { zstdCompress } from "node:zlib";
import { assert, present } from "../base/assert.ts";
import type { AppKeys } from "./app-keys.ts";
import {
  BLOCK_RAW_BYTES_MAX,
  type ChunkPlace,
  PACK_ID_BYTES,
  type PackedChunk,
  type PackId,
  packName,
} from "./chunk-place.ts";
import { choose, compress, compressOptions, framePlain, type Packed, STORED_AS_IS } from "./compression.ts";
import type { RandomFill } from "./key-wrap.ts";
import { encodeObjectHeader, FRAME_TAG_BYTES, OBJECT_HEADER_BYTES, ObjectCipher } from "./object-cipher.ts";
import { encodeTrailer } from "./object-trailer.ts";
import { encodeDirectory, PACK_CHUNKS_MAX, type PackBlock } from "./pack-directory.ts";

// FORMAT.md, "Pack".

/** A block is closed when the next chunk would make it longer: FORMAT.md, "Blocks". */
export const BLOCK_RAW_BYTES = 512 * 1024;

/** A pack has enough when it has this much: a few requests for each GB, and what is held in memory and sent again when a put fails. */
export const PACK_BYTES_TARGET = 32 * 1024 * 1024;

/** Chosen by measurement: FORMAT.md, "Blocks". */
const LEVEL = 3;

/** Blocks that Node's pool compresses at the same time, before the caller has to wait: half of its threads, so that the syncs of journals, which need them too, don't wait. */
const BLOCKS_IN_FLIGHT_MAX = 2;

/** Blocks that one `add` closes at most: the one before, and that of a chunk as long as a block. */
const BLOCKS_CLOSED_BY_ADD = 2;

/** A chunk that was added. Its place is known when its block is closed, at the latest after `finish`. */
export type ChunkTicket = { readonly id: Buffer; readonly length: number; place: ChunkPlace | undefined };

/** A finished pack: `body` in order is the object `name`. */
export type SealedPack = {
  readonly id: PackId;
  readonly name: string;
  readonly bytes: number;
  readonly body: readonly Buffer[];
  readonly chunks: readonly PackedChunk[];
};

export type PackWriterOptions = {
  readonly fill?: RandomFill;
  /** Where zstd runs: in the calling thread, or in Node's pool beside it. */
  readonly compress?: "inline" | "pool";
};

type OpenBlock = { readonly buffer: Buffer; readonly tickets: ChunkTicket[]; length: number };

/**
 * Puts chunks into one pack. Memory: the pack so far, and some blocks. `add` and `flow` until `full`, then `finish`; one pack each writer. After an error it is
 * of no use any more, and nothing of it was stored.
 */
export class PackWriter {
  readonly id: PackId;
  readonly name: string;
  readonly #cipher: ObjectCipher;
  readonly #inPool: boolean;
  readonly #body: Buffer[];
  readonly #blocks: PackBlock[] = [];
  readonly #tickets = new Map<string, ChunkTicket>();
  readonly #freeBuffers: Buffer[] = [];
  #open: OpenBlock | undefined;
  #offset = OBJECT_HEADER_BYTES;
  #waitingBytes = 0;
  #finished = false;
  // Blocks being compressed, oldest first; each ends when the block and all before it are sealed.
  #inFlight: Promise<void>[] = [];
  #failure: unknown;

  constructor(keys: AppKeys, options: PackWriterOptions = {}) {
    const idBytes = Buffer.alloc(PACK_ID_BYTES);
    (options.fill ?? randomFillSync)(idBytes);
    const salt = saltOfPack(idBytes);
    this.id = idBytes.toString("hex") as PackId;
    this.name = packName(keys.tag, this.id);
    this.#cipher = new ObjectCipher(keys, { kind: "pack", name: this.name }, salt);
    this.#inPool = options.compress === "pool";
    this.#body = [encodeObjectHeader("pack", salt)];
  }

  /** What the pack takes so far, chunks that aren't compressed yet as they are. */
  get storedBytes(): number {
    return this.#offset + this.#waitingBytes;
  }

  get chunkCount(): number {
    return this.#tickets.size;
  }

  /** It has enough: finish it. */
  get full(): boolean {
    return this.storedBytes >= PACK_BYTES_TARGET || this.chunkCount >= PACK_CHUNKS_MAX;
  }

  /** The chunk `id`, if it was added to this pack. */
  find(id: Buffer): ChunkTicket | undefined {
    return this.#tickets.get(id.toString("latin1"));
  }

  /** Adds a chunk that is not in this pack, 1 to 4 MiB long. `bytes` are copied; `id` is kept. */
  add(id: Buffer, bytes: Uint8Array): ChunkTicket {
    assert(!this.#finished && this.chunkCount < PACK_CHUNKS_MAX, "the pack is full");
    assert(bytes.length > 0 && bytes.length <= BLOCK_RAW_BYTES_MAX, "a chunk has 1 byte to 4 MiB");
    const key = id.toString("latin1");
    assert(!this.#tickets.has(key), "the chunk is in this pack already");
    if (this.#open !== undefined && this.#open.length + bytes.length > BLOCK_RAW_BYTES) this.#close(this.#open);
    this.#open ??= { buffer: this.#takeBuffer(bytes.length), tickets: [], length: 0 };
    this.#open.buffer.set(bytes, this.#open.length);
    const ticket: ChunkTicket = { id, length: bytes.length, place: undefined };
    this.#open.length += bytes.length;
    this.#open.tickets.push(ticket);
    this.#tickets.set(key, ticket);
    this.#waitingBytes += bytes.length;
    if (this.#open.length >= BLOCK_RAW_BYTES) this.#close(this.#open);
    return ticket;
  }

  /** What to wait for before adding more, if enough is under way. Never rejects: `finish` does. */
  flow(): Promise<void> | undefined {
    return this.#inFlight.length < BLOCKS_IN_FLIGHT_MAX ? undefined : this.#inFlight[0];
  }

  /** The whole pack, of at least one chunk. Throws what zstd threw. */
  async finish(): Promise<SealedPack> {
    assert(!this.#finished && this.chunkCount > 0, "a pack is finished once, with something in it");
    this.#finished = true;
    if (this.#open !== undefined) this.#close(this.#open);
    await this.#inFlight.at(-1);
    if (this.#failure !== undefined) throw this.#failure;
    // Ids are random: there is nothing to compress.
    const plain = framePlain({ method: STORED_AS_IS, bytes: encodeDirectory(this.#blocks) }, 0);
    const frameBytes = this.#seal(plain, true);
    const trailer = encodeTrailer(frameBytes);
    this.#body.push(trailer);
    const chunks = this.#blocks.flatMap((block) => block.chunks);
    this.#freeBuffers.length = 0;
    return { id: this.id, name: this.name, bytes: this.#offset + trailer.length, body: this.#body, chunks };
  }

  #close(block: OpenBlock): void {
    this.#open = undefined;
    const raw = block.buffer.subarray(0, block.length);
    if (!this.#inPool) {
      this.#sealBlock(block, compress(raw, LEVEL));
      return;
    }
    assert(this.#inFlight.length < BLOCKS_IN_FLIGHT_MAX + BLOCKS_CLOSED_BY_ADD, "flow() was not waited for");
    const before = this.#inFlight.at(-1);
    const sealed = compressInPool(raw).then(
      async (packed) => {
        await before;
        if (this.#failure === undefined) this.#sealBlock(block, packed);
      },
      (error: unknown) => {
        this.#failure ??= error;
      },
    );
    const done = sealed
      .catch((error: unknown) => {
        this.#failure ??= error;
      })
      .then(() => {
        this.#inFlight = this.#inFlight.filter((each) => each !== done);
      });
    this.#inFlight.push(done);
  }

  #sealBlock(block: OpenBlock, packed: Packed): void {
    const offset = this.#offset;
    const storedLength = this.#seal(framePlain(packed, block.length), false);
    const rawLength = block.length;
    let chunkOffset = 0;
    for (const ticket of block.tickets) {
      ticket.place = { pack: this.id, offset, storedLength, rawLength, chunkOffset, length: ticket.length };
      chunkOffset += ticket.length;
    }
    const chunks = block.tickets.map(({ id, place }) => ({ id, place: present(place, "the chunk's place") }));
    this.#blocks.push({ offset, storedLength, rawLength, chunks });
    this.#waitingBytes -= rawLength;
    if (block.buffer.length === BLOCK_RAW_BYTES) this.#freeBuffers.push(block.buffer);
  }

  /** Appends a frame; its length. */
  #seal(plain: readonly Uint8Array[], last: boolean): number {
    const parts = this.#cipher.seal(plain, { offset: this.#offset, last });
    const length = plain.reduce((sum, part) => sum + part.length, FRAME_TAG_BYTES);
    this.#body.push(...parts);
    this.#offset += length;
    return length;
  }

  #takeBuffer(bytes: number): Buffer {
    if (bytes > BLOCK_RAW_BYTES) return Buffer.allocUnsafeSlow(bytes);
    return this.#freeBuffers.pop() ?? Buffer.allocUnsafeSlow(BLOCK_RAW_BYTES);
  }
}

/** A pack's salt is its id twice: a reader who has the id needs nothing else to read a block. */
export function saltOfPack(idBytes: Buffer): Buffer {
  return Buffer.concat([idBytes, idBytes]);
}

function compressInPool(raw: Buffer): Promise<Packed> {
  return new Promise((resolve, reject) => {
    zstdCompress(raw, compressOptions(raw.length, LEVEL), (error, compressed) =>
      error === null ? resolve(choose(raw, compressed)) : reject(error),
    );
  });
}
