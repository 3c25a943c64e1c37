import { describe, expect, test } from "vitest";
import type { Clock, Timestamp } from "../../base/clock.ts";
import { memoryLog } from "../../base/log.ts";
import { TrustedTime } from "./trusted-time.ts";

const HOUR_MS = 3_600_000;
const START_SEC = 1_700_000_000;

/** A machine whose wall clock and monotonic clock are set apart from each other. */
class TwoClocks implements Clock {
  wallSec = START_SEC;
  ranMs = 0;

  now(): Timestamp {
    return { sec: this.wallSec, nsec: 0 };
  }

  monotonicMs(): number {
    return this.ranMs;
  }

  pass(ms: number): void {
    this.wallSec += ms / 1000;
    this.ranMs += ms;
  }
}

function machine(noted?: number) {
  const clock = new TwoClocks();
  const log = memoryLog();
  const time = new TrustedTime({ clock, log, noted: noted === undefined ? undefined : { sec: noted, nsec: 0 } });
  const alarms = () => log.lines.filter(({ level }) => level === "alarm").length;
  return { clock, time, alarms };
}

describe("the time that is trusted", () => {
  test("is the wall clock's while that goes as the monotonic one does, and when it steps back", () => {
    const { clock, time, alarms } = machine();
    for (let count = 0; count < 100; count++) {
      clock.pass(HOUR_MS);
      expect(time.now().sec).toBe(clock.wallSec);
    }
    clock.wallSec -= 86_400;
    expect(time.now().sec).toBe(clock.wallSec);
    expect(alarms()).toBe(0);
  });

  test("doesn't follow a clock that jumps ahead, with one alarm, until that has stayed for a day of running", () => {
    const { clock, time, alarms } = machine();
    clock.wallSec += 15 * 365 * 86_400;
    expect(time.now().sec).toBe(START_SEC);
    clock.pass(23 * HOUR_MS);
    expect(time.now().sec).toBe(START_SEC + 23 * 3600);
    expect(alarms()).toBe(1);
    clock.pass(HOUR_MS);
    expect(time.now().sec).toBe(clock.wallSec);
  });

  test("goes on when the clock was set right again", () => {
    const { clock, time } = machine();
    clock.wallSec += 86_400;
    time.now();
    clock.wallSec -= 86_400;
    clock.pass(48 * HOUR_MS);
    expect(time.now().sec).toBe(clock.wallSec);
  });

  test("after a start compares with what was noted: a night is no alarm, a year is", () => {
    const night = machine(START_SEC - 12 * 3600);
    expect(night.time.now().sec).toBe(START_SEC);
    expect(night.alarms()).toBe(0);
    const year = machine(START_SEC - 365 * 86_400);
    expect(year.time.now().sec).toBe(START_SEC - 365 * 86_400);
    expect(year.alarms()).toBe(1);
    year.time.believe();
    expect(year.time.now().sec).toBe(START_SEC);
  });
});
