import { FsError, TidemarkError } from "../../domain/errors.ts";
import { type AppId, LIVE, type Lsn } from "../../domain/ids.ts";
import { plainKey, prefixEnd, TABLE } from "../keys.ts";
import type { RestoreRow } from "../restore/restore-rows.ts";
import type { RowStore } from "../row-store.ts";
import { decodeJson, decodeSince } from "../rows.ts";
import { gridRows } from "./grid.ts";
import { Kept } from "./kept.ts";
import { decodeFloor } from "./space-rows.ts";

/** Snapshot rows read in one go. */
const SNAPSHOT_ROWS = 1000;

/** The newest restores, among which those that run are. */
const RESTORES_MAX = 1000;

/**
 * Which moments of an app can be read: everything from the floor on, and the kept ones below it: snapshots, the grid of the retention policy, what a running restore needs, and what is being read.
 *
 * Invariants
 * O1  Whatever is collected is collected for a `kept` that was current; a moment leaves `kept` only by `refresh`, before anything is collected that it needs.
 * O2  A moment below the floor that is not in `kept` is refused, and never comes back: a snapshot, a restore or a hold begins only where `isReadable`.
 */
export class Moments {
  readonly #store: RowStore;
  readonly #appId: AppId;
  /** Kept by the archive. */
  readonly #archived: readonly Lsn[];
  readonly #holds = new Map<Lsn, number>();
  #floor = 0 as Lsn;
  #kept = Kept.none;

  constructor(store: RowStore, appId: AppId, archived: readonly Lsn[] = []) {
    this.#store = store;
    this.#appId = appId;
    this.#archived = archived;
  }

  /** Reads the rows, once the app is open. */
  load(): void {
    const row = this.#store.get(plainKey(TABLE.FLOOR));
    if (row !== undefined) this.#floor = decodeFloor(row).floor;
    this.refresh();
  }

  /** The oldest LSN whose state can be read; 0 while nothing was dropped. */
  get floor(): Lsn {
    return this.#floor;
  }

  /** The moments below the floor that can be read. */
  get kept(): Kept {
    return this.#kept;
  }

  isReadable(at: Lsn): boolean {
    return at >= this.#floor || this.#kept.has(at);
  }

  /** Throws ESTALE for a moment that can't be read any more. */
  check(at: Lsn): void {
    if (at < this.#floor && !this.#kept.has(at)) throw FsError.of("ESTALE");
  }

  /** Throws OUT_OF_HISTORY for a moment that can't be read any more. */
  require(at: Lsn): void {
    if (!this.isReadable(at)) throw outOfHistory(at, this.#floor);
  }

  /** Keeps a moment readable until the answer is called, or the process ends. Throws OUT_OF_HISTORY. */
  hold(at: Lsn): () => void {
    if (at === LIVE) return () => {};
    this.require(at);
    this.#holds.set(at, (this.#holds.get(at) ?? 0) + 1);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      const left = (this.#holds.get(at) ?? 1) - 1;
      if (left > 0) this.#holds.set(at, left);
      else this.#holds.delete(at);
    };
  }

  /** Raises the floor. In the turn in which its row is committed. */
  raise(floor: Lsn): void {
    this.#floor = floor;
    this.refresh();
  }

  /** Reads again which moments below the floor are kept: what left them may be collected from now on. */
  refresh(): void {
    if (this.#floor === 0) return;
    const lsns: Lsn[] = [];
    for (const lsn of this.#holds.keys()) if (lsn < this.#floor) lsns.push(lsn);
    for (const lsn of this.#archived) if (lsn < this.#floor) lsns.push(lsn);
    for (const lsn of this.#snapshots()) if (lsn < this.#floor) lsns.push(lsn);
    for (const { lsn } of gridRows(this.#store)) if (lsn < this.#floor) lsns.push(lsn);
    for (const lsn of this.#restoring()) if (lsn < this.#floor) lsns.push(lsn);
    this.#kept = new Kept(lsns);
  }

  /** What a restore reads is kept by its row, so that it can go on after a restart: where it takes from, in this app, and what there was before it. */
  *#restoring(): Generator<Lsn> {
    const gte = plainKey(TABLE.RESTORE);
    for (const { value } of this.#store.range({ gte, lt: prefixEnd(gte), reverse: true, limit: RESTORES_MAX })) {
      const { job, at, firstLsn, lastLsn } = decodeJson<RestoreRow>(value);
      if (lastLsn !== 0) continue;
      yield (firstLsn - 1) as Lsn;
      if (job.kind === "undo" || job.sourceApp === this.#appId) yield at.lsn;
    }
  }

  *#snapshots(): Generator<Lsn> {
    const gte = plainKey(TABLE.SNAPSHOT);
    for (let from = gte; ; ) {
      const rows = this.#store.range({ gte: from, lt: prefixEnd(gte), limit: SNAPSHOT_ROWS });
      for (const { value } of rows) yield decodeJson<{ lsn: Lsn }>(decodeSince(value).bytes).lsn;
      const last = rows.at(-1);
      if (last === undefined || rows.length < SNAPSHOT_ROWS) return;
      from = Buffer.concat([last.key, Buffer.alloc(1)]);
    }
  }
}

/** The error for a moment that is not kept any more. */
export function outOfHistory(at: Lsn, floor: Lsn): TidemarkError {
  const message = `LSN ${at} is older than the history that is kept, which begins with LSN ${floor}`;
  return new TidemarkError("OUT_OF_HISTORY", message, { data: { lsn: at, floor } });
}
