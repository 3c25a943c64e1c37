import { expect, test } from "vitest";
import { decodePaxRecords, decodePaxTime, encodePaxRecord, encodePaxTime } from "./pax.ts";

test("a record's length counts its own digits, also where they become one more", () => {
  for (const length of [0, 1, 85, 90, 91, 92, 93, 94, 95, 985, 986, 987, 988, 989, 990, 9_990, 100_000]) {
    const record = encodePaxRecord("key", "v".repeat(length));
    expect(record.toString("latin1", 0, record.indexOf(" "))).toBe(String(record.length));
    expect(decodePaxRecords(record)?.[0]?.value.length).toBe(length);
  }
});

test("values are any bytes: newlines, zeros and what is no text", () => {
  const value = Buffer.from([0, 0x0a, 0x3d, 0xff, 0x20]);
  const header = Buffer.concat([encodePaxRecord("SCHILY.xattr.user.\xff", value), encodePaxRecord("path", "")]);
  expect(decodePaxRecords(header)).toEqual([
    { key: "SCHILY.xattr.user.\xff", value },
    { key: "path", value: Buffer.alloc(0) },
  ]);
});

test.each(["9 path=a", "11 path=a\n", "x path=a\n", "99999999999999 a=b\n", "4 =\n", "-5 a=b\n", "6  a=b\n"])(
  "a damaged record is told: %j",
  (text) => expect(decodePaxRecords(Buffer.from(text))).toBeUndefined(),
);

test.each([
  [{ sec: 0, nsec: 0 }, "0"],
  [{ sec: 1_600_000_000, nsec: 100_000_000 }, "1600000000.1"],
  [{ sec: -1, nsec: 750_000_000 }, "-0.25"],
  [{ sec: -2_051_124_955, nsec: 123_456_789 }, "-2051124954.876543211"],
  [{ sec: -5, nsec: 0 }, "-5"],
  [{ sec: 13_569_465_600, nsec: 1 }, "13569465600.000000001"],
])("the time %j is written %s, and read back", (time, text) => {
  expect(encodePaxTime(time)).toBe(text);
  expect(decodePaxTime(text)).toEqual(time);
});

test("digits below the nanosecond are cut off towards the past, and what is no time is told", () => {
  expect(decodePaxTime("1.1234567899")).toEqual({ sec: 1, nsec: 123_456_789 });
  expect(decodePaxTime("-1.0000000001")).toEqual({ sec: -2, nsec: 999_999_999 });
  for (const text of ["", "1e9", "-", ".5", "1.x", "9".repeat(16), "NaN"]) expect(decodePaxTime(text)).toBeUndefined();
});
