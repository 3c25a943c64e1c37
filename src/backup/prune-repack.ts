import { ByteReader, ByteWriter } from "../base/bytes.ts";
import type { KvStore } from "../kv/kv-store.ts";
import { prefixEnd } from "../meta/keys.ts";
import type { AppRepository } from "../repository/app-repository.ts";
import { CHUNK_PLACE_BYTES, type ChunkPlace, type PackId, readPlace, writePlace } from "../repository/chunk-place.ts";
import { PackReader } from "../repository/pack-reader.ts";
import { type ChunkTicket, PackWriter } from "../repository/pack-writer.ts";
import type { DataPiece } from "../repository/seal-record.ts";

/** Blocks kept in memory while living chunks are read: neighbours are asked for one after the other. */
const CACHE_BYTES_MAX = 32 * 1024 * 1024;

/**
 * Writes what lives of poor packs into new ones, and remembers where it went, in rows of a scratch KV. Nothing names the new packs before the base does: a crash leaves them to the next pruning.
 */
export class Repacker {
  readonly #app: AppRepository;
  readonly #kv: KvStore;
  readonly #prefix: Buffer;
  readonly #poor: ReadonlySet<PackId>;
  readonly #reader: PackReader;
  #writer: PackWriter | undefined;
  #tickets: { readonly from: ChunkPlace; readonly ticket: ChunkTicket }[] = [];
  #pending = new Set<string>();

  /** `prefix`: of rows in `kv` that are nobody else's. */
  constructor(app: AppRepository, options: { kv: KvStore; prefix: Buffer; poor: ReadonlySet<PackId> }) {
    this.#app = app;
    this.#kv = options.kv;
    this.#prefix = options.prefix;
    this.#poor = options.poor;
    this.#reader = new PackReader({ store: app.store, keys: app.keys, cacheBytesMax: CACHE_BYTES_MAX });
  }

  /** Forgets what an earlier attempt did. */
  async start(): Promise<void> {
    await this.#kv.deleteRange({ gte: this.#prefix, lt: prefixEnd(this.#prefix) });
  }

  /** Moves those of the pieces that are in poor packs, each place once. Throws what reading and putting packs throws. */
  async move(pieces: readonly DataPiece[]): Promise<void> {
    for (const { place } of pieces) {
      if (!this.#poor.has(place.pack)) continue;
      const key = this.#key(place);
      const name = key.toString("latin1");
      if (this.#pending.has(name) || this.#kv.getSync(key) !== undefined) continue;
      const bytes = await this.#reader.read(place);
      this.#writer ??= new PackWriter(this.#app.keys, { compress: "pool" });
      const id = this.#app.keys.chunkId(bytes);
      const ticket = this.#writer.find(id) ?? this.#writer.add(id, bytes);
      this.#pending.add(name);
      this.#tickets.push({ from: place, ticket });
      await this.#writer.flow();
      if (this.#writer.full) await this.#finishPack();
    }
  }

  /** Puts what is left. */
  async finish(): Promise<void> {
    await this.#finishPack();
  }

  /** The pieces with the places where they are after `finish`. */
  moved(pieces: readonly DataPiece[]): readonly DataPiece[] {
    if (!pieces.some(({ place }) => this.#poor.has(place.pack))) return pieces;
    return pieces.map((piece) => {
      const row = this.#poor.has(piece.place.pack) ? this.#kv.getSync(this.#key(piece.place)) : undefined;
      return row === undefined ? piece : { ...piece, place: readPlace(new ByteReader(row)) };
    });
  }

  async #finishPack(): Promise<void> {
    const writer = this.#writer;
    if (writer === undefined) return;
    this.#writer = undefined;
    const pack = await writer.finish();
    await this.#app.store.put(pack.name, pack.body, { lockUntilMs: await this.#app.lockUntilMs() });
    const operations = this.#tickets.map(({ from, ticket }) => {
      const { place } = ticket;
      if (place === undefined) throw new RangeError("a chunk of a finished pack has no place");
      return { type: "put", key: this.#key(from), value: encodePlace(place) } as const;
    });
    await this.#kv.batch(operations);
    this.#tickets = [];
    this.#pending = new Set();
  }

  #key(place: ChunkPlace): Buffer {
    return Buffer.concat([this.#prefix, encodePlace(place)]);
  }
}

function encodePlace(place: ChunkPlace): Buffer {
  const writer = new ByteWriter(CHUNK_PLACE_BYTES);
  writePlace(writer, place);
  return writer.finish();
}
