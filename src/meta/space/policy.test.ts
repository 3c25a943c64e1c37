import { expect, test } from "vitest";
import type { AppId, Lsn } from "../../domain/ids.ts";
import { type AppUsage, type Bounds, nextAction, reclaimableBytesOf, type SegmentUsage } from "./policy.ts";
import type { SegmentUse } from "./space-rows.ts";

const MIB = 2 ** 20;

type SegmentOptions = { readonly place?: SegmentUsage["place"]; readonly use?: SegmentUse };

function segments(...list: SegmentOptions[]): SegmentUsage[] {
  return list.map(({ place = "droppable", use }, index) => ({
    segment: index * 100 + 1,
    lastLsn: (index * 100 + 100) as Lsn,
    bytes: 64 * MIB,
    place,
    use,
  }));
}

const kept = (liveMib: number): SegmentUse => ({ state: "kept", liveBytes: liveMib * MIB, costBytes: liveMib * MIB });

type UsageOptions = { historyMib: number; since: number; list: SegmentUsage[]; floor?: number };

function usage(name: string, options: UsageOptions): AppUsage {
  const journalBytes = options.list.reduce((sum, { bytes }) => sum + bytes, 0);
  return {
    id: name as AppId,
    journalBytes,
    liveBytes: journalBytes - options.historyMib * MIB,
    floor: (options.floor ?? 0) as Lsn,
    floorMax: (options.list.length * 100) as Lsn,
    oldest: { sec: options.since, nsec: 0 },
    segments: options.list,
  };
}

function bounds(options: Partial<Bounds>): Bounds {
  const room = { historyBytes: 0, historyBytesMax: 1024 * MIB, copyBytesMax: 1024 * MIB };
  return { excessBytes: 1, shortBytes: -1, ...room, ...options };
}

test("within the bounds nothing is done", () => {
  const app = usage("a", { historyMib: 64, since: 1, list: segments({}, {}, { place: "fixed" }) });
  expect(nextAction([app], bounds({ excessBytes: 0 }))).toEqual({ do: "nothing" });
});

test("of apps with at least the average of history the one with the oldest loses it, as much as there is too much", () => {
  const quiet = usage("quiet", { historyMib: 10, since: 1, list: segments({}, {}, {}, { place: "fixed" }) });
  const busy = usage("busy", { historyMib: 200, since: 5, list: segments({}, {}, {}, { place: "fixed" }) });
  const older = usage("older", { historyMib: 150, since: 3, list: segments({}, {}, {}, { place: "fixed" }) });
  const apps = [quiet, busy, older];
  expect(nextAction(apps, bounds({}))).toEqual({ do: "raise", id: "older", floor: 100 });
  expect(nextAction(apps, bounds({ excessBytes: 65 * MIB }))).toMatchObject({ id: "older", floor: 200 });
});

test("what nobody can read goes before any history, the poorest segment first; what was not counted yet comes first of all", () => {
  const list = segments({ place: "below", use: kept(30) }, { place: "below", use: kept(5) }, {}, { place: "fixed" });
  const app = usage("a", { historyMib: 100, since: 1, list });
  expect(nextAction([app], bounds({}))).toMatchObject({ do: "clean", segment: 101 });
  const uncounted = usage("b", { historyMib: 0, since: 9, list: segments({ place: "below" }) });
  expect(nextAction([app, uncounted], bounds({}))).toMatchObject({ do: "clean", id: "b" });
});

test("rich segments stay while there is history to drop, are cleaned when there is none, and never when it gains nothing", () => {
  const rich = { place: "below", use: kept(50) } as const;
  const withHistory = usage("a", { historyMib: 64, since: 1, list: segments(rich, {}, { place: "fixed" }) });
  expect(nextAction([withHistory], bounds({}))).toMatchObject({ do: "raise" });
  const without = usage("a", { historyMib: 64, since: 1, list: segments(rich, { place: "fixed" }) });
  expect(nextAction([without], bounds({}))).toMatchObject({ do: "clean", segment: 1 });
  const full = segments({ place: "below", use: kept(63) }, { place: "fixed" });
  expect(nextAction([usage("a", { historyMib: 64, since: 1, list: full })], bounds({}))).toEqual({ do: "nothing" });
});

test("rich segments are cleaned before history goes when their dead parts take a quarter of the bound", () => {
  const rich = { place: "below", use: kept(48) } as const;
  const app = usage("a", { historyMib: 200, since: 1, list: segments(rich, rich, {}, { place: "fixed" }) });
  expect(reclaimableBytesOf(app)).toBeGreaterThan(31 * MIB);
  expect(nextAction([app], bounds({ historyBytesMax: 100 * MIB }))).toMatchObject({ do: "clean" });
});

test("damaged segments are left alone", () => {
  const damaged = { place: "below", use: { state: "damaged", liveBytes: 0, costBytes: 0 } } as const;
  const app = usage("a", { historyMib: 64, since: 1, list: segments(damaged, { place: "fixed" }) });
  expect(nextAction([app], bounds({}))).toEqual({ do: "nothing" });
});

test("on a full disk a segment is not moved that there is no room for: more history goes instead", () => {
  const list = segments({ place: "below", use: kept(30) }, {}, { place: "fixed" });
  const app = usage("a", { historyMib: 64, since: 1, list, floor: 100 });
  const full = bounds({ shortBytes: 1, copyBytesMax: 20 * MIB });
  expect(nextAction([app], full)).toMatchObject({ do: "raise", floor: 200 });
});

test("on a full disk the floor moves up through the last segments, by halves, if it is history that fills it", () => {
  const list = segments({ place: "fixed" }, { place: "fixed" });
  const deleted = usage("a", { historyMib: 100, since: 1, list });
  const full = bounds({ excessBytes: 64 * MIB, shortBytes: 64 * MIB });
  const half = nextAction([{ ...deleted, floorMax: 10_000 as Lsn }], full);
  expect(half).toMatchObject({ do: "raise", floor: 5000 });
  const rest = nextAction([{ ...deleted, floor: 9800 as Lsn, floorMax: 10_000 as Lsn }], full);
  expect(rest).toMatchObject({ floor: 10_000 });
  expect(nextAction([usage("a", { historyMib: 1, since: 1, list })], full)).toEqual({ do: "nothing" });
});
