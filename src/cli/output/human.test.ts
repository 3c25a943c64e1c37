import { expect, test } from "vitest";
import type { MountId } from "../../domain/ids.ts";
import { formatActor, formatBytes, formatCount, formatDuration, formatLocalTime, formatMode, plural } from "./human.ts";

test.each([
  [0, "0 B"],
  [1023, "1023 B"],
  [1024, "1.00 KiB"],
  [1536n, "1.50 KiB"],
  [100 * 1024, "100 KiB"],
  [10 * 1024 * 1024, "10.0 MiB"],
  [2n ** 63n - 1n, "8.00 EiB"],
])("%s bytes are %s", (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

test("counts have separators", () => {
  expect(formatCount(999)).toBe("999");
  expect(formatCount(1_234_567n)).toBe("1,234,567");
  expect(plural(1, "file")).toBe("1 file");
  expect(plural(2000, "entry", "entries")).toBe("2,000 entries");
});

test.each([
  [0o100644, "-rw-r--r--"],
  [0o040755, "drwxr-xr-x"],
  [0o120777, "lrwxrwxrwx"],
  [0o104711, "-rws--x--x"],
  [0o102644, "-rw-r-Sr--"],
  [0o041777, "drwxrwxrwt"],
  [0o041776, "drwxrwxrwT"],
  [0o010600, "prw-------"],
  [0o140600, "srw-------"],
  [0o020666, "crw-rw-rw-"],
  [0o060660, "brw-rw----"],
])("mode %o is %s", (mode, text) => {
  expect(formatMode(mode)).toBe(text);
});

test.each([
  [0, "0s"],
  [59, "59s"],
  [60, "1m"],
  [3725, "1h 2m"],
  [86_400 * 3 + 5, "3d"],
])("%d seconds are %s", (seconds, text) => {
  expect(formatDuration(seconds)).toBe(text);
});

test("local time is that of the zone at that time", () => {
  const time = { sec: Date.parse("2026-11-20T23:30:00Z") / 1000, nsec: 5_999_999 };
  expect(formatLocalTime(time, () => 3600)).toBe("2026-11-21 00:30:00.005");
  expect(formatLocalTime({ sec: 2 ** 52, nsec: 0 }, () => 0)).toBe(`@${2 ** 52}`);
});

test("an actor is the process behind the mount, or the door", () => {
  const actor = { uid: 1000, gid: 1000, pid: 7, label: "" };
  expect(formatActor({ ...actor, mountId: 3 as MountId })).toBe("uid 1000 pid 7");
  expect(formatActor({ ...actor, mountId: 0 as MountId, label: "cli restore" })).toBe("cli restore");
  expect(formatActor({ ...actor, mountId: 0 as MountId })).toBe("service");
});
