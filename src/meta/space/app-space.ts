import { readU64Be } from "../../base/bytes.ts";
import type { Timestamp } from "../../base/clock.ts";
import type { Lsn } from "../../domain/ids.ts";
import { PENDING_BYTES_MAX } from "../engine.ts";
import { plainKey, prefixEnd, TABLE } from "../keys.ts";
import type { OpenApp } from "../open-app.ts";
import type { Work } from "../reading/work.ts";
import type { RowStore } from "../row-store.ts";
import { decodeFloor, decodeUse, type FloorRow, type SegmentUse } from "./space-rows.ts";

/** Memory of rows not yet applied at which the collector waits: half of what makes writers wait, so that it never is what they wait for. */
const PENDING_BYTES_PAUSE = PENDING_BYTES_MAX / 2;

/** Rows of one page of a walk over a range. */
const PAGE_ROWS = 512;

const NO_TIME: Timestamp = { sec: 0, nsec: 0 };
const NO_FLOOR: FloorRow = { floor: 0 as Lsn, previous: 0 as Lsn, walked: 0 as Lsn, era: 0, time: NO_TIME };

/** One app as its space is kept: the floor, and what of each segment below it is in use. In memory as in the rows. */
export class AppSpace {
  readonly app: OpenApp;
  readonly uses = new Map<number, SegmentUse>();
  floor: FloorRow;
  /** The journal below the floor can't be read: nothing more is collected until the service restarts. */
  blocked = false;
  /** What an earlier process left of segments that nothing needs any more is looked for once. */
  isSwept = false;
  /** Segments whose use was counted since the last record: written with the next. */
  readonly counted = new Set<number>();

  constructor(app: OpenApp) {
    this.app = app;
    const row = app.store.get(plainKey(TABLE.FLOOR));
    this.floor = row === undefined ? NO_FLOOR : decodeFloor(row);
    const gte = plainKey(TABLE.SEGMENT_USE);
    for (const page of pagesOf(app.store, gte, prefixEnd(gte))) {
      for (const { key, value } of page) this.uses.set(readU64Be(key, 1), decodeUse(value));
    }
  }

  /** Waits while the applier is far behind, and lets others have the loop when it is their turn. Throws CANCELLED. */
  async breathe(work: Work): Promise<void> {
    const { app } = this;
    while (app.store.pendingBytes > PENDING_BYTES_PAUSE) {
      work.check();
      await Promise.all([app.applier.nextBatch(), app.journal.sync(app.core.lastLsn)]);
    }
    if (work.due) await work.pause();
  }
}

/** The rows with gte ≤ key < lt, a page at a time; rows may change between two pages. */
export function* pagesOf(
  store: RowStore,
  gte: Buffer,
  lt: Buffer,
): Generator<readonly { key: Buffer; value: Buffer }[]> {
  for (let from = gte; ; ) {
    const rows = store.range({ gte: from, lt, limit: PAGE_ROWS });
    if (rows.length > 0) yield rows;
    const last = rows.at(-1);
    if (last === undefined || rows.length < PAGE_ROWS) return;
    from = Buffer.concat([last.key, ZERO]);
  }
}

const ZERO = Buffer.alloc(1);
