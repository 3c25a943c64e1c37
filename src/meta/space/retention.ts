import { compareTimestamps, type Timestamp } from "../../base/clock.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { Lsn } from "../../domain/ids.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import { keptTimes, type RetentionPolicy } from "../../domain/retention.ts";
import type { OpenApp } from "../open-app.ts";
import { resolveMoment, timeOfLsn } from "../reading/time.ts";
import type { Work } from "../reading/work.ts";
import type { AppSpace } from "./app-space.ts";
import { Collector } from "./collector.ts";
import { type GridRow, gridKey, gridRows, gridValue } from "./grid.ts";
import { raiseFloor } from "./raise-floor.ts";
import { releasePins } from "./release-pins.ts";
import { SpaceBatch } from "./space-batch.ts";

/** A floor that moves less than this is looked at: raising it for the keeper's own records alone would make new ones for ever. */
const RECORDS_LOOKED_AT = 64;

/** What a policy comes to, seen from one moment. */
export type RetentionPlan = {
  /** The floor there would be: the one there is, or a later one. */
  readonly floor: Lsn;
  /** When the floor's state began; undefined: the beginning. */
  readonly floorTime: Timestamp | undefined;
  /** Rows that the raised floor makes. */
  readonly added: readonly GridRow[];
  /** Rows whose turn the policy has no room for any more. */
  readonly removed: readonly GridRow[];
  /** All turns kept below the floor then, oldest first. */
  readonly kept: readonly GridRow[];
};

export type RetentionOptions = {
  readonly policy: RetentionPolicy;
  readonly now: Timestamp;
  /** What a repository still has to receive, or another bound. */
  readonly floorMax: Lsn;
};

/** What the policy would do to the app now. Reads only. Throws as `resolveMoment`. */
export async function planRetention(app: OpenApp, options: RetentionOptions): Promise<RetentionPlan> {
  const { core, store } = app;
  const before = core.moments.floor;
  const there = gridRows(store);
  const { continuousFrom, turns } = keptTimes(options.policy, options.now);
  const unchanged = { floor: before, floorTime: await timeOfLsn(core, before), added: [], removed: [], kept: there };
  if (continuousFrom === undefined) return unchanged;
  const wanted = await lsnAt(app, continuousFrom);
  const floor = Math.max(before, Math.min(wanted ?? 0, options.floorMax)) as Lsn;
  const known = new Set(there.map(({ turn }) => turn.sec));
  const added: GridRow[] = [];
  for (const turn of turns) {
    const lsn = known.has(turn.sec) ? undefined : await lsnAt(app, turn);
    if (lsn !== undefined && lsn > 0 && lsn < floor) added.push({ turn, lsn });
  }
  const wantedTurns = new Set(turns.map(({ sec }) => sec));
  const removed = there.filter(({ turn }) => !wantedTurns.has(turn.sec));
  const stays = there.filter(({ turn }) => wantedTurns.has(turn.sec));
  const kept = [...stays, ...added].sort((left, right) => compareTimestamps(left.turn, right.turn));
  return { floor, floorTime: await timeOfLsn(core, floor), added, removed, kept };
}

/**
 * Applies a policy: rows whose turn has no room go, with what only they kept; then the floor rises, with rows for the turns that it passes, and what nobody can read any more goes. Safe to be cut short and to be
 * done again. Answers whether anything changed. Throws DATA_DAMAGED, FsError when no record can be written, CANCELLED.
 */
export async function applyRetention(space: AppSpace, options: RetentionOptions, work: Work): Promise<boolean> {
  const { app } = space;
  const plan = await planRetention(app, options);
  if (plan.removed.length > 0) await releaseGrid(space, plan.removed, work);
  const rises = plan.floor > space.floor.floor && (await isWorthRaising(app, space.floor.floor, plan.floor));
  if (rises) {
    await raiseFloor(
      space,
      plan.floor,
      plan.added.map((row) => ({ key: gridKey(row.turn), value: gridValue(row) })),
    );
    await new Collector(space, work).run();
  }
  return rises || plan.removed.length > 0;
}

/** Drops rows of the grid, and what was there only for them. */
export async function releaseGrid(space: AppSpace, rows: readonly GridRow[], work: Work): Promise<void> {
  const batch = new SpaceBatch(space);
  for (const { turn } of rows) {
    batch.row(gridKey(turn), null);
    if (batch.isFull) batch.commit({ turns: rows.length });
  }
  batch.commit({ turns: rows.length });
  space.app.core.moments.refresh();
  await releasePins(space, work);
}

/** The moment that was the present at a time; undefined: it is not kept any more. */
async function lsnAt({ core }: OpenApp, time: Timestamp): Promise<Lsn | undefined> {
  try {
    return (await resolveMoment(core, { kind: "time", time })).lsn;
  } catch (error) {
    if (error instanceof TidemarkError && error.code === "OUT_OF_HISTORY") return undefined;
    throw error;
  }
}

async function isWorthRaising({ core }: OpenApp, from: Lsn, to: Lsn): Promise<boolean> {
  if (to - from > RECORDS_LOOKED_AT) return true;
  for await (const { op } of core.records((from + 1) as Lsn, to))
    if (op !== RECORD_OP.SPACE && op !== RECORD_OP.RELOCATE) return true;
  return false;
}
