import { compareTimestamps, type Timestamp } from "../../base/clock.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { Lsn } from "../../domain/ids.ts";
import type { MomentRef, ResolvedMoment } from "../../domain/moment.ts";
import { decodeTimeKey, type EngineCore } from "../core.ts";
import { plainKey, prefixEnd, TABLE, timeKey } from "../keys.ts";
import { decodeLsn } from "../rows.ts";
import { outOfHistory } from "../space/moments.ts";
import { recordAt } from "./records.ts";
import { findSnapshot } from "./snapshot-rows.ts";

/** Clock eras looked through for an ambiguous time, newest first: each is a step backwards of the machine's clock. */
const ERAS_SEARCHED_MAX = 1000;

/** Seconds of any record are within this: 2^53 nanoseconds do not matter, the index holds seconds as i64. */
const SECONDS_MIN = -(2 ** 53) + 1;

/**
 * What a moment means in this journal. A time: the last LSN at or before it, in the newest clock era that contains it; before the first record it is LSN 0.
 * Throws NOT_FOUND (no such snapshot, an LSN past the end), OUT_OF_HISTORY (below the floor, and not kept).
 */
export async function resolveMoment(core: EngineCore, at: MomentRef, floor: Lsn = 0 as Lsn): Promise<ResolvedMoment> {
  const found = await find(core, at);
  const oldest = Math.max(floor, core.moments.floor) as Lsn;
  if (found.lsn < oldest && !core.moments.kept.has(found.lsn)) throw outOfHistory(found.lsn, oldest);
  const time = await timeOfLsn(core, found.lsn);
  return time === undefined ? found : { ...found, time };
}

async function find(core: EngineCore, at: MomentRef): Promise<ResolvedMoment> {
  switch (at.kind) {
    case "now":
      return { lsn: core.lastLsn, ambiguous: false };
    case "lsn":
      if (!Number.isSafeInteger(at.lsn) || at.lsn < 0)
        throw new TidemarkError("INVALID_ARGUMENT", `${at.lsn} is not an LSN`);
      if (at.lsn > core.lastLsn)
        throw new TidemarkError("NOT_FOUND", `there is no LSN ${at.lsn}: the journal ends with ${core.lastLsn}`);
      return { lsn: at.lsn, ambiguous: false };
    case "snapshot":
      return { lsn: findSnapshot(core, at.name).lsn, ambiguous: false };
    case "time":
      if (!isTime(at.time))
        throw new TidemarkError("INVALID_ARGUMENT", `${at.time.sec} s, ${at.time.nsec} ns is not a time`);
      return lsnOfTime(core, at.time);
  }
}

function isTime({ sec, nsec }: Timestamp): boolean {
  return Number.isSafeInteger(sec) && Number.isInteger(nsec) && nsec >= 0 && nsec < 1e9;
}

/** Wall time of the record `lsn`; undefined for 0. A record that is not kept any more, or can't be had now, has the time of the index: at most a few milliseconds before. */
export async function timeOfLsn(core: EngineCore, lsn: Lsn): Promise<Timestamp | undefined> {
  if (lsn === 0) return undefined;
  if (lsn === core.lastLsn && core.lastTime !== undefined) return core.lastTime;
  try {
    return (await recordAt(core, lsn)).time;
  } catch (error) {
    if (!(error instanceof TidemarkError)) throw error;
    if (error.code !== "OUT_OF_HISTORY" && error.code !== "UNAVAILABLE") throw error;
    return indexedTime(core, lsn);
  }
}

type IndexRow = { readonly era: number; readonly time: Timestamp; readonly lsn: Lsn };

async function lsnOfTime(core: EngineCore, time: Timestamp): Promise<ResolvedMoment> {
  for (let era = core.era; era >= 0; era--) {
    const row = lastIndexed(core, era, time);
    if (row === undefined) continue;
    const lsn = await lastAtOrBefore(core, row, time);
    return { lsn, ambiguous: await olderEraContains(core, era - 1, time) };
  }
  return { lsn: 0 as Lsn, ambiguous: false };
}

/** The newest index row of `era` at or before `time`. */
function lastIndexed(core: EngineCore, era: number, time: Timestamp): IndexRow | undefined {
  const gte = timeKey(era, SECONDS_MIN, 0);
  // One nanosecond more, so that the bound includes `time`.
  const lt = time.nsec === 999_999_999 ? timeKey(era, time.sec + 1, 0) : timeKey(era, time.sec, time.nsec + 1);
  return indexRow(core.store.range({ gte, lt, reverse: true, limit: 1 })[0]);
}

function nextIndexed(core: EngineCore, row: IndexRow): IndexRow | undefined {
  const gte = timeKey(row.era, row.time.sec, row.time.nsec + 1);
  return indexRow(core.store.range({ gte, lt: prefixEnd(plainKey(TABLE.TIME)), limit: 1 })[0]);
}

function indexRow(row: { key: Buffer; value: Buffer } | undefined): IndexRow | undefined {
  return row === undefined ? undefined : { ...decodeTimeKey(row.key), lsn: decodeLsn(row.value) };
}

/** The last record of the row's era at or before `time`: from the index row on, by reading. */
async function lastAtOrBefore(core: EngineCore, row: IndexRow, time: Timestamp): Promise<Lsn> {
  const last = lastOfStep(core, row);
  if (last === row.lsn) return last;
  let found = row.lsn;
  try {
    for await (const record of core.records((row.lsn + 1) as Lsn, last)) {
      if (compareTimestamps(record.time, time) > 0) break;
      found = record.lsn;
    }
  } catch (error) {
    // Its records are gone, its rows are not: the index alone is exact to its step.
    if (!(error instanceof TidemarkError) || error.code !== "OUT_OF_HISTORY") throw error;
  }
  return found;
}

/** The last record before the next index row, of whatever era. */
function lastOfStep(core: EngineCore, row: IndexRow): Lsn {
  const next = nextIndexed(core, row);
  return next === undefined ? core.lastLsn : ((next.lsn - 1) as Lsn);
}

async function olderEraContains(core: EngineCore, newest: number, time: Timestamp): Promise<boolean> {
  for (let era = newest; era >= 0 && newest - era < ERAS_SEARCHED_MAX; era--) {
    const row = lastIndexed(core, era, time);
    if (row === undefined) continue;
    const next = nextIndexed(core, row);
    if (next?.era === era) return true;
    // The era's last step: its last record decides.
    const end = await timeOfLsn(core, lastOfStep(core, row));
    if (end !== undefined && compareTimestamps(time, end) <= 0) return true;
  }
  return false;
}

/** The time of the index at or before `lsn`, to a second. Times rise with LSNs inside an era only, so: the era first, then bisection of its seconds. */
function indexedTime(core: EngineCore, lsn: Lsn): Timestamp | undefined {
  for (let era = core.era; era >= 0; era--) {
    const range = { gte: timeKey(era, SECONDS_MIN, 0), lt: timeKey(era + 1, SECONDS_MIN, 0), limit: 1 };
    const first = indexRow(core.store.range(range)[0]);
    const last = indexRow(core.store.range({ ...range, reverse: true })[0]);
    if (first === undefined || last === undefined || first.lsn > lsn) continue;
    let found = first;
    let low = first.time.sec;
    let high = last.time.sec;
    while (low <= high) {
      const middle = low + Math.floor((high - low) / 2);
      const row = lastIndexed(core, era, { sec: middle, nsec: 999_999_999 });
      if (row === undefined || row.lsn > lsn) {
        high = middle - 1;
        continue;
      }
      found = row;
      low = middle + 1;
    }
    return found.time;
  }
  return undefined;
}
