import { silentLog } from "../base/log.ts";
import { TidemarkError } from "../domain/errors.ts";
import { type DataPlace, DataReader } from "../journal/data-reader.ts";
import { SystemFileOps } from "../journal/file-ops.ts";
import { SegmentFiles } from "../journal/segment-files.ts";
import { SegmentFolder } from "../journal/segment-folder.ts";
import { numberKey, purgedKey, relocationKey, TABLE } from "../meta/keys.ts";
import { slotPrefix } from "../meta/row-store.ts";
import { ByteRanges } from "../meta/space/byte-ranges.ts";
import { decodePieces, decodePurged, decodeUse } from "../meta/space/space-rows.ts";
import { ArchiveIndex } from "./archive-index.ts";
import { ShipError } from "./ship-error.ts";
import type { LocalJournal } from "./ship-local-chain.ts";

/** Segments open at a time: places come in their order, but for what was relocated. */
const OPEN_SEGMENTS = 16;
const CACHE_BYTES = 1024 * 1024;

/** A part of a record's data. */
export type DataPart = { readonly skip: number; readonly data: Buffer };

/** Reads the data that rows name, in a thread that has nothing but the files and the KV: follows relocations as `meta/space/segment-data.ts` does. */
export class BaseData {
  readonly #journal: LocalJournal;
  readonly #prefix: Buffer;
  readonly #archive: ArchiveIndex;
  readonly #archivedTo: number;
  readonly #files: SegmentFiles;
  readonly #reader: DataReader;

  constructor(journal: LocalJournal) {
    const ops = new SystemFileOps();
    this.#journal = journal;
    this.#prefix = slotPrefix(journal.slot);
    this.#archive = new ArchiveIndex(journal.kv, journal.slot);
    this.#archivedTo = this.#archive.archivedTo;
    this.#files = new SegmentFiles(new SegmentFolder(journal.folder, journal.appId, []), {
      ops,
      sealedMax: OPEN_SEGMENTS,
    });
    // What can't be read is told by what is thrown.
    this.#reader = new DataReader(this.#files, { ops, log: silentLog, cacheBytesMax: CACHE_BYTES });
  }

  /** All of a record's data, or of data that were moved the parts that are in use; without what was erased by order. Throws DATA_DAMAGED. */
  async read(place: {
    readonly segment: number;
    readonly dataStart: number;
    readonly dataLength: number;
  }): Promise<DataPart[]> {
    const { segment, dataStart } = place;
    if (segment <= this.#archivedTo && !this.#archive.isHydrated) throw notHereYet();
    if (!this.#isGone(segment)) {
      try {
        return await this.#readOwn(place, this.#erased(segment, dataStart));
      } catch (error) {
        // It may have been cleaned in this moment: its relocations were there before its file went.
        if (this.#get(numberKey(TABLE.ERASING, segment)) !== undefined) throw beingErased();
        if (!this.#isGone(segment)) throw unreadable(place, error);
      }
    }
    const row = this.#get(relocationKey(segment, dataStart));
    const parts: DataPart[] = [];
    for (const piece of row === undefined ? [] : decodePieces(row)) {
      const { newSkip: skip, length } = piece;
      const moved: DataPlace = {
        segment: piece.segment,
        dataStart: piece.dataStart,
        dataLength: piece.dataLength,
        skip,
        length,
      };
      try {
        parts.push({ skip: piece.skip, data: await this.#reader.read(moved) });
      } catch (error) {
        throw unreadable(place, error);
      }
    }
    return parts;
  }

  /** Data that were never moved: what is left of them. */
  async #readOwn(
    {
      segment,
      dataStart,
      dataLength,
    }: { readonly segment: number; readonly dataStart: number; readonly dataLength: number },
    erased: ByteRanges,
  ): Promise<DataPart[]> {
    const parts: DataPart[] = [];
    for (const { from, to } of erased.missing(0, dataLength)) {
      const data = await this.#reader.read({ segment, dataStart, dataLength, skip: from, length: to - from });
      parts.push({ skip: from, data });
    }
    return parts;
  }

  #erased(segment: number, dataStart: number): ByteRanges {
    const ranges = new ByteRanges();
    const row = this.#get(purgedKey(segment, dataStart));
    if (row !== undefined) for (const { from, to } of decodePurged(row).ranges) ranges.add(from, to);
    return ranges;
  }

  close(): void {
    this.#files.closeAll();
  }

  /** Also of a recovered app what was before: it is here by relocations, or not yet. */
  #isGone(segment: number): boolean {
    if (segment <= this.#archivedTo) return true;
    const row = this.#get(numberKey(TABLE.SEGMENT_USE, segment));
    const state = row === undefined ? undefined : decodeUse(row).state;
    return state === "gone" || state === "dead";
  }

  #get(key: Buffer): Buffer | undefined {
    return this.#journal.kv.getSync(Buffer.concat([this.#prefix, key]));
  }
}

/** Without them the base would lack what rows name. It is tried again. */
function notHereYet(): ShipError {
  const message =
    "the app was recovered, and its data are still being brought in from the repository it came from: a backup of it that begins anew begins after that";
  return new ShipError("STORE", message, { causeCode: "UNAVAILABLE" });
}

/** In a moment what is left verifies. It is tried again. */
function beingErased(): ShipError {
  return new ShipError("STORE", "data beside it are being erased by order", { causeCode: "UNAVAILABLE" });
}

function unreadable(place: { readonly segment: number; readonly dataStart: number }, cause: unknown): TidemarkError {
  const { segment, dataStart } = place;
  const message = `data of segment ${segment} at byte ${dataStart} can't be read: ${cause instanceof Error ? cause.message : String(cause)}`;
  return new TidemarkError("DATA_DAMAGED", message, { cause, data: { segment, position: dataStart } });
}
