import { assert } from "../../base/assert.ts";
import type { Log } from "../../base/log.ts";
import { FsError } from "../../domain/errors.ts";
import type { Lsn } from "../../domain/ids.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import type { DataPlace } from "../../journal/data-reader.ts";
import { numberKey, prefixEnd, referenceKey, relocationKey, TABLE } from "../keys.ts";
import { SERVICE_CONTEXT } from "../open-app.ts";
import { cancelled, type Work } from "../reading/work.ts";
import { encodeJson } from "../rows.ts";
import { type AppSpace, pagesOf } from "./app-space.ts";
import { sortedPieces, withPiece } from "./pieces.ts";
import { type MovedData, partsIn, type SegmentContents } from "./segment-contents.ts";
import { hasRelocations } from "./segment-data.ts";
import { SpaceBatch } from "./space-batch.ts";
import { encodePieces, type Piece, type UseState } from "./space-rows.ts";

/** Data of one RELOCATE record: as much as a WRITE has at most, so it holds the loop no longer. */
const COPY_BYTES = 1024 * 1024;

/** Pieces of one RELOCATE record: 60 KB of rows. */
const COPY_PIECES = 500;

/** A step that was just completed, for tests that stop there. */
export type CleanStep = "copied" | "retired" | "synced" | "removed" | "forgotten";

export type CleanerParts = {
  readonly work: Work;
  readonly log: Log;
  readonly onStep?: (step: CleanStep) => void;
};

/** Data named as (segment, data start), of which pieces move; `pieces` is its relocation as it is after what was copied so far. */
type Moving = { readonly segment: number; readonly dataStart: number; pieces: Piece[] };

/** One piece to be copied. `part` says which bytes of the named data. */
type Job = {
  readonly moving: Moving;
  readonly source: DataPlace;
  readonly part: { readonly skip: number; readonly length: number };
};

/**
 * Takes a segment's file away, after everything in use of it is elsewhere. In this order, each step safe to repeat after a crash:
 * 1  RELOCATE records with copies of what is in use, and the relocations that lead there. Readers still read the segment.
 * 2  References of all chunks that name the segment; then its use becomes "gone": readers go through the relocations.
 * 3  All this is durable, and the rows up to the segment's end are durable in the KV, which could not get them again.
 * 4  When no reader is under way in it, the file goes.
 */
export class Cleaner {
  readonly #space: AppSpace;
  readonly #parts: CleanerParts;

  constructor(space: AppSpace, parts: CleanerParts) {
    this.#space = space;
    this.#parts = parts;
  }

  /**
   * Answers whether the segment is gone; false: something of it can't be read, so it stays, with an alarm. Throws FsError (ENOSPC, EIO), CANCELLED; it can be called again
   * then.
   */
  async clean(segment: number, lastLsn: Lsn, contents: SegmentContents): Promise<boolean> {
    assert(!this.#space.app.core.data.isGone(segment), "a segment is cleaned twice");
    await this.#forgetAttempt(segment);
    const moved = contents.moved.map((data) => ({ data, moving: movingOf(segment, data) }));
    if (!(await this.#copyAll(segment, contents, moved))) return false;
    await this.#retire(
      segment,
      contents,
      moved.map(({ moving }) => moving),
    );
    await this.finish(segment, lastLsn);
    for (const gone of new Set(contents.moved.map((data) => data.segment))) await this.#forgetGone(gone);
    return true;
  }

  /** Forgets segments of which nothing is left, and attempts, where that was cut short: one look for each segment that is there or gone. */
  async forgetUnused(): Promise<void> {
    const { app, uses } = this.#space;
    const files = new Set(app.journal.segments().map(({ segment }) => segment));
    for (const [segment, { state }] of [...uses]) {
      if (state === "gone") await this.#forgetGone(segment);
      if (state === "gone" || files.has(segment)) continue;
      const batch = new SpaceBatch(this.#space);
      batch.use(segment, undefined);
      batch.commit({ removed: segment });
    }
    for (const segment of files)
      if (uses.get(segment)?.state !== "gone" && hasRelocations(app.store, segment)) await this.#forgetAttempt(segment);
  }

  /** Steps 3 and 4, for a segment that is gone or dead. */
  async finish(segment: number, lastLsn: Lsn): Promise<void> {
    const { app } = this.#space;
    const { core, journal, applier } = app;
    const { onStep, work } = this.#parts;
    work.check();
    await journal.sync(core.lastLsn);
    // Without room for rows this may take for ever.
    await orCancelled(applier.reached(lastLsn), work);
    await applier.syncKv();
    onStep?.("synced");
    await core.data.quiet(segment);
    await journal.removeSegment(segment);
    onStep?.("removed");
    if (this.#space.uses.get(segment)?.state !== "dead") return;
    const batch = new SpaceBatch(this.#space);
    batch.use(segment, undefined);
    batch.commit({ removed: segment });
    onStep?.("forgotten");
  }

  /** Relocations of an attempt that was cut short: nobody reads through them yet. */
  async #forgetAttempt(segment: number): Promise<void> {
    const batch = new SpaceBatch(this.#space);
    await this.#deleteAll(batch, numberKey(TABLE.RELOCATION, segment), (key) => {
      this.#space.app.core.data.relocated(segment, key.readUInt32BE(9));
    });
    batch.commit({ segment });
  }

  async #deleteAll(batch: SpaceBatch, prefix: Buffer, each: (key: Buffer) => void = () => {}): Promise<void> {
    for (const page of pagesOf(this.#space.app.store, prefix, prefixEnd(prefix))) {
      for (const { key } of page) {
        batch.row(key, null);
        each(key);
      }
      if (batch.isFull) batch.commit({});
      await this.#space.breathe(this.#parts.work);
    }
  }

  async #copyAll(
    segment: number,
    contents: SegmentContents,
    moved: readonly { data: MovedData; moving: Moving }[],
  ): Promise<boolean> {
    let jobs: Job[] = [];
    let bytes = 0;
    for (const job of jobsOf(segment, contents, moved)) {
      if (jobs.length > 0 && (bytes + job.part.length > COPY_BYTES || jobs.length === COPY_PIECES)) {
        if (!(await this.#copy(segment, jobs))) return false;
        jobs = [];
        bytes = 0;
      }
      jobs.push(job);
      bytes += job.part.length;
    }
    return jobs.length === 0 || this.#copy(segment, jobs);
  }

  /** Step 1 for some pieces. Everything is read, and verified, before anything is written. */
  async #copy(segment: number, jobs: readonly Job[]): Promise<boolean> {
    const { core, journal } = this.#space.app;
    const buffers: Buffer[] = [];
    try {
      for (const { source } of jobs) {
        buffers.push(await journal.readData(source));
        if (this.#parts.work.due) await this.#parts.work.pause();
      }
    } catch (error) {
      if (!(error instanceof FsError) || error.code !== "EIO") throw error;
      this.#keepDamaged(segment, error);
      return false;
    }
    await this.#space.breathe(this.#parts.work);
    const data = Buffer.concat(buffers);
    const tx = core.begin(SERVICE_CONTEXT);
    // In the end it gives back more than it takes: the keeper saw to it that it fits.
    const place = tx.place(data.length, { useReserve: true });
    const rows = new Set<Moving>();
    let newSkip = 0;
    for (const { moving, part } of jobs) {
      const piece = { ...part, segment: place.segment, dataStart: place.dataStart, dataLength: data.length, newSkip };
      moving.pieces = withPiece(moving.pieces, piece);
      rows.add(moving);
      newSkip += part.length;
    }
    for (const { segment: named, dataStart, pieces } of rows)
      tx.row(relocationKey(named, dataStart), encodePieces(pieces));
    tx.commit(RECORD_OP.RELOCATE, encodeJson({ segment }), { data, useReserve: true });
    for (const { segment: named, dataStart } of rows) core.data.relocated(named, dataStart);
    this.#parts.onStep?.("copied");
    return true;
  }

  #keepDamaged(segment: number, cause: FsError): void {
    this.#parts.log.alarm("a segment can't be cleaned: bytes of it that are in use are damaged. It stays as it is", {
      appId: this.#space.app.id,
      segment,
      cause,
    });
    const use = this.#space.uses.get(segment) ?? { liveBytes: 0, costBytes: 0 };
    const batch = new SpaceBatch(this.#space);
    batch.use(segment, { ...use, state: "damaged" });
    batch.commit({ segment, damaged: true });
  }

  /** Step 2. */
  async #retire(segment: number, contents: SegmentContents, moved: readonly Moving[]): Promise<void> {
    const { core } = this.#space.app;
    const { floor } = this.#space.floor;
    const batch = new SpaceBatch(this.#space);
    const state: UseState = contents.named.size === 0 ? "dead" : "gone";
    for (const key of contents.stale) batch.row(key, null);
    for (const { content, chunk } of contents.owners) {
      batch.row(referenceKey(segment, content, chunk, floor), NO_BYTES);
      if (!batch.isFull) continue;
      batch.commit({ segment });
      await this.#space.breathe(this.#parts.work);
    }
    for (const { segment: named, dataStart, pieces } of moved) {
      batch.row(relocationKey(named, dataStart), pieces.length === 0 ? null : encodePieces(pieces));
    }
    batch.use(segment, { state, liveBytes: 0, costBytes: 0 });
    batch.commit({ segment, state });
    for (const { segment: named, dataStart } of moved) core.data.relocated(named, dataStart);
    if (state === "gone") core.data.retire(segment);
    this.#parts.onStep?.("retired");
  }

  /** A segment that went earlier is forgotten when nothing of it is in use any more. */
  async #forgetGone(segment: number): Promise<void> {
    if (hasRelocations(this.#space.app.store, segment)) return;
    const batch = new SpaceBatch(this.#space);
    await this.#deleteAll(batch, numberKey(TABLE.REFERENCE, segment));
    batch.use(segment, undefined);
    batch.commit({ forgotten: segment });
    this.#space.app.core.data.forget(segment);
  }
}

const NO_BYTES = Buffer.alloc(0);

/** What `promise` comes to, or CANCELLED when the work is cancelled first. */
export async function orCancelled(promise: Promise<void>, { signal }: Pick<Work, "signal">): Promise<void> {
  if (signal === undefined) return promise;
  let onAbort: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = (): void => reject(cancelled());
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
  try {
    await Promise.race([promise, aborted]);
  } finally {
    if (onAbort !== undefined) signal.removeEventListener("abort", onAbort);
  }
}

/** The relocation of moved data without what is not in use of the segment to be cleaned. */
function movingOf(segment: number, data: MovedData): Moving {
  const others = data.pieces.filter((piece) => piece.segment !== segment);
  const parts = partsIn(segment, data).map(({ piece, from, to }) => ({
    ...piece,
    skip: from,
    length: to - from,
    newSkip: piece.newSkip + (from - piece.skip),
  }));
  return { segment: data.segment, dataStart: data.dataStart, pieces: sortedPieces([...others, ...parts]) };
}

function* jobsOf(
  segment: number,
  contents: SegmentContents,
  moved: readonly { data: MovedData; moving: Moving }[],
): Generator<Job> {
  for (const [dataStart, { dataLength, ranges }] of contents.named) {
    const moving: Moving = { segment, dataStart, pieces: [] };
    for (const { from, to } of ranges.ranges) {
      yield* split(moving, { segment, dataStart, dataLength, skip: from, length: to - from }, from);
    }
  }
  for (const { data, moving } of moved) {
    for (const { piece, from, to } of partsIn(segment, data)) {
      const { dataStart, dataLength } = piece;
      yield* split(
        moving,
        { segment, dataStart, dataLength, skip: piece.newSkip + (from - piece.skip), length: to - from },
        from,
      );
    }
  }
}

/** Jobs of at most COPY_BYTES for the bytes of `source`, which are bytes `skip` on of the named data. */
function* split(moving: Moving, source: DataPlace, skip: number): Generator<Job> {
  for (let done = 0; done < source.length; done += COPY_BYTES) {
    const length = Math.min(COPY_BYTES, source.length - done);
    yield { moving, source: { ...source, skip: source.skip + done, length }, part: { skip: skip + done, length } };
  }
}
