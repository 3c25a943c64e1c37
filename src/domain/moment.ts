import type { Timestamp } from "../base/clock.ts";
import { TidemarkError } from "./errors.ts";
import { type Lsn, lsn } from "./ids.ts";
import { checkObjectName, isSnapshotName } from "./names.ts";

/** A moment as a request names it: people's words are resolved before (by the CLI, in its zone), LSNs and snapshots by the service. */
export type MomentRef =
  | { readonly kind: "now" }
  /** The last LSN at or before `time`. */
  | { readonly kind: "time"; readonly time: Timestamp }
  | { readonly kind: "lsn"; readonly lsn: Lsn }
  | { readonly kind: "snapshot"; readonly name: string };

/** What the service made of a moment in one app's journal. */
export type ResolvedMoment = {
  /** The state after this record is meant; 0 = before the first. */
  readonly lsn: Lsn;
  /** The wall time of that record. Absent for LSN 0. */
  readonly time?: Timestamp;
  /** The clock stood at the asked time more than once (it was stepped back): the newest era was taken. */
  readonly ambiguous: boolean;
};

/** Seconds to add to UTC to get local time at the UTC instant `utcSec`. */
export type ZoneOffset = (utcSec: number) => number;

/** What a text means, and what the person should be told about it (a local time that the clocks showed twice, or never). */
export type ParsedMoment = { readonly moment: MomentRef; readonly note?: string };

/** The grammar, for help texts. */
export const MOMENT_GRAMMAR =
  "now, '10m ago', '1h30m ago', '2 days ago', 'yesterday 14:00', 'today 9:30', 14:00, 2026-11-20T10:00[:00[.5]][Z|+02:00], lsn:N, snap:NAME or a snapshot's name";

/**
 * Parses a moment as people write it (MOMENT_GRAMMAR). A time without a zone is local by `zone`; ago, today and yesterday count from `now`.
 * A local time that occurs twice is the earlier one and one that is skipped is counted on from before the gap, each with a note. Throws INVALID_ARGUMENT.
 */
export function parseMoment(text: string, options: { now: Timestamp; zone: ZoneOffset }): ParsedMoment {
  const words = text.trim().replace(/\s+/g, " ");
  if (words.toLowerCase() === "now") return { moment: { kind: "now" } };
  if (words.startsWith("lsn:")) return { moment: { kind: "lsn", lsn: parseLsn(words.slice(4)) } };
  if (words.startsWith("snap:"))
    return { moment: { kind: "snapshot", name: checkObjectName("snapshot", words.slice(5)) } };
  const ago = parseAgo(words, options.now);
  if (ago !== undefined) return { moment: { kind: "time", time: ago } };
  const local = parseAbsolute(words) ?? parseDayAndTime(words, options);
  if (local !== undefined) return toTime(local, options.zone);
  if (words.toLowerCase() === "today" || words.toLowerCase() === "yesterday") {
    throw invalid(text, `say at what time: '${words.toLowerCase()} 14:00'`);
  }
  if (isSnapshotName(words)) return { moment: { kind: "snapshot", name: words } };
  throw invalid(text, `expected one of: ${MOMENT_GRAMMAR}`);
}

/**
 * Parses an absolute time as it is written inside a share (`.tidemark/2026-11-20T10:00:00Z`): date and time of day, UTC unless it names a zone.
 * Answers undefined when `text` is not one.
 */
export function parseUtcTime(text: string): Timestamp | undefined {
  const local = parseAbsolute(text);
  if (local === undefined) return undefined;
  return { sec: local.sec - (local.offsetSec ?? 0), nsec: local.nsec };
}

/** ISO 8601 in UTC, with as many digits after the second as are needed (none, 3, 6 or 9), which `parseUtcTime` reads back exactly for the years 0 to 9999. */
export function formatUtcTime(time: Timestamp): string {
  const date = new Date(time.sec * 1000);
  if (Number.isNaN(date.getTime())) return `@${time.sec}`;
  const seconds = date.toISOString().replace(/\.\d+Z$/, "");
  if (time.nsec === 0) return `${seconds}Z`;
  const digits = String(time.nsec).padStart(9, "0");
  return `${seconds}.${digits.replace(/^(\d{3}|\d{6})0+$/, "$1")}Z`;
}

/** A moment for people: `now`, `lsn:N`, `snap:NAME` or the UTC time. */
export function formatMoment(moment: MomentRef): string {
  switch (moment.kind) {
    case "now":
      return "now";
    case "lsn":
      return `lsn:${moment.lsn}`;
    case "snapshot":
      return `snap:${moment.name}`;
    case "time":
      return formatUtcTime(moment.time);
  }
}

/** A time as written: seconds since 1970 as if it were UTC, and the offset it names itself, if any. */
type WrittenTime = { readonly sec: number; readonly nsec: number; readonly offsetSec?: number };

/** Seconds in each unit of "N unit ago". A month or a year is none: they have no fixed length. */
const UNIT_SECONDS = new Map<string, number>([
  ...["s", "sec", "secs", "second", "seconds"].map((unit): [string, number] => [unit, 1]),
  ...["m", "min", "mins", "minute", "minutes"].map((unit): [string, number] => [unit, 60]),
  ...["h", "hour", "hours"].map((unit): [string, number] => [unit, 3600]),
  ...["d", "day", "days"].map((unit): [string, number] => [unit, 86_400]),
  ...["w", "week", "weeks"].map((unit): [string, number] => [unit, 604_800]),
]);

/** "10m ago" may not reach back further than 10 millennia: beyond, it is a slip of the finger, and dates have no written form. */
const AGO_SECONDS_MAX = 10_000 * 366 * 86_400;

function parseAgo(words: string, now: Timestamp): Timestamp | undefined {
  const span = /^(.*\S) ?ago$/i.exec(words)?.[1];
  if (span === undefined || !/^(\d+ ?[a-z]+ ?)+$/i.test(span)) return undefined;
  let seconds = 0;
  for (const part of span.matchAll(/(\d+) ?([a-z]+)/gi)) {
    const unit = UNIT_SECONDS.get((part[2] ?? "").toLowerCase());
    if (unit === undefined)
      throw invalid(words, `"${part[2]}" is not a unit: expected s, m, h, d or w (seconds to weeks)`);
    seconds += Number(part[1]) * unit;
  }
  if (seconds > AGO_SECONDS_MAX) throw invalid(words, "that is more than 10,000 years ago");
  return { sec: now.sec - seconds, nsec: now.nsec };
}

const ABSOLUTE =
  /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)? ?(Z|UTC|[+-]\d\d(?::?\d\d)?)?)?$/i;

function parseAbsolute(words: string): WrittenTime | undefined {
  const match = ABSOLUTE.exec(words);
  if (match === null) return undefined;
  const [, year = "", month = "", day = "", hour = "0", minute = "0", second = "0", fraction = "", zone] = match;
  const midnight = daySeconds(words, Number(year), Number(month), Number(day));
  const sec = midnight + timeOfDay(words, Number(hour), Number(minute), Number(second));
  const nsec = Number(fraction.padEnd(9, "0"));
  return zone === undefined ? { sec, nsec } : { sec, nsec, offsetSec: parseZone(words, zone) };
}

function parseDayAndTime(words: string, options: { now: Timestamp; zone: ZoneOffset }): WrittenTime | undefined {
  const match = /^(?:(today|yesterday) (?:at )?)?(\d{1,2}):(\d\d)(?::(\d\d))?$/i.exec(words);
  if (match === null) return undefined;
  const [, day = "today", hour = "", minute = "", second = "0"] = match;
  const localNow = options.now.sec + options.zone(options.now.sec);
  const daysBack = day.toLowerCase() === "yesterday" ? 1 : 0;
  const midnight = (Math.floor(localNow / 86_400) - daysBack) * 86_400;
  return { sec: midnight + timeOfDay(words, Number(hour), Number(minute), Number(second)), nsec: 0 };
}

function daySeconds(words: string, year: number, month: number, day: number): number {
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  if (date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day) {
    throw invalid(words, "there is no such day in the calendar: expected YYYY-MM-DD");
  }
  return date.getTime() / 1000;
}

function timeOfDay(words: string, hour: number, minute: number, second: number): number {
  if (hour > 23 || minute > 59 || second > 59) throw invalid(words, "expected a time of day from 00:00:00 to 23:59:59");
  return hour * 3600 + minute * 60 + second;
}

function parseZone(words: string, zone: string): number {
  if (/^(Z|UTC)$/i.test(zone)) return 0;
  const hours = Number(zone.slice(1, 3));
  const minutes = Number(zone.slice(3).replace(":", "") || "0");
  if (hours > 23 || minutes > 59) throw invalid(words, `"${zone}" is not an offset from UTC: expected Z or +HH:MM`);
  return (zone.startsWith("-") ? -1 : 1) * (hours * 3600 + minutes * 60);
}

/** Local time to UTC. The offsets a day before and after bracket any change of the zone's clocks. */
function toTime(local: WrittenTime, zone: ZoneOffset): ParsedMoment {
  const { sec, nsec, offsetSec } = local;
  if (offsetSec !== undefined) return { moment: { kind: "time", time: { sec: sec - offsetSec, nsec } } };
  const before = zone(sec - 86_400);
  const after = zone(sec + 86_400);
  const candidates = [sec - before, sec - after].filter((utc) => utc + zone(utc) === sec);
  const [first, second] = candidates;
  if (first === undefined) {
    const note = "the clocks skipped that time; it was counted on from before the change";
    return { moment: { kind: "time", time: { sec: sec - before, nsec } }, note };
  }
  const time = { sec: Math.min(...candidates), nsec };
  if (second === undefined || second === first) return { moment: { kind: "time", time } };
  const note = `the clocks showed that time twice; the first was taken, write ${formatUtcTime({ sec: Math.max(...candidates), nsec })} for the second`;
  return { moment: { kind: "time", time }, note };
}

function parseLsn(digits: string): Lsn {
  const value = Number(digits);
  if (/^\d{1,16}$/.test(digits) && Number.isSafeInteger(value)) return lsn(value);
  throw invalid(`lsn:${digits}`, "expected lsn: and a position in the journal, as `tidemark log` shows it");
}

function invalid(text: string, what: string): TidemarkError {
  return new TidemarkError("INVALID_ARGUMENT", `"${text}" is not a moment: ${what}`);
}
