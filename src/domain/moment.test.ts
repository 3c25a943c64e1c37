import { expect, test } from "vitest";
import { TidemarkError } from "./errors.ts";
import { formatMoment, formatUtcTime, parseMoment, parseUtcTime } from "./moment.ts";

const utc = (text: string): number => Date.parse(text) / 1000;

/** 2026-11-20 12:00:00.25 UTC. */
const NOW = { sec: utc("2026-11-20T12:00:00Z"), nsec: 250_000_000 };

/** Central European time of 2026: summer time from March 29 01:00 UTC to October 25 01:00 UTC. */
const berlin = (sec: number): number =>
  sec >= utc("2026-03-29T01:00:00Z") && sec < utc("2026-10-25T01:00:00Z") ? 7200 : 3600;

const parse = (text: string) => parseMoment(text, { now: NOW, zone: berlin });
const timeOf = (text: string): string => formatMoment(parse(text).moment);

test.each([
  ["10m ago", "2026-11-20T11:50:00.250Z"],
  ["10 minutes ago", "2026-11-20T11:50:00.250Z"],
  ["1h30m ago", "2026-11-20T10:30:00.250Z"],
  ["1 hour 30 min ago", "2026-11-20T10:30:00.250Z"],
  ["2 days ago", "2026-11-18T12:00:00.250Z"],
  ["1w ago", "2026-11-13T12:00:00.250Z"],
  ["0s ago", "2026-11-20T12:00:00.250Z"],
  ["yesterday 14:00", "2026-11-19T13:00:00Z"],
  ["yesterday at 14:00:30", "2026-11-19T13:00:30Z"],
  ["today 9:30", "2026-11-20T08:30:00Z"],
  ["14:00", "2026-11-20T13:00:00Z"],
  ["2026-11-20", "2026-11-19T23:00:00Z"],
  ["2026-11-20T10:00", "2026-11-20T09:00:00Z"],
  ["2026-11-20 10:00:01", "2026-11-20T09:00:01Z"],
  ["2026-11-20T10:00:01.5", "2026-11-20T09:00:01.500Z"],
  ["2026-11-20T10:00:01.123456789Z", "2026-11-20T10:00:01.123456789Z"],
  ["2026-11-20T10:00Z", "2026-11-20T10:00:00Z"],
  ["2026-11-20T10:00-05:30", "2026-11-20T15:30:00Z"],
  ["2026-11-20T10:00+0200", "2026-11-20T08:00:00Z"],
  ["2026-07-01T10:00", "2026-07-01T08:00:00Z"],
  ["2024-02-29T00:00Z", "2024-02-29T00:00:00Z"],
])("%s is %s", (text, expected) => {
  expect(timeOf(text)).toBe(expected);
});

test("now, LSNs and snapshots are left to the service", () => {
  expect(parse(" now ").moment).toEqual({ kind: "now" });
  expect(parse("lsn:1842").moment).toEqual({ kind: "lsn", lsn: 1842 });
  expect(parse("snap:now").moment).toEqual({ kind: "snapshot", name: "now" });
  expect(parse("before-upgrade").moment).toEqual({ kind: "snapshot", name: "before-upgrade" });
});

test("a local time that occurs twice is the first, with a note that names the second", () => {
  const parsed = parse("2026-10-25T02:30");
  expect(formatMoment(parsed.moment)).toBe("2026-10-25T00:30:00Z");
  expect(parsed.note).toContain("2026-10-25T01:30:00Z");
});

test("a local time that the clocks skipped counts on from before, with a note", () => {
  const parsed = parse("2026-03-29T02:30");
  expect(formatMoment(parsed.moment)).toBe("2026-03-29T01:30:00Z");
  expect(parsed.note).toContain("skipped");
});

test("an hour that occurs once has no note", () => {
  expect(parse("2026-10-25T01:30").note).toBeUndefined();
  expect(parse("2026-10-25T03:30").note).toBeUndefined();
});

test.each([
  ["", "expected one of"],
  ["3 months ago", "is not a unit"],
  ["2026-02-30", "no such day"],
  ["2026-13-01T10:00", "no such day"],
  ["2026-11-20T25:00", "time of day"],
  ["25:00", "time of day"],
  ["yesterday", "at what time"],
  ["lsn:-1", "a position in the journal"],
  ["lsn:99999999999999999", "a position in the journal"],
  ["snap:1st", "is not a valid snapshot name"],
  ["last tuesday", "expected one of"],
  ["99999999999w ago", "10,000 years"],
])("%s is refused with what was expected", (text, message) => {
  expect(() => parse(text)).toThrow(TidemarkError);
  expect(() => parse(text)).toThrow(message);
});

test("inside a share a time without zone is UTC", () => {
  expect(parseUtcTime("2026-11-20T10:00:00Z")).toEqual({ sec: utc("2026-11-20T10:00:00Z"), nsec: 0 });
  expect(parseUtcTime("2026-11-20T10:00")).toEqual({ sec: utc("2026-11-20T10:00:00Z"), nsec: 0 });
  expect(parseUtcTime("before-upgrade")).toBeUndefined();
});

test("a written time is read back exactly", () => {
  for (const time of [NOW, { sec: -1, nsec: 1 }, { sec: 0, nsec: 0 }, { sec: 253_402_300_799, nsec: 999_999_999 }]) {
    expect(parseUtcTime(formatUtcTime(time))).toEqual(time);
  }
});

test("a time outside the calendar is written as seconds", () => {
  expect(formatUtcTime({ sec: 2 ** 50, nsec: 0 })).toBe(`@${2 ** 50}`);
});
