import type { ContentId, Lsn } from "../../domain/ids.ts";
import { CHUNK_BYTES, chunkOffset } from "../content.ts";
import { chunkKey, cutKey, lsnAtEnd, TABLE } from "../keys.ts";
import type { Work } from "../reading/work.ts";
import type { RowStore } from "../row-store.ts";
import { type Cut, decodeCut, decodeExtents, encodeExtents } from "../rows.ts";
import { type AppSpace, pagesOf } from "./app-space.ts";
import type { Kept } from "./kept.ts";
import type { SpaceBatch } from "./space-batch.ts";

/** A chunk whose past is to be reduced to what the kept moments and, while its content lives, the floor need. */
export type ChunkTask = {
  readonly content: ContentId;
  readonly chunk: number;
  /** The content ended with this record; undefined: it lives at the floor. */
  readonly endedBy: Lsn | undefined;
  /** Cuts of the content up to the floor, in LSN order. */
  readonly cuts: readonly Cut[];
};

/** A checkpoint that stays, or is made. */
type Checkpoint = { readonly lsn: Lsn; readonly made: boolean };

/**
 * Reduces the history of single chunks below the floor to checkpoints, one for each state that somebody can still read.
 *
 * Invariants
 * C1  For every readable moment m ≤ floor the latest checkpoint at or before m, if one was made here, is the state at m: slices and cuts in
 *     between are none. So slices and superseded checkpoints up to the floor can go in any order, and in records of their own.
 * C2  A chunk of one row up to the floor, and no cut after it, is left as it is: what is written once is never rewritten.
 */
export class ChunkHistory {
  readonly #space: AppSpace;
  readonly #batch: SpaceBatch;
  readonly #kept: Kept;
  readonly #flush: () => Promise<void>;
  readonly #work: Work;

  constructor(space: AppSpace, parts: { batch: SpaceBatch; kept: Kept; flush: () => Promise<void>; work: Work }) {
    this.#space = space;
    this.#batch = parts.batch;
    this.#kept = parts.kept;
    this.#flush = parts.flush;
    this.#work = parts.work;
  }

  /** Doing it again, also after doing it by half, ends in the same rows. */
  async reduce(task: ChunkTask): Promise<void> {
    const { store } = this.#space.app;
    const { content, chunk } = task;
    // Older checkpoints than the one that was current at the previous floor are final: each is pinned to a kept moment.
    const base = lastLsn(store, TABLE.CHECKPOINT, task, this.#space.floor.previous) ?? (0 as Lsn);
    const cuts = task.cuts.filter((cut) => cut.lsn > base && overlaps(cut, chunk));
    if (task.endedBy === undefined && this.#isSimple(task, base, cuts)) return;
    const stays = await this.#checkpoints(task, base, cuts);
    for (const checkpoint of stays) this.#put(content, chunk, checkpoint);
    this.#pin(task, stays);
    await this.#sweep(TABLE.CHECKPOINT, task, { from: base, kept: new Set(stays.map(({ lsn }) => lsn)) });
    await this.#sweep(TABLE.SLICE, task, { from: 0 as Lsn, kept: new Set() });
  }

  /** C2. */
  #isSimple(task: ChunkTask, base: Lsn, cuts: readonly Cut[]): boolean {
    const { store } = this.#space.app;
    const rows = [TABLE.CHECKPOINT, TABLE.SLICE].flatMap((table) => {
      const gte = chunkKey(table, task.content, task.chunk, table === TABLE.CHECKPOINT ? base : 0);
      return store.range({ gte, lt: chunkKey(table, task.content, task.chunk, this.#space.floor.floor + 1), limit: 2 });
    });
    const [only] = rows;
    return only === undefined || (rows.length === 1 && !cuts.some((cut) => cut.lsn > lsnAtEnd(only.key)));
  }

  /** Which checkpoints there must be from `base` on, ascending. */
  async #checkpoints(task: ChunkTask, base: Lsn, cuts: readonly Cut[]): Promise<Checkpoint[]> {
    const { store, core } = this.#space.app;
    const { floor } = this.#space.floor;
    const { content, chunk, endedBy } = task;
    const moments = [...this.#kept.in(Math.max(base, content), endedBy ?? floor)];
    if (endedBy === undefined) moments.push(floor);
    const stays: Checkpoint[] = [];
    let coveredTo: Lsn | undefined;
    for (const moment of moments) {
      if (this.#work.due) await this.#work.pause();
      const changed = Math.max(lastLsn(store, TABLE.SLICE, task, moment) ?? 0, lastCut(cuts, moment)) as Lsn;
      if (coveredTo !== undefined && changed <= coveredTo) continue;
      const existing = lastLsn(store, TABLE.CHECKPOINT, task, moment);
      // A checkpoint of the record of the last slice has that slice in it.
      const isThere = existing !== undefined && existing >= base && existing >= changed;
      const isEmpty = !isThere && core.content.chunk(content, chunk, moment).list.count === 0;
      // An empty one is needed where something older would show, also while the slices go one record after the other.
      if (isEmpty && base === 0 && stays.length === 0 && moment !== floor) continue;
      stays.push(isThere ? { lsn: existing, made: false } : { lsn: moment, made: true });
      coveredTo = moment;
    }
    return stays;
  }

  // What is in use of older segments was counted as of the previous floor: only what changed since is.
  #put(content: ContentId, chunk: number, { lsn, made }: Checkpoint): void {
    if (!made && lsn <= this.#space.floor.previous) return;
    const { extents } = this.#space.app.core.content.chunk(content, chunk, lsn).list;
    this.#batch.count(extents, 1);
    if (made) this.#batch.contentRow(content, chunkKey(TABLE.CHECKPOINT, content, chunk, lsn), encodeExtents(extents));
  }

  /** The last one is what the floor reads, unless the content has ended; the others are there for kept moments. */
  #pin(task: ChunkTask, stays: readonly Checkpoint[]): void {
    const { content, chunk, endedBy } = task;
    for (const [index, { lsn }] of stays.entries()) {
      const until = stays[index + 1]?.lsn ?? endedBy;
      if (until === undefined) return;
      const kept = this.#kept.newestIn(lsn, until);
      if (kept !== undefined)
        this.#batch.pin(kept, chunkKey(TABLE.CHECKPOINT, content, chunk, lsn), { since: lsn, until });
    }
  }

  /** Deletes the chunk's rows of a table up to the floor but those of `kept`. */
  async #sweep(
    table: number,
    task: ChunkTask,
    rows: { readonly from: Lsn; readonly kept: ReadonlySet<Lsn> },
  ): Promise<void> {
    const { content, chunk } = task;
    const lt = chunkKey(table, content, chunk, this.#space.floor.floor + 1);
    for (const page of pagesOf(this.#space.app.store, chunkKey(table, content, chunk, rows.from), lt)) {
      for (const { key, value } of page) {
        if (rows.kept.has(lsnAtEnd(key))) continue;
        this.#batch.contentRow(content, key, null);
        if (lsnAtEnd(key) <= this.#space.floor.previous) this.#batch.count(decodeExtents(value), -1);
      }
      if (this.#batch.isFull) await this.#flush();
      if (this.#work.due) await this.#work.pause();
    }
  }
}

/** The LSN of the chunk's last row of a table at or before `at`. */
function lastLsn(store: RowStore, table: number, { content, chunk }: ChunkTask, at: Lsn): Lsn | undefined {
  const gte = chunkKey(table, content, chunk, 0);
  const row = store.range({ gte, lt: chunkKey(table, content, chunk, at + 1), reverse: true, limit: 1 })[0];
  return row === undefined ? undefined : lsnAtEnd(row.key);
}

function lastCut(cuts: readonly Cut[], at: Lsn): number {
  let last = 0;
  for (const { lsn } of cuts) if (lsn <= at) last = lsn;
  return last;
}

function overlaps(cut: Cut, chunk: number): boolean {
  const start = chunkOffset(chunk);
  return cut.from < start + BigInt(CHUNK_BYTES) && cut.to > start;
}

/** The cuts of a content up to `at`, in LSN order. */
export function cutsOf(store: RowStore, content: ContentId, at: Lsn): Cut[] {
  const cuts: Cut[] = [];
  for (const page of pagesOf(store, cutKey(content, 0), cutKey(content, at + 1))) {
    for (const { key, value } of page) cuts.push(decodeCut(lsnAtEnd(key), value));
  }
  return cuts;
}
