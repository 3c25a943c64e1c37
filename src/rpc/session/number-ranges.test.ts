import { expect, test } from "vitest";
import { Random } from "../../../test/model/random.ts";
import { NumberRanges } from "./number-ranges.ts";

test("holds what was added, in as few ranges as there can be", () => {
  const random = new Random(Math.floor(Math.random() * 2 ** 31));
  for (let run = 0; run < 50; run++) {
    const [ranges, plain] = [new NumberRanges(), new Set<number>()];
    for (let step = 0; step < 60; step++) {
      const from = 1 + random.below(80);
      const to = from + (random.oneIn(3) ? random.below(10) : 0);
      ranges.add(from, to);
      for (let number = from; number <= to; number++) plain.add(number);
      expect(ranges.count).toBe(plain.size);
      for (let number = 0; number < 95; number++) expect(ranges.has(number)).toBe(plain.has(number));
    }
    let dense = 0;
    while (plain.has(dense + 1)) dense++;
    expect(ranges.dense).toBe(dense);
    ranges.ranges.forEach(({ from }, index) => {
      expect(from).toBeGreaterThan((ranges.ranges[index - 1]?.to ?? -1) + 1);
    });
  }
});
