import { expect, test } from "vitest";
import type { Lsn } from "../../domain/ids.ts";
import type { EngineCore, RecordRange } from "../core.ts";
import { feedGap, hasRecords, oldestFrom } from "./feed-gap.ts";

/** A core whose journal has only these records. */
function coreWith(ranges: readonly (readonly [number, number])[], floor = 0): EngineCore {
  const kept = ranges.map(([from, to]) => ({ from: from as Lsn, to: to as Lsn }));
  const lastLsn = kept.at(-1)?.to ?? 0;
  const core = { lastLsn, moments: { floor }, recordRanges: (): RecordRange[] => [...kept] };
  return core as unknown as EngineCore;
}

test("a segment that went between others ends what can be gone on from, not what lies before it", () => {
  const core = coreWith([
    [1, 10],
    [11, 20],
    [31, 40],
    [41, 50],
  ]);
  expect(oldestFrom(core)).toBe(30);
  const spans: [number, number][] = [
    [0, 20],
    [5, 10],
    [30, 50],
    [35, 35],
    [50, 50],
  ];
  for (const [from, to] of spans) expect(hasRecords(core, from as Lsn, to as Lsn), `${from} to ${to}`).toBe(true);
  const gaps: [number, number][] = [
    [0, 21],
    [20, 30],
    [20, 31],
    [29, 50],
  ];
  for (const [from, to] of gaps) expect(hasRecords(core, from as Lsn, to as Lsn), `${from} to ${to}`).toBe(false);
});

test("names of the time before the floor are not kept: there is nothing to go on from either", () => {
  const core = coreWith([[1, 50]], 20);
  expect(oldestFrom(core)).toBe(20);
  expect(feedGap(core, 19 as Lsn)).toMatchObject({ code: "OUT_OF_HISTORY", data: { from: 20, lsn: 50, asked: 19 } });
});

test("an empty journal has nothing to miss", () => {
  const core = coreWith([]);
  expect(oldestFrom(core)).toBe(0);
  expect(hasRecords(core, 0 as Lsn, 0 as Lsn)).toBe(true);
});
