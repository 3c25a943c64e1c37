import { assert } from "../base/assert.ts";
import { ByteReader, ByteWriter, readU64Be, writeU64Be } from "../base/bytes.ts";
import { KV_READ_ROWS_MAX, type KvOperation, type KvStore } from "../kv/kv-store.ts";
import { CHUNK_ID_BYTES } from "./app-keys.ts";
import {
  CHUNK_PLACE_BYTES,
  type ChunkPlace,
  type PackedChunk,
  type PackId,
  readPlace,
  writePlace,
} from "./chunk-place.ts";
import { PACK_CHUNKS_MAX } from "./pack-directory.ts";

/*
 * Rows, each behind the prefix:
 *   "c" chunk id (32)   place (36)                      where a chunk is, in the pack that was added last
 *   "p" pack (16)       u32 count of chunks             the pack is covered
 *   "i" pack (16)       ids of its chunks, 32 each      for dropping it; apart from "p", so that listing packs reads little
 *   "n"                 u64 chunks, u64 packs           counts
 * All kinds are between "c" and "p": so one range is everything.
 *
 * Invariants:
 *   I1  A pack is covered or not: its rows are written in one batch, and deleted in one.
 *   I2  A row "c" names a pack that is covered.
 * A place is worth nothing without its pack: so a pack is added when the store has it, dropped before it is deleted, and all are compared with the store when a
 * shipper starts (`reconcile`).
 */

const CHUNK = 0x63;
const PACK = 0x70;
const PACK_IDS = 0x69;
const COUNTS = 0x6e;

/** Directories read at the same time in `reconcile`: hides the store's latency; each takes up to 5 MiB of memory. */
const DIRECTORIES_AT_ONCE = 4;

/** Where an app's chunks are: what it takes to store each once. Derived from the packs, and rebuilt from them. One writer at a time. */
export class ChunkIndex {
  readonly #kv: KvStore;
  readonly #prefix: Buffer;
  #counts: { readonly chunks: number; readonly packs: number };

  /** All rows have `prefix` in front; nothing else in `kv` may. Throws KvError, as everything here. */
  constructor(kv: KvStore, options: { readonly prefix: Buffer }) {
    this.#kv = kv;
    this.#prefix = Buffer.from(options.prefix);
    const counts = kv.getSync(this.#key(COUNTS));
    this.#counts =
      counts === undefined ? { chunks: 0, packs: 0 } : { chunks: readU64Be(counts, 0), packs: readU64Be(counts, 8) };
  }

  /** Chunks that are found here. */
  get chunkCount(): number {
    return this.#counts.chunks;
  }

  /** Packs that are covered. */
  get packCount(): number {
    return this.#counts.packs;
  }

  /** Where the chunk `id` is, if it is known. */
  get(id: Buffer): ChunkPlace | undefined {
    return placeOf(this.#kv.getSync(this.#key(CHUNK, id)));
  }

  /** Where the chunks `ids` are, in their order. */
  getMany(ids: readonly Buffer[]): (ChunkPlace | undefined)[] {
    const places: (ChunkPlace | undefined)[] = [];
    for (let from = 0; from < ids.length; from += KV_READ_ROWS_MAX) {
      const keys = ids.slice(from, from + KV_READ_ROWS_MAX).map((id) => this.#key(CHUNK, id));
      for (const value of this.#kv.getManySync(keys)) places.push(placeOf(value));
    }
    return places;
  }

  /** Whether the pack was added. */
  covers(pack: PackId): boolean {
    return this.#kv.getSync(this.#packKey(PACK, pack)) !== undefined;
  }

  /** The packs that are covered, ascending, those after `after` if given. Packs added or dropped meanwhile may be among them or not. */
  *packs(after?: PackId): Generator<PackId, void> {
    const end = this.#key(PACK + 1);
    let last = after === undefined ? this.#key(PACK) : this.#packKey(PACK, after);
    for (;;) {
      const rows = this.#kv.rangeSync({ gt: last, lt: end, limit: KV_READ_ROWS_MAX });
      for (const { key } of rows) yield key.toString("hex", this.#prefix.length + 1) as PackId;
      const lastRow = rows.at(-1);
      if (lastRow === undefined || rows.length < KV_READ_ROWS_MAX) return;
      last = lastRow.key;
    }
  }

  /** Adds what is in a pack, all or nothing; when the store has it, not before. Chunks that are in an older pack too are read from this one from now on. Repeat-safe. */
  async addPack(pack: PackId, chunks: readonly PackedChunk[]): Promise<void> {
    assert(chunks.length <= PACK_CHUNKS_MAX, "a pack has no more chunks");
    if (this.covers(pack)) return;
    const count = Buffer.alloc(4);
    count.writeUInt32BE(chunks.length);
    const operations: KvOperation[] = chunks.map(({ id, place }) => {
      assert(id.length === CHUNK_ID_BYTES && place.pack === pack, "the chunk is in this pack");
      return { type: "put", key: this.#key(CHUNK, id), value: encodePlace(place) };
    });
    const known = this.getMany(chunks.map(({ id }) => id)).filter((place) => place !== undefined).length;
    const counts = { chunks: this.#counts.chunks + chunks.length - known, packs: this.#counts.packs + 1 };
    operations.push({ type: "put", key: this.#packKey(PACK, pack), value: count });
    operations.push({
      type: "put",
      key: this.#packKey(PACK_IDS, pack),
      value: Buffer.concat(chunks.map(({ id }) => id)),
    });
    await this.#write(operations, counts);
  }

  /**
   * Forgets a pack: no chunk is found in it any more. Before it is deleted. A chunk that an older pack has too is forgotten with it: it will be stored again.
   * Dropping a pack that isn't covered succeeds.
   */
  async dropPack(pack: PackId): Promise<void> {
    const ids = this.#kv.getSync(this.#packKey(PACK_IDS, pack));
    if (ids === undefined) return;
    const list: Buffer[] = [];
    for (let at = 0; at + CHUNK_ID_BYTES <= ids.length; at += CHUNK_ID_BYTES)
      list.push(ids.subarray(at, at + CHUNK_ID_BYTES));
    const places = this.getMany(list);
    const operations: KvOperation[] = list
      .filter((_, index) => places[index]?.pack === pack)
      .map((id) => ({ type: "del", key: this.#key(CHUNK, id) }));
    // Never below 0, even if a foreign writer put a chunk twice into one pack.
    const chunks = Math.max(0, this.#counts.chunks - operations.length);
    const counts = { chunks, packs: this.#counts.packs - 1 };
    operations.push(
      { type: "del", key: this.#packKey(PACK, pack) },
      { type: "del", key: this.#packKey(PACK_IDS, pack) },
    );
    await this.#write(operations, counts);
  }

  /** Forgets what is in a pack that is damaged, and remembers that it is there: `reconcile` doesn't add it again. */
  async hidePack(pack: PackId): Promise<void> {
    await this.dropPack(pack);
    await this.addPack(pack, []);
  }

  /**
   * Makes the index cover exactly the packs that `listed` gives, ascending, as a listing of the store does: drops the others, adds what is missing from the packs' directories.
   * Costs a request or two for each pack that is added. An error ends it; what was done stays, and doing it again goes on from there. So an error of the listing never drops a pack
   * that comes after it.
   */
  async reconcile(options: {
    readonly listed: AsyncIterable<PackId> | Iterable<PackId>;
    readonly readChunks: (pack: PackId) => Promise<readonly PackedChunk[]>;
  }): Promise<{ readonly added: number; readonly dropped: number }> {
    let added = 0;
    let dropped = 0;
    let missing: PackId[] = [];
    const addMissing = async (): Promise<void> => {
      const packs = missing;
      missing = [];
      const read = await Promise.all(packs.map(options.readChunks));
      for (const [index, pack] of packs.entries()) await this.addPack(pack, read[index] ?? []);
      added += packs.length;
    };
    for await (const step of mergePacks(options.listed, this.packs())) {
      if (step.listed && !step.covered) missing.push(step.pack);
      if (missing.length >= DIRECTORIES_AT_ONCE) await addMissing();
      if (!step.covered || step.listed) continue;
      await this.dropPack(step.pack);
      dropped += 1;
    }
    await addMissing();
    return { added, dropped };
  }

  /** Forgets everything, at once. */
  async clear(): Promise<void> {
    await this.#kv.deleteRange({ gte: this.#key(CHUNK), lt: this.#key(PACK + 1) });
    this.#counts = { chunks: 0, packs: 0 };
  }

  async #write(operations: KvOperation[], counts: { readonly chunks: number; readonly packs: number }): Promise<void> {
    const value = Buffer.alloc(16);
    writeU64Be(value, counts.chunks, 0);
    writeU64Be(value, counts.packs, 8);
    operations.push({ type: "put", key: this.#key(COUNTS), value });
    await this.#kv.batch(operations);
    this.#counts = counts;
  }

  #key(kind: number, id?: Buffer): Buffer {
    return id === undefined
      ? Buffer.concat([this.#prefix, Buffer.of(kind)])
      : Buffer.concat([this.#prefix, Buffer.of(kind), id]);
  }

  #packKey(kind: number, pack: PackId): Buffer {
    return this.#key(kind, Buffer.from(pack, "hex"));
  }
}

type Step = { readonly pack: PackId; readonly listed: boolean; readonly covered: boolean };

/** Both ascending lists as one. A listing that isn't ascending is refused: packs would be taken for missing. */
async function* mergePacks(
  listed: AsyncIterable<PackId> | Iterable<PackId>,
  covered: Iterator<PackId, void>,
): AsyncGenerator<Step, void> {
  let next = covered.next();
  let previous: PackId | undefined;
  for await (const pack of listed) {
    assert(previous === undefined || previous < pack, "the listing is ascending");
    previous = pack;
    for (; next.done !== true && next.value < pack; next = covered.next())
      yield { pack: next.value, listed: false, covered: true };
    const both = next.done !== true && next.value === pack;
    if (both) next = covered.next();
    yield { pack, listed: true, covered: both };
  }
  for (; next.done !== true; next = covered.next()) yield { pack: next.value, listed: false, covered: true };
}

function encodePlace(place: ChunkPlace): Buffer {
  const writer = new ByteWriter(CHUNK_PLACE_BYTES);
  writePlace(writer, place);
  return writer.finish();
}

function placeOf(value: Buffer | undefined): ChunkPlace | undefined {
  return value === undefined ? undefined : readPlace(new ByteReader(value));
}
