import { expect, test } from "vitest";
import { goodness } from "./row.ts";
import { median, summarize } from "./statistics.ts";

test("the median of an even number of values is the mean of the middle two", () => {
  expect(median([9, 1, 3, 5])).toBe(4);
  expect(median([10, 9, 100])).toBe(10);
  expect(() => median([])).toThrow(RangeError);
});

test("a summary leaves out what no sample knows and takes medians of what some know", () => {
  const summary = summarize([{ value: 2, p99Us: 30 }, { value: 8 }, { value: 3, p99Us: 10 }]);
  expect(summary).toEqual({ median: 3, min: 2, max: 8, sampleCount: 3, p99Us: 20 });
});

test("goodness is above 1 for what is better, in rates, in seconds and in memory", () => {
  expect(goodness("/s", 200, 100)).toBe(2);
  expect(goodness("s", 2, 4)).toBe(2);
  expect(goodness("MiB", 400, 100)).toBe(0.25);
});
