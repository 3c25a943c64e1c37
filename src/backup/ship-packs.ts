import type { Log } from "../base/log.ts";
import type { AppKeys } from "../repository/app-keys.ts";
import type { ChunkIndex } from "../repository/chunk-index.ts";
import { type ChunkTicket, PackWriter, type SealedPack } from "../repository/pack-writer.ts";
import type { ChunkKeeper, ChunkSource } from "./ship-chunks.ts";

/** Packs on their way to the store while another one is filled: 64 MiB. A large put goes up in parts at the same time, so more would only be more memory. */
const UPLOADS_MAX = 1;

export type ShippedPack = { readonly id: string; readonly bytes: number };

export type ShipPacksOptions = {
  readonly keys: AppKeys;
  readonly index: ChunkIndex;
  /** Puts a pack into the store; durable when it resolves. */
  readonly put: (pack: SealedPack) => Promise<void>;
  readonly log: Log;
};

type Upload = { readonly writer: PackWriter; readonly done: Promise<void> };

/**
 * Chunks of one app on their way into packs. A chunk is looked for among the packs of this object, then in the index, and is written if it is in neither.
 *
 * Invariants
 * P1  A chunk comes into the index when its pack is durable in the store, not before.
 * P2  After a failure nothing more is taken; what is under way ends, and may come into the index.
 */
export class ShipPacks implements ChunkKeeper {
  readonly #options: ShipPacksOptions;
  #open: PackWriter | undefined;
  readonly #uploads = new Set<Upload>();
  #finished: ShippedPack[] = [];
  #failure: { readonly error: unknown } | undefined;
  #indexFailed = false;
  #indexed: Promise<void> = Promise.resolve();
  #wake: (() => void)[] = [];
  /** Bytes put into the store by this object. */
  uploadedBytes = 0;
  /** Bytes of chunks that were there already. */
  knownBytes = 0;
  /** Bytes of chunks that were not. */
  newBytes = 0;

  constructor(options: ShipPacksOptions) {
    this.#options = options;
  }

  /** Keeps a chunk. The bytes may be used again after the call. */
  store(bytes: Buffer): ChunkSource {
    const id = this.#options.keys.chunkId(bytes);
    const known = this.#find(id);
    if (known !== undefined) {
      this.knownBytes += bytes.length;
      return known;
    }
    this.newBytes += bytes.length;
    this.#open ??= new PackWriter(this.#options.keys, { compress: "pool" });
    const ticket = this.#open.add(id, bytes);
    if (this.#open.full) this.rotate();
    return ticket;
  }

  /** Wait for it, if it is one, before storing more. Rejects when a pack could not be put. */
  flow(): Promise<void> | undefined {
    if (this.#failure !== undefined) return Promise.reject(this.#failure.error);
    return this.#uploads.size > UPLOADS_MAX ? this.#roomForUploads() : this.#open?.flow();
  }

  /** Ends the pack being filled and puts it. */
  rotate(): void {
    const writer = this.#open;
    this.#open = undefined;
    if (writer === undefined || writer.chunkCount === 0) return;
    const upload: Upload = { writer, done: this.#upload(writer).finally(() => this.#ended(upload)) };
    this.#uploads.add(upload);
    upload.done.catch((error: unknown) => {
      this.#failure ??= { error };
    });
  }

  /** Resolves when all packs ended so far are durable in the store, with those put since the last call; rejects when one could not be put. */
  async settled(): Promise<ShippedPack[]> {
    await Promise.all([...this.#uploads].map(({ done }) => done));
    if (this.#failure !== undefined) throw this.#failure.error;
    const finished = this.#finished;
    this.#finished = [];
    return finished;
  }

  /** Resolves when nothing is under way any more, whatever became of it. */
  async abandon(): Promise<void> {
    this.#open = undefined;
    await Promise.allSettled([...this.#uploads].map(({ done }) => done));
  }

  #find(id: Buffer): ChunkSource | ChunkTicket | undefined {
    const open = this.#open?.find(id);
    if (open !== undefined) return open;
    for (const { writer } of this.#uploads) {
      const ticket = writer.find(id);
      if (ticket !== undefined) return ticket;
    }
    try {
      const place = this.#options.index.get(id);
      return place === undefined ? undefined : { place };
    } catch (error) {
      this.#indexError(error);
      return undefined;
    }
  }

  async #upload(writer: PackWriter): Promise<void> {
    const pack = await writer.finish();
    await this.#options.put(pack);
    this.uploadedBytes += pack.bytes;
    this.#finished.push({ id: pack.id, bytes: pack.bytes });
    // One writer of the index at a time.
    const turn = this.#indexed;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#indexed = promise;
    await turn;
    try {
      await this.#options.index.addPack(pack.id, pack.chunks);
    } catch (error) {
      this.#indexError(error);
    } finally {
      resolve();
    }
  }

  /** The index only saves space: without it chunks are written once more. */
  #indexError(error: unknown): void {
    if (!this.#indexFailed) {
      const what =
        "the index of chunks can't be used: until it is made again, what changes is not compared with what the repository has";
      this.#options.log.warn(what, { cause: error });
    }
    this.#indexFailed = true;
  }

  #ended(upload: Upload): void {
    this.#uploads.delete(upload);
    const wake = this.#wake;
    this.#wake = [];
    for (const each of wake) each();
  }

  async #roomForUploads(): Promise<void> {
    while (this.#uploads.size > UPLOADS_MAX) await new Promise<void>((resolve) => this.#wake.push(resolve));
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}
