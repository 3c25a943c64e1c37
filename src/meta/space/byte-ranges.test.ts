import { expect, test } from "vitest";
import { Random } from "../../../test/model/random.ts";
import { ByteRanges } from "./byte-ranges.ts";

test("ranges added in any order are joined where they touch or overlap", () => {
  const ranges = new ByteRanges();
  for (const [from, to] of [
    [50, 60],
    [10, 20],
    [20, 30],
    [15, 18],
    [40, 40],
  ] as const)
    ranges.add(from, to);
  expect(ranges.ranges).toEqual([
    { from: 10, to: 30 },
    { from: 50, to: 60 },
  ]);
  expect(ranges.bytes).toBe(30);
  expect(ranges.within(25, 55)).toEqual([
    { from: 25, to: 30 },
    { from: 50, to: 55 },
  ]);
});

test("random ranges cover the same bytes as a plain set of them", () => {
  const seed = Number(process.env["SEED"] ?? 7);
  const random = new Random(seed);
  for (let round = 0; round < 200; round++) {
    const ranges = new ByteRanges();
    const bytes = new Set<number>();
    for (let count = 0; count < 12; count++) {
      const from = random.below(60);
      const to = from + random.below(12);
      ranges.add(from, to);
      for (let at = from; at < to; at++) bytes.add(at);
      if (random.oneIn(4)) expect(ranges.bytes, `SEED=${seed}`).toBe(bytes.size);
    }
    const [low, high] = [random.below(30), 30 + random.below(45)];
    const inside = ranges.within(low, high).reduce((sum, range) => sum + range.to - range.from, 0);
    expect(inside, `SEED=${seed}`).toBe([...bytes].filter((at) => at >= low && at < high).length);
  }
});
