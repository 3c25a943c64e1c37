import { describe, expect, test } from "vitest";
import { ExtentList } from "./extent-list.ts";
import type { Extent } from "./rows.ts";

const SPAN = 200;

/** A repeatable sequence of numbers below `below` (Lehmer's generator). */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state * 48_271) % 2_147_483_647;
    return state % below;
  };
}

function extent(start: number, length: number, segment: number): Extent {
  return { start, length, segment, dataStart: 1000 * segment, dataLength: length, skip: 0 };
}

/** What each byte of the chunk shows: segment and position in it, or a hole. */
function bytesOf(list: ExtentList): string[] {
  const bytes: string[] = [];
  for (const run of list.runs(0, SPAN)) {
    for (let at = 0; at < run.length; at++) bytes.push(run.segment === 0 ? "." : `${run.segment}+${run.skip + at}`);
  }
  return bytes;
}

describe("an extent list", () => {
  test.each([1, 2, 3, 4, 5, 6, 7, 8])("shows the newest of overlapping writes and cuts (seed %i)", (seed) => {
    const next = numbers(seed);
    const list = new ExtentList();
    const plain: string[] = new Array(SPAN).fill(".");
    for (let step = 1; step <= 300; step++) {
      const from = next(SPAN);
      const length = 1 + next(Math.min(40, SPAN - from));
      if (next(4) === 0) {
        list.cut(from, from + length);
        plain.fill(".", from, from + length);
      } else {
        list.insert(extent(from, length, step));
        for (let at = 0; at < length; at++) plain[from + at] = `${step}+${at}`;
      }
      expect(bytesOf(list)).toEqual(plain);
      expectOrdered(list);
    }
  });

  test("answers runs that together are exactly the asked range", () => {
    const list = new ExtentList([extent(10, 5, 1), extent(20, 5, 2)]);
    const runs = list.runs(12, 30);
    expect(runs.map(({ start, length, segment, skip }) => [start, length, segment, skip])).toEqual([
      [12, 3, 1, 2],
      [15, 5, 0, 0],
      [20, 5, 2, 0],
      [25, 5, 0, 0],
    ]);
  });

  test("an inserted hole only takes away", () => {
    const list = new ExtentList([extent(0, 10, 1)]);
    list.insert({ start: 3, length: 4, segment: 0, dataStart: 0, dataLength: 0, skip: 0 });
    expect(list.extents.map(({ start, length, skip }) => [start, length, skip])).toEqual([
      [0, 3, 0],
      [7, 3, 7],
    ]);
  });
});

function expectOrdered(list: ExtentList): void {
  let end = 0;
  for (const { start, length, segment } of list.extents) {
    expect(start).toBeGreaterThanOrEqual(end);
    expect(length).toBeGreaterThan(0);
    expect(segment).not.toBe(0);
    end = start + length;
  }
}
