import { expect, test } from "vitest";
import { ManualTimers, SystemTimers } from "./timers.ts";

test("manual timers end in order of time, and not when they were cancelled", () => {
  const timers = new ManualTimers();
  const ended: string[] = [];
  timers.after(20, () => ended.push("b"));
  timers.after(10, () => {
    ended.push("a");
    timers.after(5, () => ended.push("a2"));
  });
  const cancel = timers.after(15, () => ended.push("never"));
  cancel();
  timers.advance(9);
  expect([ended, timers.pendingCount]).toEqual([[], 2]);
  timers.advance(100);
  expect([ended, timers.pendingCount]).toEqual([["a", "a2", "b"], 0]);
});

test("system timers end, and not when they were cancelled", async () => {
  const timers = new SystemTimers();
  const ended: string[] = [];
  timers.after(0, () => ended.push("never"))();
  timers.after(0, () => ended.push("a"));
  await timers.wait(5);
  expect(ended).toEqual(["a"]);
});
