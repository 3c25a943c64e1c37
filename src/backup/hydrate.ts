import { readU64Be } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Timers } from "../base/timers.ts";
import { FsError } from "../domain/errors.ts";
import type { Lsn } from "../domain/ids.ts";
import { RECORD_OP } from "../domain/record-op.ts";
import type { DataPlace } from "../journal/data-reader.ts";
import { chunkOfKey, lsnAtEnd, plainKey, prefixEnd, referenceKey, relocationKey, TABLE } from "../meta/keys.ts";
import { type OpenApp, SERVICE_CONTEXT } from "../meta/open-app.ts";
import type { Turns } from "../meta/reading/turns.ts";
import { Work } from "../meta/reading/work.ts";
import { decodeExtents, encodeJson } from "../meta/rows.ts";
import { AppSpace, pagesOf } from "../meta/space/app-space.ts";
import { withPiece } from "../meta/space/pieces.ts";
import { encodePieces, type Piece } from "../meta/space/space-rows.ts";

/** Data of one RELOCATE record: as much as a WRITE has at most, so it holds the loop no longer. */
const COPY_BYTES = 1024 * 1024;

/** Pieces and references of one RELOCATE record: 100 KB of rows. */
const COPY_PIECES = 500;
const COPY_REFERENCES = 1000;

/** Records' data being read ahead: enough for several blocks of packs on their way from a store some milliseconds away. */
const READ_AHEAD_RECORDS = 8;

/** Walks over the rows, at most: a second finds what the first left because cleaning was at the same rows. */
const PASSES_MAX = 5;

/** Reads what is to be brought in. */
export interface HydrateSource {
  /** The bytes of each place, in order. Rejects as `readData` does when any of them can't be had. */
  readMany(places: readonly DataPlace[]): Promise<Buffer[]>;
  readData(place: DataPlace): Buffer | Promise<Buffer>;
  /** Whether an error of these says that the store can't be reached, not that something is damaged. */
  isUnreachable(error: unknown): boolean;
}

export type HydrateReport = { readonly bytes: number; readonly damagedBytes: number };

export type HydratorParts = {
  readonly app: OpenApp;
  readonly source: HydrateSource;
  readonly clock: Clock;
  readonly turns: Turns;
  readonly timers: Timers;
  readonly log: Log;
  /** At most so fast; absent: as fast as it goes. */
  readonly bytesPerSecondMax?: number;
  readonly onProgress?: (bytesDone: number) => void;
};

type Copy = { readonly places: readonly DataPlace[]; readonly references: readonly Buffer[]; readonly bytes: number };

/**
 * Brings the data that rows name and that are only in the archive into the journal's folder: copies in RELOCATE records, as cleaning makes them, with the relocations that lead there and the references by which a later
 * cleaning finds who needs them. In the order of the contents, so that each block of a pack is read once. Every record by itself is right; whoever stops it may start it again: what
 * is here is passed over.
 */
export class Hydrator {
  readonly #parts: HydratorParts;
  readonly #space: AppSpace;
  #bytes = 0;
  #damagedBytes = 0;
  #scratch: Buffer | undefined;
  readonly #damaged = new Set<string>();

  constructor(parts: HydratorParts) {
    this.#parts = parts;
    this.#space = new AppSpace(parts.app);
  }

  get bytesDone(): number {
    return this.#bytes;
  }

  /**
   * Resolves when everything is here, durably, but for what is damaged in the archive. Throws CANCELLED, UNAVAILABLE-like errors of the source, FsError ENOSPC and EIO of the journal; what was brought in
   * stays.
   */
  async run(signal?: AbortSignal): Promise<HydrateReport> {
    const { app, clock, turns } = this.#parts;
    const work = new Work({ clock, turns }, signal === undefined ? {} : { signal });
    for (let pass = 0; pass < PASSES_MAX; pass++) if (!(await this.#pass(work))) break;
    await app.journal.sync(app.core.lastLsn);
    return { bytes: this.#bytes, damagedBytes: this.#damagedBytes };
  }

  /** Answers whether there was anything to bring in. */
  async #pass(work: Work): Promise<boolean> {
    const { clock } = this.#parts;
    const ahead: { readonly copy: Copy; readonly data: Promise<Buffer[]> }[] = [];
    const started = { ms: clock.monotonicMs(), bytes: this.#bytes };
    let any = false;
    try {
      for await (const copy of this.#copies(work)) {
        any = true;
        const data = this.#read(copy);
        data.catch(() => {});
        ahead.push({ copy, data });
        if (ahead.length < READ_AHEAD_RECORDS) continue;
        await this.#commitNext(ahead, work);
        await this.#slowDown(started, work);
      }
      while (ahead.length > 0) await this.#commitNext(ahead, work);
    } finally {
      await Promise.allSettled(ahead.map(({ data }) => data));
    }
    return any;
  }

  async #commitNext(ahead: { readonly copy: Copy; readonly data: Promise<Buffer[]> }[], work: Work): Promise<void> {
    const next = ahead[0];
    if (next === undefined) return;
    const buffers = await next.data;
    ahead.shift();
    await this.#space.breathe(work);
    work.check();
    this.#commit(next.copy, buffers);
    this.#parts.onProgress?.(this.#bytes);
  }

  /** What one record takes, one after the other: parts that are not here, and references that are not noted. */
  async *#copies(work: Work): AsyncGenerator<Copy> {
    let places: DataPlace[] = [];
    let references: Buffer[] = [];
    let bytes = 0;
    for (const { segments, missing, row } of this.#rows()) {
      if (work.due) await work.pause();
      for (const segment of segments) {
        const key = referenceKey(segment, readU64Be(row, 1), chunkOfKey(row), lsnAtEnd(row));
        if (this.#parts.app.store.get(key) === undefined) references.push(key);
      }
      for (const place of missing) {
        if (this.#damaged.has(nameOf(place))) continue;
        if (bytes > 0 && (bytes + place.length > COPY_BYTES || places.length === COPY_PIECES)) {
          yield { places, references, bytes };
          [places, references, bytes] = [[], [], 0];
        }
        places.push(place);
        bytes += place.length;
      }
      if (references.length < COPY_REFERENCES) continue;
      yield { places, references, bytes };
      [places, references, bytes] = [[], [], 0];
    }
    if (places.length > 0 || references.length > 0) yield { places, references, bytes };
  }

  /** The rows that name segments of the archive, and which bytes of them are not here. Checkpoints above the floor name nothing that slices don't. */
  *#rows(): Generator<{ readonly row: Buffer; readonly segments: Iterable<number>; readonly missing: DataPlace[] }> {
    const { core, store } = this.#parts.app;
    for (const table of [TABLE.SLICE, TABLE.CHECKPOINT]) {
      const gte = plainKey(table);
      for (const page of pagesOf(store, gte, prefixEnd(gte))) {
        for (const { key, value } of page) {
          if (table === TABLE.CHECKPOINT && lsnAtEnd(key) > core.moments.floor) continue;
          const segments = new Set<number>();
          const missing: DataPlace[] = [];
          for (const extent of decodeExtents(value)) {
            const { segment, dataStart, dataLength, skip, length } = extent;
            if (segment === 0 || segment > (core.archive?.lastLsn ?? 0)) continue;
            segments.add(segment);
            for (const part of core.data.archived({ segment, dataStart, dataLength, skip, length }))
              missing.push(...split(part));
          }
          if (segments.size > 0) yield { row: key, segments, missing };
        }
      }
    }
  }

  /** The bytes of a copy's places; of what is damaged none: it stays in the archive, whose reader has raised the alarm. */
  async #read({ places }: Copy): Promise<Buffer[]> {
    const { source } = this.#parts;
    try {
      return await source.readMany(places);
    } catch (error) {
      if (source.isUnreachable(error)) throw error;
    }
    const buffers: Buffer[] = [];
    for (const place of places) {
      try {
        buffers.push(await source.readData(place));
      } catch (error) {
        if (!(error instanceof FsError) || source.isUnreachable(error)) throw error;
        this.#damaged.add(nameOf(place));
        this.#damagedBytes += place.length;
        buffers.push(NO_BYTES);
      }
    }
    return buffers;
  }

  /** One record. In one turn: relocations are read as they are now. */
  #commit({ places, references }: Copy, read: readonly Buffer[]): void {
    const { core } = this.#parts.app;
    // What was erased by order since it was asked for must not come back.
    const buffers = read.map((bytes, index) => {
      const place = places[index];
      return place !== undefined && core.data.isErased(place) ? NO_BYTES : bytes;
    });
    const data = this.#joined(buffers);
    const tx = core.begin(SERVICE_CONTEXT);
    const moved = new Map<string, { readonly place: DataPlace; pieces: Piece[] }>();
    if (data.length > 0) {
      const target = tx.place(data.length);
      let newSkip = 0;
      for (const [index, place] of places.entries()) {
        const length = buffers[index]?.length ?? 0;
        if (length === 0) continue;
        const { segment, dataStart, skip } = place;
        const name = `${segment}:${dataStart}`;
        const entry = moved.get(name) ?? { place, pieces: [...core.data.relocation(segment, dataStart)] };
        const piece = { skip, length, ...target, dataLength: data.length, newSkip };
        entry.pieces = withPiece(entry.pieces, pieceOf(piece));
        moved.set(name, entry);
        newSkip += length;
      }
    }
    for (const { place, pieces } of moved.values())
      tx.row(relocationKey(place.segment, place.dataStart), encodePieces(pieces));
    for (const key of references) tx.row(key, NO_BYTES);
    const detail = encodeJson({ segment: places[0]?.segment ?? 0, from: "archive" });
    if (data.length > 0) tx.commit(RECORD_OP.RELOCATE, detail, { data });
    else if (references.length > 0) tx.commit(RECORD_OP.SPACE, detail);
    for (const { place } of moved.values()) core.data.relocated(place.segment, place.dataStart);
    this.#bytes += data.length;
  }

  /** Valid until the next call: a record is in its file when it is committed. */
  #joined(buffers: readonly Buffer[]): Buffer {
    this.#scratch ??= Buffer.allocUnsafeSlow(COPY_BYTES);
    let length = 0;
    for (const buffer of buffers) length += buffer.copy(this.#scratch, length);
    return this.#scratch.subarray(0, length);
  }

  async #slowDown(started: { readonly ms: number; readonly bytes: number }, work: Work): Promise<void> {
    const { bytesPerSecondMax, clock, timers } = this.#parts;
    if (bytesPerSecondMax === undefined) return;
    const dueMs = started.ms + ((this.#bytes - started.bytes) / bytesPerSecondMax) * 1000;
    const waitMs = dueMs - clock.monotonicMs();
    if (waitMs > 0) await timers.wait(Math.min(waitMs, WAIT_MS_MAX));
    work.check();
  }
}

/** A cancelled hydration ends within this. */
const WAIT_MS_MAX = 2_000;

const NO_BYTES = Buffer.alloc(0);

function pieceOf(piece: Piece & { readonly lsn?: Lsn }): Piece {
  const { skip, length, segment, dataStart, dataLength, newSkip } = piece;
  return { skip, length, segment, dataStart, dataLength, newSkip };
}

function nameOf({ segment, dataStart, skip }: DataPlace): string {
  return `${segment}:${dataStart}:${skip}`;
}

/** Parts of at most what one record copies. */
function* split(place: DataPlace): Generator<DataPlace> {
  for (let done = 0; done < place.length; done += COPY_BYTES) {
    const length = Math.min(COPY_BYTES, place.length - done);
    const { segment, dataStart, dataLength, skip } = place;
    yield { segment, dataStart, dataLength, skip: skip + done, length };
  }
}
