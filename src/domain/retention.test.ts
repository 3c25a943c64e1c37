import { describe, expect, test } from "vitest";
import { KEEP_EVERYTHING, keptTimes, type RetentionPolicy } from "./retention.ts";

const NOW = at("2026-11-21T14:36:53Z");
const NONE: RetentionPolicy = { ...KEEP_EVERYTHING, continuousMs: 0 };

function at(text: string): { sec: number; nsec: number } {
  return { sec: Date.parse(text) / 1000, nsec: 0 };
}

function turnsOf(policy: Partial<RetentionPolicy>): string[] {
  return keptTimes({ ...NONE, ...policy }, NOW).turns.map(({ sec }) => new Date(sec * 1000).toISOString().slice(0, 16));
}

describe("a retention policy", () => {
  test("that says nothing keeps everything", () => {
    expect(keptTimes({ ...KEEP_EVERYTHING, hourly: 5 }, NOW)).toEqual({ continuousFrom: undefined, turns: [] });
  });

  test("keeps the last turns of each kind, in UTC, weeks from Monday on", () => {
    expect(turnsOf({ hourly: 2 })).toEqual(["2026-11-21T14:00", "2026-11-21T13:00"]);
    expect(turnsOf({ daily: 2 })).toEqual(["2026-11-21T00:00", "2026-11-20T00:00"]);
    expect(turnsOf({ weekly: 2 })).toEqual(["2026-11-16T00:00", "2026-11-09T00:00"]);
    expect(turnsOf({ monthly: 12 }).at(-1)).toBe("2025-12-01T00:00");
    expect(turnsOf({ yearly: 3 })).toEqual(["2026-01-01T00:00", "2025-01-01T00:00", "2024-01-01T00:00"]);
  });

  test("names a turn of several kinds once", () => {
    expect(turnsOf({ hourly: 24, daily: 1 }).filter((turn) => turn.endsWith("21T00:00"))).toHaveLength(1);
  });

  test("names no turns inside the continuous window", () => {
    const { continuousFrom, turns } = keptTimes({ ...NONE, continuousMs: 3 * 3_600_000, hourly: 5 }, NOW);
    expect(continuousFrom).toEqual(at("2026-11-21T11:36:53Z"));
    expect(turns).toEqual([at("2026-11-21T11:00:00Z"), at("2026-11-21T10:00:00Z")]);
  });

  test("as time goes by only drops turns that are too old, and adds none below the window", () => {
    const policy = { continuousMs: 3_600_000, hourly: 30, daily: 9, weekly: 5, monthly: 3, yearly: 2 };
    let before = keptTimes(policy, NOW);
    for (let hours = 1; hours < 24 * 40; hours++) {
      const later = keptTimes(policy, { sec: NOW.sec + hours * 3600, nsec: 0 });
      const known = new Set(before.turns.map(({ sec }) => sec));
      const from = before.continuousFrom?.sec ?? 0;
      for (const { sec } of later.turns) expect(known.has(sec) || sec >= from).toBe(true);
      before = later;
    }
  });
});
