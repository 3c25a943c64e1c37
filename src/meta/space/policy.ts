import { compareTimestamps, type Timestamp } from "../../base/clock.ts";
import type { AppId, Lsn } from "../../domain/ids.ts";
import type { SegmentUse } from "./space-rows.ts";

/** One segment of an app's journal, as the policy sees it. */
export type SegmentUsage = {
  readonly segment: number;
  readonly lastLsn: Lsn;
  readonly bytes: number;
  /** `below` the floor: only what is in use matters. `droppable`: above it, and the floor may pass it. `fixed`: still written, or wanted by somebody. */
  readonly place: "below" | "droppable" | "fixed";
  /** What is in use of it, once that was counted. */
  readonly use: SegmentUse | undefined;
};

/** One app's space. */
export type AppUsage = {
  readonly id: AppId;
  readonly journalBytes: number;
  /** What the present needs of it. */
  readonly liveBytes: number;
  readonly floor: Lsn;
  /** How far the floor can move: to the end of the journal, if nobody wants its records. */
  readonly floorMax: Lsn;
  /** Time of the oldest moment that can be read. */
  readonly oldest: Timestamp;
  /** Oldest first. */
  readonly segments: readonly SegmentUsage[];
};

/** What to do next: count a segment below the floor and clean it if that gains at least `gainRatioMin` of it; raise an app's floor; or nothing. */
export type Action =
  | {
      readonly do: "clean";
      readonly id: AppId;
      readonly segment: number;
      readonly lastLsn: Lsn;
      readonly gainRatioMin: number;
    }
  | { readonly do: "raise"; readonly id: AppId; readonly floor: Lsn }
  | { readonly do: "nothing" };

/** A segment with more than 70 % in use is kept while there is another way: copying much gains little. */
const GAIN_RATIO = 0.3;

/** Below this, cleaning gains less than it costs: what is left are rows of relocations themselves. */
const GAIN_RATIO_LEAST = 0.1;

/** What the records about cleaning one segment take, beside what they move. So cleaning small segments comes to an end. */
const CLEAN_COST_BYTES = 2048;

/** When so much of the bound is taken up by dead parts of segments, these are cleaned before more history goes. */
const WASTE_RATIO_MAX = 0.25;

/** History is dropped from the last segments only if it is at least this part of what the disk is short of: else it would be lost for nothing. */
const WORTH_RATIO = 0.1;

/** Records that the floor passes in one go when there are no more. */
const RECORDS_AT_ONCE = 256;

/** Journal bytes that the present doesn't need. */
export function historyBytesOf(app: AppUsage): number {
  return Math.max(0, app.journalBytes - app.liveBytes);
}

/** Bytes of segments below the floor that cleaning would gain. */
export function reclaimableBytesOf(app: AppUsage): number {
  return app.segments.reduce(
    (sum, segment) => (segment.place === "below" && segment.use !== undefined ? sum + gainOf(segment) : sum),
    0,
  );
}

/** What is to be kept, and by how much it is not. */
export type Bounds = {
  /** By how many bytes there is too much history, or too little room on the disk; at most 0 when neither. */
  readonly excessBytes: number;
  /** How many bytes the disk has too few. */
  readonly shortBytes: number;
  readonly historyBytes: number;
  readonly historyBytesMax: number;
  /** What cleaning one segment may write: the room there is. */
  readonly copyBytesMax: number;
};

/**
 * How to come nearer to the bounds. What nobody can read goes first, poorest segments first; then the oldest history: of the apps that hold at least the average of
 * history, the one whose history reaches back furthest. So a busy app eats its own past and not that of the quiet ones. When the disk is full of history that no
 * whole segment holds, as after everything was deleted just now, the floor moves up through the last segments, half of what is left at a time.
 */
export function nextAction(apps: readonly AppUsage[], bounds: Bounds): Action {
  if (bounds.excessBytes <= 0) return { do: "nothing" };
  const waste = apps.reduce((sum, app) => sum + reclaimableBytesOf(app), 0);
  const gainRatioMin = waste > bounds.historyBytesMax * WASTE_RATIO_MAX ? GAIN_RATIO_LEAST : GAIN_RATIO;
  return (
    poorest(apps, gainRatioMin, bounds) ??
    oldestSegment(apps, bounds) ??
    poorest(apps, GAIN_RATIO_LEAST, bounds) ??
    oldestRecords(apps, bounds) ?? { do: "nothing" }
  );
}

/** Of apps whose history goes by a policy: what is worth cleaning though there is room. */
export function wasteAction(apps: readonly AppUsage[], bounds: Bounds): Action {
  return poorest(apps, GAIN_RATIO, bounds) ?? { do: "nothing" };
}

/** Bytes that cleaning the segment would give back, less what it writes itself. All of them, as long as nobody counted what is in use. */
export function gainOf({ bytes, use }: Pick<SegmentUsage, "bytes" | "use">): number {
  if (use === undefined) return bytes;
  return use.state === "damaged" ? 0 : Math.max(0, bytes - use.costBytes - CLEAN_COST_BYTES);
}

function poorest(apps: readonly AppUsage[], gainRatioMin: number, { copyBytesMax }: Bounds): Action | undefined {
  let best: Action | undefined;
  let bestRatio = gainRatioMin;
  for (const app of apps) {
    for (const segment of app.segments) {
      if (segment.place !== "below" || (segment.use?.liveBytes ?? 0) > copyBytesMax) continue;
      const ratio = gainOf(segment) / segment.bytes;
      if (ratio < bestRatio || (best !== undefined && ratio === bestRatio)) continue;
      bestRatio = ratio;
      best = { do: "clean", id: app.id, segment: segment.segment, lastLsn: segment.lastLsn, gainRatioMin };
    }
  }
  return best;
}

/** Passes as many segments of one app as hold the excess. */
function oldestSegment(apps: readonly AppUsage[], { excessBytes }: Bounds): Action | undefined {
  const chosen = oldest(apps.filter((app) => app.segments.some(({ place }) => place === "droppable")));
  if (chosen === undefined) return undefined;
  let passed = 0;
  let floor: Lsn | undefined;
  for (const segment of chosen.segments) {
    if (segment.place !== "droppable") continue;
    floor = segment.lastLsn;
    passed += segment.bytes;
    if (passed >= excessBytes) break;
  }
  return floor === undefined ? undefined : { do: "raise", id: chosen.id, floor };
}

function oldestRecords(apps: readonly AppUsage[], { shortBytes }: Bounds): Action | undefined {
  if (shortBytes <= 0) return undefined;
  const worth = apps.filter((app) => app.floorMax > app.floor && historyBytesOf(app) >= shortBytes * WORTH_RATIO);
  const chosen = oldest(worth);
  if (chosen === undefined) return undefined;
  const left = chosen.floorMax - chosen.floor;
  const step = left <= RECORDS_AT_ONCE ? left : Math.ceil(left / 2);
  return { do: "raise", id: chosen.id, floor: (chosen.floor + step) as Lsn };
}

/** Of the apps with at least the average of history the one whose history reaches back furthest. */
function oldest(apps: readonly AppUsage[]): AppUsage | undefined {
  const able = apps.filter((app) => historyBytesOf(app) > 0);
  const average = able.reduce((sum, app) => sum + historyBytesOf(app), 0) / Math.max(1, able.length);
  const holders = able.filter((app) => historyBytesOf(app) >= average);
  return holders.sort((left, right) => compareTimestamps(left.oldest, right.oldest))[0];
}
