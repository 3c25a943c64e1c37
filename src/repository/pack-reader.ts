import { assert, present } from "../base/assert.ts";
import { isBlobError } from "../blob/blob-error.ts";
import type { BlobStore } from "../blob/blob-store.ts";
import type { AppKeys } from "./app-keys.ts";
import { BlockCache } from "./block-cache.ts";
import type { ChunkPlace, PackId } from "./chunk-place.ts";
import { Gate } from "./gate.ts";
import { OBJECT_HEADER_BYTES } from "./object-cipher.ts";
import { damagedObject, missingObject } from "./object-errors.ts";
import { OBJECT_TRAILER_BYTES } from "./object-trailer.ts";
import { PackOpener } from "./pack-codec.ts";
import type { PackDirectory } from "./pack-directory.ts";
import { type PackRead, planReads } from "./pack-reads.ts";

/** Most places of one `readMany`: the plan is made in one turn. */
export const READ_MANY_PLACES_MAX = 10_000;

/** Most bytes of chunks of one `readMany`: they are all in memory at the end, in blocks of up to twice that. */
export const READ_MANY_BYTES_MAX = 64 * 1024 * 1024;

/** Decoded blocks kept by default: 64 blocks. */
const CACHE_BYTES_MAX = 32 * 1024 * 1024;

/** Requests of one reader at the same time: hides a store's latency; with 8 MiB each, at most 32 MiB are under way. */
const READS_IN_FLIGHT_MAX = 4;

/** Packs whose key is kept: deriving one costs 20 µs. */
const OPENERS_MAX = 256;

/** What is read of a pack's end at first: a directory of 1,800 chunks, which most are shorter than. */
const TAIL_BYTES = 64 * 1024;

/**
 * Reads chunks of one app from its packs. Everything is verified before it is returned. Throws TidemarkError REPOSITORY_DAMAGED, which names the pack, when it is missing or is not what was
 * written; other failures of the store as they are (BlobError).
 */
export class PackReader {
  readonly #store: BlobStore;
  readonly #keys: AppKeys;
  readonly #cache: BlockCache;
  readonly #openers = new Map<PackId, PackOpener>();
  // Blocks that are on their way, so that readers of neighbouring chunks ask once.
  readonly #loading = new Map<string, Promise<Buffer>>();
  readonly #gate = new Gate(READS_IN_FLIGHT_MAX);

  constructor(options: { readonly store: BlobStore; readonly keys: AppKeys; readonly cacheBytesMax?: number }) {
    this.#store = options.store;
    this.#keys = options.keys;
    this.#cache = new BlockCache(options.cacheBytesMax ?? CACHE_BYTES_MAX);
  }

  /** The bytes of a chunk. They may be shared with other readers: don't change them. */
  async read(place: ChunkPlace): Promise<Buffer> {
    const key = blockKey(place);
    const block = this.#cache.get(key) ?? (await (this.#join(place) ?? this.#loadOne(place)));
    return chunkIn(block, place);
  }

  /**
   * The bytes of chunks, in the order of `places`. Neighbouring blocks are read together. Bounds: READ_MANY_PLACES_MAX, READ_MANY_BYTES_MAX. As `read`; after a failure
   * nothing more is asked for.
   */
  async readMany(places: readonly ChunkPlace[]): Promise<Buffer[]> {
    assert(places.length <= READ_MANY_PLACES_MAX, "too many places in one call");
    assert(places.reduce((sum, { length }) => sum + length, 0) <= READ_MANY_BYTES_MAX, "too many bytes in one call");
    const wanted = new WantedChunks(places);
    const absent = wanted.blocks().filter((place) => {
      const cached = this.#cache.get(blockKey(place));
      if (cached !== undefined) wanted.take(blockKey(place), cached);
      return cached === undefined;
    });
    const failure = new AbortController();
    const onBlock = (key: string, block: Buffer): void => wanted.take(key, block);
    const joined: Promise<void>[] = [];
    const alone = absent.filter((place) => {
      const block = this.#join(place);
      if (block !== undefined) joined.push(block.then((bytes) => onBlock(blockKey(place), bytes)));
      return block === undefined;
    });
    // What is under way at the same time is bounded by the gate.
    const own = planReads(alone).map((read) => this.#loadShared(read, { signal: failure.signal, onBlock }));
    await Promise.all(
      [...joined, ...own].map((load) =>
        load.catch((error: unknown) => {
          failure.abort(error);
        }),
      ),
    );
    failure.signal.throwIfAborted();
    return wanted.chunks();
  }

  /** What is in a pack, by its own word. One request or two, and one more if `bytes`, its length, isn't given. */
  async readDirectory(pack: PackId, options: { readonly bytes?: number } = {}): Promise<PackDirectory> {
    const opener = this.#opener(pack);
    const bytes = options.bytes ?? (await this.#store.stat(opener.name))?.bytes;
    if (bytes === undefined) throw missingObject(opener.name);
    if (bytes < OBJECT_HEADER_BYTES + OBJECT_TRAILER_BYTES)
      throw damagedObject(opener.name, `it is cut off after ${bytes} bytes`);
    let tail = await this.#readTail(opener.name, { bytes, length: Math.min(bytes, TAIL_BYTES) });
    const needed = opener.directoryTailBytes(tail, bytes);
    if (needed > tail.length) tail = await this.#readTail(opener.name, { bytes, length: needed });
    return opener.directory(tail, bytes);
  }

  #readTail(name: string, { bytes, length }: { readonly bytes: number; readonly length: number }): Promise<Buffer> {
    return this.#get(name, { from: bytes - length, length });
  }

  #loadOne(place: ChunkPlace): Promise<Buffer> {
    const key = blockKey(place);
    let block: Buffer | undefined;
    const loading = planReads([place]).map((read) =>
      this.#load(read, {
        onBlock: (_, raw) => {
          block = raw;
        },
      }),
    );
    const loaded = Promise.all(loading).then(() => present(block, "the block that was read"));
    this.#loading.set(key, loaded);
    const forget = (): void => void this.#loading.delete(key);
    loaded.then(forget, forget);
    return loaded;
  }

  /** A block that is on its way to another reader; if it does not come, perhaps for the sake of a block that nobody here wants, it is read by itself. Undefined: it is not. */
  #join(place: ChunkPlace): Promise<Buffer> | undefined {
    return this.#loading.get(blockKey(place))?.catch(() => this.#loadOne(place));
  }

  /** As `#load`, while others who want the same blocks wait for them. */
  async #loadShared(
    read: PackRead,
    options: { readonly signal: AbortSignal; readonly onBlock: (key: string, block: Buffer) => void },
  ): Promise<void> {
    const blocks = new Map<string, PromiseWithResolvers<Buffer>>();
    for (const { offset } of read.blocks) {
      const key = blockKey({ pack: read.pack, offset });
      const block = Promise.withResolvers<Buffer>();
      // Mostly nobody waits.
      block.promise.catch(() => {});
      blocks.set(key, block);
      this.#loading.set(key, block.promise);
    }
    const onBlock = (key: string, bytes: Buffer): void => {
      options.onBlock(key, bytes);
      blocks.get(key)?.resolve(bytes);
    };
    try {
      await this.#load(read, { signal: options.signal, onBlock });
    } finally {
      for (const [key, { promise, reject }] of blocks) {
        if (this.#loading.get(key) === promise) this.#loading.delete(key);
        reject(new Error("another block failed"));
      }
    }
  }

  /** Does one read and hands on its blocks, one after the other. */
  async #load(
    read: PackRead,
    options: { readonly signal?: AbortSignal; readonly onBlock: (key: string, block: Buffer) => void },
  ): Promise<void> {
    const opener = this.#opener(read.pack);
    await this.#gate.enter();
    try {
      if (options.signal?.aborted === true) return;
      const bytes = await this.#get(opener.name, { from: read.offset, length: read.length });
      for (const place of read.blocks) {
        const start = place.offset - read.offset;
        const block = await opener.blockInPool(bytes.subarray(start, start + place.storedLength), place);
        const key = blockKey({ pack: read.pack, offset: place.offset });
        this.#cache.set(key, block);
        options.onBlock(key, block);
      }
    } finally {
      this.#gate.leave();
    }
  }

  async #get(name: string, range: { readonly from: number; readonly length: number }): Promise<Buffer> {
    try {
      return await this.#store.get(name, range);
    } catch (cause) {
      if (isBlobError(cause, "BLOB_MISSING")) throw missingObject(name, { cause });
      if (isBlobError(cause, "BLOB_DAMAGED")) throw damagedObject(name, "it is shorter than it was written", { cause });
      throw cause;
    }
  }

  #opener(pack: PackId): PackOpener {
    let opener = this.#openers.get(pack);
    if (opener === undefined) {
      opener = new PackOpener(this.#keys, pack);
      const [oldest] = this.#openers.keys();
      if (this.#openers.size >= OPENERS_MAX && oldest !== undefined) this.#openers.delete(oldest);
      this.#openers.set(pack, opener);
    }
    return opener;
  }
}

/** The chunks of one `readMany`, as their blocks come. */
class WantedChunks {
  readonly #places: readonly ChunkPlace[];
  readonly #indexes = new Map<string, number[]>();
  readonly #chunks: (Buffer | undefined)[] = [];

  constructor(places: readonly ChunkPlace[]) {
    this.#places = places;
    for (const [index, place] of places.entries()) {
      const key = blockKey(place);
      const indexes = this.#indexes.get(key);
      if (indexes === undefined) this.#indexes.set(key, [index]);
      else indexes.push(index);
    }
  }

  /** A place in each block that is needed. */
  blocks(): ChunkPlace[] {
    return [...this.#indexes.values()].map(([index = 0]) => present(this.#places[index], "the place"));
  }

  /** Takes the chunks out of a block: copies, if they are a small part of it, so that many blocks aren't kept for the sake of little. */
  take(key: string, block: Buffer): void {
    const wanted = (this.#indexes.get(key) ?? []).map((index) => ({
      index,
      place: present(this.#places[index], "the place"),
    }));
    const bytes = wanted.reduce((sum, { place }) => sum + place.length, 0);
    for (const { index, place } of wanted) {
      const chunk = chunkIn(block, place);
      this.#chunks[index] = bytes * 2 < block.length ? Buffer.from(chunk) : chunk;
    }
  }

  chunks(): Buffer[] {
    return this.#places.map((_, index) => present(this.#chunks[index], "the chunk"));
  }
}

function blockKey(place: { readonly pack: PackId; readonly offset: number }): string {
  return `${place.pack} ${place.offset}`;
}

/** Places come from objects that were verified, but whoever wrote them may have been wrong. */
function chunkIn(block: Buffer, place: ChunkPlace): Buffer {
  if (place.chunkOffset + place.length > block.length)
    throw damagedObject(
      `pack ${place.pack}`,
      `an object names a chunk behind the end of its block at byte ${place.offset}`,
    );
  return block.subarray(place.chunkOffset, place.chunkOffset + place.length);
}
