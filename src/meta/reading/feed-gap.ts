import { TidemarkError } from "../../domain/errors.ts";
import type { Lsn } from "../../domain/ids.ts";
import type { EngineCore } from "../core.ts";

/** The oldest moment from which all records to the present are there, with the names of their time. */
export function oldestFrom(core: EngineCore): Lsn {
  return Math.max(core.moments.floor, firstWithoutGap(core, core.lastLsn) - 1) as Lsn;
}

/** Whether every record of (from, to] is there. */
export function hasRecords(core: EngineCore, from: Lsn, to: Lsn): boolean {
  return from >= to || firstWithoutGap(core, to) <= from + 1;
}

/** The error of a reader that would have to go on after `from`. Its data are what it needs to begin again. */
export function feedGap(core: EngineCore, from: Lsn): TidemarkError {
  const oldest = oldestFrom(core);
  const last = core.lastLsn;
  const message =
    `the records after LSN ${from} are not all kept any more: the oldest moment to go on from is lsn:${oldest}. ` +
    `To begin again: read everything as of a moment (lsn:${last} is the present; a snapshot keeps one), then go on from that`;
  return new TidemarkError("OUT_OF_HISTORY", message, { data: { from: oldest, lsn: last, asked: from } });
}

/** The first of the records that are there without a gap up to `to`; `to` + 1 when that one itself is gone. */
function firstWithoutGap(core: EngineCore, to: Lsn): number {
  let first = to + 1;
  for (const range of core.recordRanges().reverse()) {
    if (range.from >= first) continue;
    if (range.to < first - 1) break;
    first = range.from;
  }
  return first;
}
