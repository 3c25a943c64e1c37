import { ErasedError, FsError } from "../../domain/errors.ts";
import type { JournalArchive } from "../../journal/archive.ts";
import type { DataPlace } from "../../journal/data-reader.ts";
import type { Journal } from "../../journal/journal.ts";
import { GenerationCache } from "../generation-cache.ts";
import { numberKey, plainKey, prefixEnd, purgedKey, relocationKey, TABLE } from "../keys.ts";
import type { RowStore } from "../row-store.ts";
import { ByteRanges } from "./byte-ranges.ts";
import { decodePieces, decodePurged, decodeUse, type Piece } from "./space-rows.ts";

/** Relocations kept decoded, in each of two generations: about 250 bytes each, 2 MiB in all. */
const RELOCATIONS_CACHED = 4096;

/** What was erased of records' data, kept decoded, in each of two generations: about 250 bytes each. */
const PURGED_CACHED = 4096;

/** Use rows read in one go. */
const USE_ROWS = 1000;

/**
 * Reads the data that slices name, wherever cleaning has moved it, or, of segments that are in an archive, what is not here yet from there.
 *
 * Invariants
 * D1  A segment in `gone` has a relocation for every byte that any readable moment shows.
 *     Of a segment of the archive any part may have one.
 *     What was erased by order is not among them: it is refused before anything is read.
 * D2  A segment's file is removed only after it is in `gone` (or nothing names it) and no read of it is under way: `quiet`.
 */
export class SegmentData {
  readonly #store: RowStore;
  readonly #archive: JournalArchive | undefined;
  readonly #pieces = new GenerationCache<string, readonly Piece[]>(RELOCATIONS_CACHED);
  /** Any row says that something was moved: in what is read from a repository none ever does. */
  #hasRelocations = true;
  readonly #gone = new Set<number>();
  /** Segments, of whatever time and place, of which data were erased by order: reading the others costs no look for that. */
  readonly #purgedSegments = new Set<number>();
  readonly #purged = new GenerationCache<string, ByteRanges>(PURGED_CACHED);
  #moves: Promise<unknown> = Promise.resolve();
  /** Reads under way by segment: those that wait for the disk. */
  readonly #reading = new Map<number, number>();
  #waiters: (() => void)[] = [];
  #journal: Journal | undefined;

  constructor(store: RowStore, archive?: JournalArchive) {
    this.#store = store;
    this.#archive = archive;
  }

  /** Reads which segments are gone, once the app is open. */
  load(journal: Journal): void {
    this.#journal = journal;
    this.#loadPurged();
    const relocations = plainKey(TABLE.RELOCATION);
    this.#hasRelocations = this.#store.range({ gte: relocations, lt: prefixEnd(relocations), limit: 1 }).length > 0;
    const lt = prefixEnd(plainKey(TABLE.SEGMENT_USE));
    for (let from = plainKey(TABLE.SEGMENT_USE); ; ) {
      const rows = this.#store.range({ gte: from, lt, limit: USE_ROWS });
      for (const { key, value } of rows)
        if (decodeUse(value).state === "gone") this.#gone.add(Number(key.readBigUInt64BE(1)));
      const last = rows.at(-1);
      if (last === undefined || rows.length < USE_ROWS) return;
      from = Buffer.concat([last.key, Buffer.alloc(1)]);
    }
  }

  /** One look for each segment that has any. */
  #loadPurged(): void {
    const lt = prefixEnd(plainKey(TABLE.PURGED));
    for (let from = plainKey(TABLE.PURGED); ; ) {
      const row = this.#store.range({ gte: from, lt, limit: 1 })[0];
      if (row === undefined) return;
      this.#purgedSegments.add(Number(row.key.readBigUInt64BE(1)));
      from = prefixEnd(row.key.subarray(0, 9) as Buffer);
    }
  }

  /**
   * Runs what moves or erases data, one after the other: neither plans on what the other is about to change.
   */
  moving<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#moves.then(work);
    this.#moves = done.catch(() => {});
    return done;
  }

  /** What was erased by order of the data that begin at `dataStart` of a segment. Not to be changed. */
  erased(segment: number, dataStart: number): ByteRanges {
    if (!this.#purgedSegments.has(segment)) return NOTHING_ERASED;
    const name = `${segment}:${dataStart}`;
    const known = this.#purged.get(name);
    if (known !== undefined) return known;
    const value = this.#store.get(purgedKey(segment, dataStart));
    const ranges = new ByteRanges();
    if (value !== undefined) for (const { from, to } of decodePurged(value).ranges) ranges.add(from, to);
    this.#purged.set(name, ranges);
    return ranges;
  }

  /** Whether anything of this app was ever erased by order. */
  get hasErased(): boolean {
    return this.#purgedSegments.size > 0;
  }

  /** Whether any byte of `place` was erased by order. */
  isErased({ segment, dataStart, skip, length }: DataPlace): boolean {
    return this.#purgedSegments.has(segment) && this.erased(segment, dataStart).within(skip, skip + length).length > 0;
  }

  /** Tells that a row of what was erased was just committed. */
  purged(segment: number, dataStart: number): void {
    this.#purgedSegments.add(segment);
    this.#purged.delete(`${segment}:${dataStart}`);
  }

  /**
   * The bytes of `place`, as Journal.readData does it: at once or later, verified; `into` may be used or not. Throws or rejects with EIO, with an alarm in the
   * log, when they are damaged or missing; with ErasedError, without one, when any of them was erased by order.
   */
  read(place: DataPlace, into?: Buffer): Buffer | Promise<Buffer> {
    if (this.isErased(place)) throw new ErasedError();
    if (!this.isGone(place.segment)) return this.#readFile(place, into);
    const parts = this.#partsOf(place).map((part) => this.#readPart(part, into));
    const [only] = parts;
    if (only !== undefined && parts.length === 1) return only;
    if (parts.every((part) => Buffer.isBuffer(part))) return Buffer.concat(parts);
    return Promise.all(parts).then((buffers) => Buffer.concat(buffers));
  }

  /**
   * Reads those of `places` together that are in the archive as they are: the answer has their bytes, which are not to be changed, and undefined for the others. Undefined: there
   * are none. Rejects when any can't be had: `read` tells which. What a reader knows it will want soon is had so at a fraction of the cost.
   */
  readTogether(places: readonly DataPlace[]): Promise<(Buffer | undefined)[]> | undefined {
    const archive = this.#archive;
    if (archive === undefined) return undefined;
    this.#loadRelocations(places.filter(({ segment }) => this.#isArchived(segment)));
    const indexes = places.flatMap((place, index) => (this.#isWholeInArchive(place) ? [index] : []));
    if (indexes.length === 0) return undefined;
    return archive.readMany(indexes.map((index) => places[index] as DataPlace)).then((buffers) => {
      const found: (Buffer | undefined)[] = places.map(() => undefined);
      for (const [at, index] of indexes.entries()) found[index] = buffers[at];
      return found;
    });
  }

  /** Into the cache, in one go. */
  #loadRelocations(places: readonly DataPlace[]): void {
    if (!this.#hasRelocations) return;
    const absent = places.filter(({ segment, dataStart }) => this.#pieces.get(`${segment}:${dataStart}`) === undefined);
    const values = this.#store.getMany(absent.map(({ segment, dataStart }) => relocationKey(segment, dataStart)));
    for (const [index, { segment, dataStart }] of absent.entries()) {
      const value = values[index];
      this.#pieces.set(`${segment}:${dataStart}`, value === undefined ? [] : decodePieces(value));
    }
  }

  #isWholeInArchive(place: DataPlace): boolean {
    if (!this.#isArchived(place.segment) || this.isErased(place)) return false;
    const [part] = this.#partsOf(place);
    return part?.isWhole === true && this.#isArchived(part.segment) && part.dataStart === place.dataStart;
  }

  /** The segment is not in the journal's folder: reading goes through relocations. */
  isGone(segment: number): boolean {
    return this.#gone.has(segment) || this.#isArchived(segment);
  }

  /** The parts of `place` that are in the archive only, in order; without what was erased. */
  archived(place: DataPlace): DataPlace[] {
    if (!this.#isArchived(place.segment)) return [];
    const kept = this.erased(place.segment, place.dataStart).missing(place.skip, place.skip + place.length);
    return kept
      .flatMap(({ from, to }) => this.#partsOf({ ...place, skip: from, length: to - from }))
      .filter((part) => this.#isArchived(part.segment));
  }

  /** Where the parts of a record's data are that were moved, in order; empty when none was. */
  relocation(segment: number, dataStart: number): readonly Piece[] {
    if (!this.#hasRelocations) return NOT_MOVED;
    const name = `${segment}:${dataStart}`;
    const known = this.#pieces.get(name);
    if (known !== undefined) return known;
    const value = this.#store.get(relocationKey(segment, dataStart));
    const pieces = value === undefined ? [] : decodePieces(value);
    this.#pieces.set(name, pieces);
    return pieces;
  }

  /** Tells that a relocation's row was just committed. */
  relocated(segment: number, dataStart: number): void {
    this.#hasRelocations = true;
    this.#pieces.delete(`${segment}:${dataStart}`);
  }

  /** From now on the segment is read through its relocations. In the turn in which that is committed. */
  retire(segment: number): void {
    this.#gone.add(segment);
  }

  /** Nothing names the segment any more. */
  forget(segment: number): void {
    this.#gone.delete(segment);
  }

  /** Resolves when no read of the segment's file is under way. */
  async quiet(segment: number): Promise<void> {
    while (this.#reading.has(segment)) await new Promise<void>((resolve) => this.#waiters.push(resolve));
  }

  #isArchived(segment: number): boolean {
    return this.#archive !== undefined && segment <= this.#archive.lastLsn;
  }

  /** `into` serves a part that is the whole: several would overwrite each other. */
  #readPart({ isWhole, ...place }: Part, into: Buffer | undefined): Buffer | Promise<Buffer> {
    const target = isWhole ? into : undefined;
    if (this.#archive !== undefined && this.#isArchived(place.segment)) return this.#archive.readData(place, target);
    return this.#readFile(place, target);
  }

  #readFile(place: DataPlace, into?: Buffer): Buffer | Promise<Buffer> {
    const journal = this.#journal as Journal;
    const bytes = journal.readData(place, into);
    if (Buffer.isBuffer(bytes)) return bytes;
    const { segment } = place;
    this.#reading.set(segment, (this.#reading.get(segment) ?? 0) + 1);
    return bytes.finally(() => this.#ended(segment));
  }

  #ended(segment: number): void {
    const left = (this.#reading.get(segment) ?? 1) - 1;
    if (left > 0) {
      this.#reading.set(segment, left);
      return;
    }
    this.#reading.delete(segment);
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const wake of waiters) wake();
  }

  /** The places where `place` is now, in order. Throws EIO when a byte of it is nowhere (D1 is broken). */
  #partsOf(place: DataPlace): Part[] {
    const parts: Part[] = [];
    let at = place.skip;
    const end = place.skip + place.length;
    const untouched = (to: number): void => {
      if (at >= to) return;
      if (!this.#isArchived(place.segment)) throw nowhere(place, at);
      parts.push({ ...place, skip: at, length: to - at, isWhole: false });
      at = to;
    };
    for (const piece of this.relocation(place.segment, place.dataStart)) {
      if (piece.skip + piece.length <= at) continue;
      if (piece.skip >= end) break;
      untouched(piece.skip);
      const length = Math.min(end, piece.skip + piece.length) - at;
      const { segment, dataStart, dataLength } = piece;
      const skip = piece.newSkip + (at - piece.skip);
      parts.push({ segment, dataStart, dataLength, skip, length, isWhole: false });
      at += length;
    }
    untouched(end);
    const [only] = parts;
    return only !== undefined && parts.length === 1 ? [{ ...only, isWhole: true }] : parts;
  }
}

const NOTHING_ERASED = new ByteRanges();
const NOT_MOVED: readonly Piece[] = [];

type Part = DataPlace & { readonly isWhole: boolean };

function nowhere(place: DataPlace, at: number): FsError {
  return new FsError(
    "EIO",
    `data of segment ${place.segment} at ${place.dataStart} was moved, but byte ${at} of it is nowhere`,
  );
}

/** Whether any part of the segment's data is still named through a relocation. */
export function hasRelocations(store: RowStore, segment: number): boolean {
  const gte = numberKey(TABLE.RELOCATION, segment);
  return store.range({ gte, lt: prefixEnd(gte), limit: 1 }).length > 0;
}
