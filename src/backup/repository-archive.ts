import { isDeepStrictEqual } from "node:util";
import type { Timestamp } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Timers } from "../base/timers.ts";
import { FsError, TidemarkError } from "../domain/errors.ts";
import type { Lsn } from "../domain/ids.ts";
import type { JournalArchive } from "../journal/archive.ts";
import type { DataPlace } from "../journal/data-reader.ts";
import type { JournalRecord } from "../journal/record.ts";
import type { AppRepository } from "../repository/app-repository.ts";
import type { ChunkPlace } from "../repository/chunk-place.ts";
import { PackReader } from "../repository/pack-reader.ts";
import { prefixOf } from "../repository/record-fields.ts";
import type { Seal } from "../repository/seal-codec.ts";
import { journalRecordOf } from "../repository/seal-record.ts";
import type { ArchiveIndex } from "./archive-index.ts";
import { placesIn } from "./archive-rows.ts";
import { bounded } from "./bounded.ts";
import type { HydrateSource } from "./hydrate.ts";
import { MovedPlaces } from "./moved-places.ts";
import { ReadAhead } from "./read-ahead.ts";
import { SealFinder } from "./seal-finder.ts";

/** How long a read may wait for the store: below the two minutes after which a kernel reports hung tasks. */
const READ_WAIT_MS = 60_000;

/** After the repository could not be opened, reads fail at once for so long, so that each of them doesn't wait in turn. */
const CONNECT_AGAIN_MS = 5_000;

/** Blocks of packs kept in memory: a few readers going through files of their own. */
const CACHE_BYTES_MAX = 16 * 1024 * 1024;

/** Places already alarmed about, so that a damaged block read in a loop doesn't fill the log. */
const ALARMS_REMEMBERED_MAX = 1024;

/** Stands for all places while the store can't be reached: one alarm. */
const UNREACHABLE = "unreachable";

export type RepositoryArchiveOptions = {
  readonly firstLsn: Lsn;
  readonly lastLsn: Lsn;
  readonly lastTime: Timestamp | undefined;
  readonly description: string;
  readonly index: ArchiveIndex;
  /** Absent: what the index says. */
  readonly kept?: readonly Lsn[];
  /** Opens the app in its repository: when it is first needed, and again after it failed. */
  readonly connect: () => Promise<AppRepository>;
  readonly log: Log;
  readonly timers: Timers;
  readonly readWaitMs?: number;
  readonly cacheBytesMax?: number;
};

type Connection = {
  readonly packs: PackReader;
  readonly ahead: ReadAhead;
  readonly moved: MovedPlaces;
  readonly seals: SealFinder;
};

/**
 * The part of an app that is in a repository, as its journal's archive. Local rows say where data are; everything read is authenticated. The repository is opened when it is first
 * needed: an app whose repository can't be reached opens, and shows everything that is here.
 */
export class RepositoryArchive implements JournalArchive, HydrateSource {
  readonly firstLsn: Lsn;
  readonly lastLsn: Lsn;
  readonly lastTime: Timestamp | undefined;
  readonly kept: readonly Lsn[];
  readonly description: string;
  readonly #options: RepositoryArchiveOptions;
  readonly #alarmed = new Set<string>();
  #connection: Promise<Connection> | undefined;
  #closed = false;

  constructor(options: RepositoryArchiveOptions) {
    this.#options = options;
    this.firstLsn = options.firstLsn;
    this.lastLsn = options.lastLsn;
    this.lastTime = options.lastTime;
    this.description = options.description;
    this.kept = options.kept ?? options.index.kept();
  }

  async readData(place: DataPlace): Promise<Buffer> {
    if (place.length === 0) return Buffer.alloc(0);
    try {
      const places = this.#placesOf(place);
      const buffers = await this.#bounded(this.#readPlace(place, places));
      this.#alarmed.delete(UNREACHABLE);
      const [only] = buffers;
      return only !== undefined && buffers.length === 1 ? only : Buffer.concat(buffers, place.length);
    } catch (error) {
      throw this.#failed(place, error);
    }
  }

  async readMany(places: readonly DataPlace[]): Promise<Buffer[]> {
    const [first] = places;
    if (first === undefined) return [];
    let place = first;
    try {
      const data = this.#options.index.dataMany(places);
      const wanted = places.map((each, index) => {
        place = each;
        return placesIn(data[index], each);
      });
      const buffers = await this.#bounded(this.#connect().then(({ packs }) => readAll(packs, wanted.flat())));
      let at = 0;
      return wanted.map((parts) => {
        const own = buffers.slice(at, at + parts.length);
        at += parts.length;
        return own.length === 1 ? (own[0] as Buffer) : Buffer.concat(own);
      });
    } catch (error) {
      // One of several is to blame: who asks for them one by one learns which, and the alarm is about that.
      if (places.length > 1 && !isPassing(error)) throw new FsError("EIO", (error as Error).message, { cause: error });
      throw this.#failed(place, error);
    }
  }

  /** Notes that all data that rows name are here. */
  hydrated(): Promise<void> {
    return this.#options.index.markHydrated();
  }

  isUnreachable(error: unknown): boolean {
    return isPassing(error) || isPassing((error as { cause?: unknown }).cause ?? {});
  }

  async *readRecords(from: Lsn, to: Lsn): AsyncGenerator<JournalRecord> {
    if (from < this.firstLsn) {
      const message = `record ${from} is not kept any more: ${this.description} has records from ${this.firstLsn} on`;
      throw new TidemarkError("OUT_OF_HISTORY", message, { data: { lsn: from } });
    }
    for (let next = from; next <= to; ) {
      const seal = await this.#seal(next);
      for (const sealed of seal.records()) {
        const { lsn } = prefixOf(sealed.prefix);
        if (lsn < next) continue;
        if (lsn !== next) throw damagedRecord(next, "its seal has another record in its place");
        yield journalRecordOf(sealed);
        next = (next + 1) as Lsn;
        if (next > to) return;
      }
      if (next <= seal.head.to) throw damagedRecord(next, "its seal ends before it");
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#connection = undefined;
  }

  /** What a reader who goes on in order wants next is fetched along with what it wants now. What is not where it was is looked up in the repository. */
  async #readPlace(place: DataPlace, places: readonly ChunkPlace[]): Promise<Buffer[]> {
    const { packs, ahead, moved } = await this.#connect();
    const { segment, dataStart } = place;
    await ahead.note(segment, dataStart);
    try {
      return await readAll(packs, places);
    } catch (error) {
      if ((error as { code?: unknown }).code !== "REPOSITORY_DAMAGED") throw error;
      const now = await moved.find(segment, dataStart);
      if (now === undefined || isDeepStrictEqual(now, this.#options.index.data(segment, dataStart))) throw error;
      return readAll(packs, placesIn(now, place));
    }
  }

  async #seal(lsn: Lsn): Promise<Seal> {
    try {
      return await this.#bounded(this.#connect().then(({ seals }) => seals.find(lsn)));
    } catch (error) {
      if (error instanceof TidemarkError && (error.code === "OUT_OF_HISTORY" || error.code === "UNAVAILABLE"))
        throw error;
      const what = `record ${lsn} can't be read from ${this.description}: ${(error as Error).message}`;
      throw new TidemarkError(isPassing(error) ? "UNAVAILABLE" : "DATA_DAMAGED", what, { cause: error, data: { lsn } });
    }
  }

  /** Where the bytes of `place` are by the local rows, in order. Throws when any of them is nowhere. */
  #placesOf(place: DataPlace): ChunkPlace[] {
    return placesIn(this.#options.index.data(place.segment, place.dataStart), place);
  }

  #connect(): Promise<Connection> {
    if (this.#closed) return Promise.reject(new TidemarkError("UNAVAILABLE", "the app is being closed"));
    if (this.#connection !== undefined) return this.#connection;
    const { connect, timers, cacheBytesMax } = this.#options;
    const connection = connect().then((app): Connection => {
      const { store, keys } = app;
      const packs = new PackReader({ store, keys, cacheBytesMax: cacheBytesMax ?? CACHE_BYTES_MAX });
      const ahead = new ReadAhead(this.#options.index, (places) => readAll(packs, places));
      return { packs, ahead, moved: new MovedPlaces(app, timers), seals: new SealFinder(app) };
    });
    this.#connection = connection;
    connection.catch((error: unknown) => {
      this.#options.log.warn("the repository with the older part of an app can't be opened", { cause: error });
      timers.after(CONNECT_AGAIN_MS, () => {
        if (this.#connection === connection) this.#connection = undefined;
      });
    });
    return connection;
  }

  #bounded<T>(work: Promise<T>): Promise<T> {
    const waitMs = this.#options.readWaitMs ?? READ_WAIT_MS;
    const late = (): Error =>
      new TidemarkError("UNAVAILABLE", `${this.description} did not answer within ${waitMs / 1000} s`);
    return bounded(work, { timers: this.#options.timers, waitMs, late });
  }

  #failed(place: DataPlace, cause: unknown): FsError {
    const { segment, dataStart, dataLength, skip } = place;
    const { log } = this.#options;
    const fields = { segment, dataStart, dataLength, skip, archive: this.description, cause };
    const isUnreachable = isPassing(cause);
    // A damaged pack is one alarm, however many places are in it.
    const object = cause instanceof TidemarkError ? cause.data["object"] : undefined;
    const key = isUnreachable ? UNREACHABLE : typeof object === "string" ? object : `${segment}/${dataStart}/${skip}`;
    if (this.#alarmed.has(key) || this.#closed) {
      log.debug("data in the repository still can't be read", fields);
    } else {
      if (this.#alarmed.size >= ALARMS_REMEMBERED_MAX) this.#alarmed.clear();
      this.#alarmed.add(key);
      log.alarm(
        isUnreachable
          ? "data that are only in the repository can't be had now: reading them is EIO"
          : "data in the repository are damaged or missing: reading them is EIO",
        fields,
      );
    }
    const message = `data of segment ${segment} at ${dataStart} can't be read from ${this.description}: ${(cause as Error).message}`;
    return new FsError("EIO", message, { cause });
  }
}

/** Places that one call of the reader takes. */
const PLACES_TOGETHER_MAX = 256;

async function readAll(packs: PackReader, places: readonly ChunkPlace[]): Promise<Buffer[]> {
  const [only] = places;
  if (only !== undefined && places.length === 1) return [await packs.read(only)];
  const buffers: Buffer[] = [];
  for (let at = 0; at < places.length; at += PLACES_TOGETHER_MAX)
    buffers.push(...(await packs.readMany(places.slice(at, at + PLACES_TOGETHER_MAX))));
  return buffers;
}

function damagedRecord(lsn: Lsn, why: string): TidemarkError {
  return new TidemarkError("DATA_DAMAGED", `record ${lsn} can't be read from the repository: ${why}`, {
    data: { lsn },
  });
}

/** The store is to blame, not what is in it: it may answer later. */
function isPassing(error: unknown): boolean {
  const { code, retryable } = error as { code?: unknown; retryable?: unknown };
  return retryable === true || code === "UNAVAILABLE" || code === "BLOB_UNREACHABLE" || code === "BLOB_TIMEOUT";
}
