import { TidemarkError } from "../../domain/errors.ts";
import type { ChunkIndex } from "../../repository/chunk-index.ts";
import type { ChunkPlace, PackId } from "../../repository/chunk-place.ts";
import type { DataPiece } from "../../repository/seal-record.ts";
import { type ArchivedData, encodeArchivedData } from "../archive-rows.ts";
import type { RunRows } from "../checkpoint-writer.ts";
import { BaseData, type DataPart } from "../ship-base-data.ts";
import { type DraftPiece, ShipChunks } from "../ship-chunks.ts";
import { ShipError } from "../ship-error.ts";
import type { LocalJournal } from "../ship-local-chain.ts";
import type { ShipPacks } from "../ship-packs.ts";
import { placed } from "../ship-seal.ts";
import { NO_CONTENT } from "../ship-slices.ts";
import type { Repaired } from "./repair-app.ts";

export type DataRepairOptions = {
  readonly journal: LocalJournal;
  readonly gear: Uint32Array;
  readonly packs: ShipPacks;
  /** Gets the rows that say where data are now. */
  readonly rows: RunRows;
  readonly index: ChunkIndex;
  readonly isLost: (place: ChunkPlace) => boolean;
};

/** Data of one record, some of whose places are lost. */
export type LostData = {
  /** Of its row in a run. */
  readonly key: Buffer;
  readonly segment: number;
  readonly dataStart: number;
  readonly name: string;
  readonly archived: ArchivedData;
};

/** Bytes and rows whose chunks are on their way into packs before their rows are made. */
const BYTES_AT_ONCE = 64 * 1024 * 1024;
const ROWS_AT_ONCE = 10_000;

/** Data that nobody has any more that are told one by one. */
const MISSING_MAX = 100_000;

type Waiting = {
  readonly key: Buffer;
  readonly dataLength: number;
  readonly kept: readonly DataPiece[];
  readonly drafts: DraftPiece[];
};

/** Writes data anew, from this machine's journal, whose places in the repository are lost. What the journal hasn't any more keeps its old place, so that a check goes on telling of it. */
export class DataRepair {
  readonly #options: DataRepairOptions;
  readonly #source: BaseData;
  readonly #chunks: ShipChunks;
  readonly #missing = new Set<string>();
  readonly #hidden = new Set<PackId>();
  #waiting: Waiting[] = [];
  #waitingBytes = 0;
  #restoredBytes = 0;
  #missingBytes = 0;

  constructor(options: DataRepairOptions) {
    this.#options = options;
    this.#source = new BaseData(options.journal);
    this.#chunks = new ShipChunks(options.gear, options.packs);
  }

  async add({ key, segment, dataStart, name, archived }: LostData): Promise<void> {
    const { dataLength, pieces } = archived;
    const parts = await this.#read({ segment, dataStart, dataLength });
    const kept: DataPiece[] = [];
    const drafts: DraftPiece[] = [];
    for (const piece of pieces) {
      if (!this.#options.isLost(piece.place)) kept.push(piece);
      else {
        await this.#hide(piece.place.pack);
        await this.#restore(piece, parts, { name, kept, drafts });
      }
    }
    if (drafts.length === 0 && kept.length === pieces.length) return;
    this.#waiting.push({ key: Buffer.from(key), dataLength, kept, drafts });
    if (this.#waiting.length >= ROWS_AT_ONCE || this.#waitingBytes >= BYTES_AT_ONCE) await this.#settle();
  }

  /** What became of everything that was added: the packs are in the store, the rows are made. */
  async finish(): Promise<Repaired> {
    await this.#settle();
    const [restoredBytes, missingBytes] = [this.#restoredBytes, this.#missingBytes];
    return { restoredBytes, missingBytes, missing: [...this.#missing] };
  }

  async close(): Promise<void> {
    this.#source.close();
    await this.#options.packs.abandon();
  }

  /** Nothing new is to be found in it. */
  async #hide(pack: PackId): Promise<void> {
    if (this.#hidden.has(pack)) return;
    this.#hidden.add(pack);
    if (this.#options.index.covers(pack)) await this.#options.index.hidePack(pack);
  }

  /** Parts are in order, and do not overlap. */
  async #restore(
    piece: DataPiece,
    parts: readonly DataPart[],
    into: { readonly name: string; readonly kept: DataPiece[]; readonly drafts: DraftPiece[] },
  ): Promise<void> {
    const end = piece.skip + piece.length;
    let at = piece.skip;
    const leave = (to: number): void => {
      if (to <= at) return;
      const chunkOffset = piece.place.chunkOffset + at - piece.skip;
      into.kept.push({ skip: at, length: to - at, place: { ...piece.place, chunkOffset, length: to - at } });
      this.#missingBytes += to - at;
      if (this.#missing.size < MISSING_MAX) this.#missing.add(into.name);
    };
    for (const part of parts) {
      const from = Math.max(at, part.skip);
      const to = Math.min(end, part.skip + part.data.length);
      if (from >= to) continue;
      leave(from);
      const bytes = part.data.subarray(from - part.skip, to - part.skip);
      const slice = { content: NO_CONTENT, chunk: 0, start: 0, skip: from, length: to - from };
      await this.#chunks.add(slice, bytes, into.drafts);
      this.#restoredBytes += bytes.length;
      this.#waitingBytes += bytes.length;
      at = to;
    }
    leave(end);
  }

  /** Nothing, where this machine hasn't got it whole, or not yet. */
  async #read(place: Parameters<BaseData["read"]>[0]): Promise<DataPart[]> {
    try {
      const parts = await this.#source.read(place);
      return parts.sort((left, right) => left.skip - right.skip);
    } catch (error) {
      const isDamaged = error instanceof TidemarkError && error.code === "DATA_DAMAGED";
      if (isDamaged || (error instanceof ShipError && error.causeCode === "UNAVAILABLE")) return [];
      throw error;
    }
  }

  async #settle(): Promise<void> {
    const { packs, rows } = this.#options;
    await this.#chunks.end();
    packs.rotate();
    await packs.settled();
    for (const { key, dataLength, kept, drafts } of this.#waiting) {
      const pieces = [...kept, ...placed(drafts)].sort((left, right) => left.skip - right.skip);
      rows.put(key, encodeArchivedData({ dataLength, pieces }));
    }
    this.#waiting = [];
    this.#waitingBytes = 0;
    if (rows.isFull) await rows.flush();
  }
}
