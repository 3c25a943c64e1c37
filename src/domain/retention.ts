import type { Timestamp } from "../base/clock.ts";
import { TidemarkError } from "./errors.ts";

/**
 * How long the past is kept. Every moment of the last `continuousMs`; before that the moments at the turns of the last so many hours, days, ISO weeks, months and years (UTC). A turn's moment is the
 * state then, whatever happened around it; so nothing that is written later, a snapshot with a wrong date least of all, can push it out.
 */
export type RetentionPolicy = {
  /** Undefined: everything is kept for ever, and the counts mean nothing. */
  readonly continuousMs: number | undefined;
  readonly hourly: number;
  readonly daily: number;
  readonly weekly: number;
  readonly monthly: number;
  readonly yearly: number;
};

/** What an app has when nobody said anything: everything, until the bound of the disk says otherwise. */
export const KEEP_EVERYTHING: RetentionPolicy = {
  continuousMs: undefined,
  hourly: 0,
  daily: 0,
  weekly: 0,
  monthly: 0,
  yearly: 0,
};

/** Of each kind: more turns than this are no grid any more, and each costs rows. */
export const RETENTION_COUNT_MAX = 10_000;

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const WEEK_MS = 7 * DAY_MS;
/** The first Monday after the epoch, 1970-01-05. */
const MONDAY_MS = 4 * DAY_MS;

/** What a policy keeps, seen from `now`. */
export type KeptTimes = {
  /** Every moment from here on; undefined: from the beginning. */
  readonly continuousFrom: Timestamp | undefined;
  /** Turns before that, newest first, each once. */
  readonly turns: readonly Timestamp[];
};

/** Shorter continuous history than this is a slip of the pen. */
export const RETENTION_CONTINUOUS_MS_MIN = 60_000;

/** 1,000 years. */
export const RETENTION_CONTINUOUS_MS_MAX = 1000 * 366 * DAY_MS;

/** Refuses what is no policy: INVALID_ARGUMENT. */
export function checkPolicy(policy: RetentionPolicy): void {
  const { continuousMs, hourly, daily, weekly, monthly, yearly } = policy;
  for (const [name, count] of Object.entries({ hourly, daily, weekly, monthly, yearly })) {
    if (!Number.isSafeInteger(count) || count < 0 || count > RETENTION_COUNT_MAX)
      throw new TidemarkError(
        "INVALID_ARGUMENT",
        `${name} ${count}: expected a count from 0 to ${RETENTION_COUNT_MAX}`,
      );
  }
  if (continuousMs === undefined) return;
  if (!(continuousMs >= RETENTION_CONTINUOUS_MS_MIN && continuousMs <= RETENTION_CONTINUOUS_MS_MAX))
    throw new TidemarkError("INVALID_ARGUMENT", `continuous ${continuousMs} ms: expected from a minute to 1,000 years`);
}

/** Which times a policy keeps, seen from `now`. */
export function keptTimes(policy: RetentionPolicy, now: Timestamp): KeptTimes {
  const { continuousMs } = policy;
  if (continuousMs === undefined) return { continuousFrom: undefined, turns: [] };
  const nowMs = now.sec * 1000 + Math.floor(now.nsec / 1e6);
  const fromMs = nowMs - continuousMs;
  const turns = new Set<number>();
  for (const turn of [
    ...every(HOUR_MS, 0, policy.hourly, nowMs),
    ...every(DAY_MS, 0, policy.daily, nowMs),
    ...every(WEEK_MS, MONDAY_MS, policy.weekly, nowMs),
    ...months(1, policy.monthly, nowMs),
    ...months(12, policy.yearly, nowMs),
  ]) {
    if (turn < fromMs) turns.add(turn);
  }
  return {
    continuousFrom: timestampOf(fromMs),
    turns: [...turns].sort((left, right) => right - left).map(timestampOf),
  };
}

/** The last `count` turns of a period that began at `originMs`, at or before `nowMs`. */
function* every(periodMs: number, originMs: number, count: number, nowMs: number): Generator<number> {
  const last = Math.floor((nowMs - originMs) / periodMs) * periodMs + originMs;
  for (let index = 0; index < count; index++) yield last - index * periodMs;
}

/** The beginnings of the last `count` periods of `length` months each, which a year is divided into. */
function* months(length: number, count: number, nowMs: number): Generator<number> {
  const now = new Date(nowMs);
  const first = Math.floor(now.getUTCMonth() / length) * length;
  for (let index = 0; index < count; index++) yield Date.UTC(now.getUTCFullYear(), first - index * length, 1);
}

function timestampOf(ms: number): Timestamp {
  const sec = Math.floor(ms / 1000);
  return { sec, nsec: (ms - sec * 1000) * 1_000_000 };
}
