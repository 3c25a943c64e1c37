import type { Timestamp } from "../../base/clock.ts";
import type { Lsn } from "../../domain/ids.ts";
import { decodeTimeKey } from "../core.ts";
import { plainKey, prefixEnd, TABLE } from "../keys.ts";
import { decodeLsn } from "../rows.ts";
import type { AppSpace } from "./app-space.ts";
import type { AppUsage, SegmentUsage } from "./policy.ts";

const NO_TIME: Timestamp = { sec: 0, nsec: 0 };

/** Segments at a journal's end that stay whatever their age: the one being written and the one before, whose records may be asked for again. */
const SEGMENTS_KEPT = 2;

/** What the app's journal takes and why, from counters: nothing is walked. `floorMax`: the floor may not pass it. */
export function usageOf(space: AppSpace, floorMax: Lsn): AppUsage {
  const { app, floor } = space;
  const floorLimit = Math.min(floorMax, app.core.lastLsn) as Lsn;
  const all = app.journal.segments();
  const segments = all.map(({ segment, lastLsn, bytes }, index): SegmentUsage => {
    const isFree = index < all.length - SEGMENTS_KEPT && lastLsn <= floorLimit && !space.blocked;
    const use = space.uses.get(segment);
    // One that is gone already only waits for its file to be removed.
    const isLeft = use === undefined || use.state === "kept" || use.state === "damaged";
    const place =
      !isLeft || !isFree ? "fixed" : lastLsn <= floor.walked ? "below" : lastLsn > floor.floor ? "droppable" : "fixed";
    return { segment, lastLsn, bytes, place, use };
  });
  const journalBytes = all.reduce((sum, { bytes }) => sum + bytes, 0);
  const live = Number(app.core.counters.liveBytes);
  const liveBytes = Math.min(journalBytes, Math.max(0, live));
  return {
    id: app.id,
    journalBytes,
    liveBytes,
    floor: floor.floor,
    floorMax: space.blocked ? floor.floor : floorLimit,
    oldest: oldestMoment(space)?.time ?? NO_TIME,
    segments,
  };
}

/** The oldest moment that can be read, and its time; undefined while the journal is empty. */
export function oldestMoment({ app, floor }: AppSpace): { readonly lsn: Lsn; readonly time: Timestamp } | undefined {
  if (floor.floor > 0) return { lsn: floor.floor, time: floor.time };
  const gte = plainKey(TABLE.TIME);
  const row = app.store.range({ gte, lt: prefixEnd(gte), limit: 1 })[0];
  return row === undefined ? undefined : { lsn: decodeLsn(row.value), time: decodeTimeKey(row.key).time };
}
