import { describe, expect, test } from "vitest";
import { Random } from "../../test/model/random.ts";
import type { Lsn } from "../domain/ids.ts";
import { forkOf, looksAt, rowsOfFork } from "./fork.ts";
import { TABLE } from "./keys.ts";

const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 32));

type Span = { readonly since: number; readonly until: number };
type Row = Span & { readonly table: number; readonly fork: number; readonly lsn: number };

function rowsOf({ since, until }: Span): Row[] {
  const fork = forkOf(since, until);
  const { byEnd, byBeginning } = rowsOfFork(fork, until);
  return [
    ...(byEnd ? [{ since, until, fork, table: TABLE.DENTRY_ENDED, lsn: until }] : []),
    ...(byBeginning ? [{ since, until, fork, table: TABLE.DENTRY_BEGAN, lsn: since }] : []),
  ];
}

/** What the looks at `at` read, each row as often as it is read. */
function readAt(rows: readonly Row[], at: number, last: number): Row[] {
  return looksAt(at as Lsn, last as Lsn).flatMap(({ table, fork, from, to }) =>
    rows.filter((row) => row.table === table && row.fork === fork && row.lsn >= from && row.lsn < to),
  );
}

const holds = ({ since, until }: Span, at: number): boolean => since <= at && at < until;

/** Everything that matters begins and ends somewhere near a power of two, or anywhere. */
function randomLsn(random: Random, lowest: number, highest: number): number {
  const width = highest - lowest;
  const near = 2 ** random.below(53) + random.below(9) - 4;
  const value = random.oneIn(3) ? near : lowest + Math.floor(random.below(2 ** 31) * (width / 2 ** 31));
  return Math.min(highest, Math.max(lowest, value));
}

function randomSpan(random: Random, lowest: number, highest: number): Span {
  const since = randomLsn(random, lowest, highest - 1);
  const until = random.oneIn(3) ? since + 1 + random.below(600) : randomLsn(random, since + 1, highest);
  return { since, until: Math.min(until, highest) };
}

describe("names found by the fork of their span", () => {
  test.each([
    ["the first thousand LSNs", 1, 1000],
    ["the first million", 1, 1_000_000],
    ["around 2^32", 2 ** 32 - 5000, 2 ** 32 + 5000],
    ["the largest there are", 2 ** 53 - 100_000, 2 ** 53 - 2],
    ["all there are", 1, 2 ** 53 - 2],
  ])("are exactly those that held at a moment, among %s", (_, lowest, highest) => {
    console.log(`SEED=${SEED}`);
    const random = new Random(SEED);
    for (let round = 0; round < 20; round++) {
      const spans = Array.from({ length: 200 }, () => randomSpan(random, lowest, highest));
      const rows = spans.flatMap(rowsOf);
      const last = Math.max(...spans.map(({ until }) => until));
      for (let look = 0; look < 100; look++) {
        const span = random.pick(spans);
        const at = random.pick([span.since, span.until - 1, span.until, randomLsn(random, lowest, highest)]);
        const found = readAt(rows, at, last);
        const held = found.filter((row) => holds(row, at));
        expect(new Set(held).size).toBe(held.length);
        expect(held.map(({ since, until }) => `${since} ${until}`).sort()).toEqual(
          spans
            .filter((each) => holds(each, at))
            .map(({ since, until }) => `${since} ${until}`)
            .sort(),
        );
        // What is read in vain began and ended within a few LSNs of the moment.
        for (const { since, until } of found) expect(holds({ since, until }, at) || until - since < 256).toBe(true);
        for (const row of found) if (!holds(row, at)) expect(Math.abs(row.since - at)).toBeLessThan(256);
      }
    }
  });

  test("are looked for in at most one place for each bit of the last LSN", () => {
    const last = 2 ** 53 - 2;
    for (const at of [0, 1, 255, 256, 1_000_000, 2 ** 32 - 1, 2 ** 32, 2 ** 52, last - 1])
      expect(looksAt(at as Lsn, last as Lsn).length).toBeLessThanOrEqual(46);
    expect(looksAt(5 as Lsn, 1_000_000 as Lsn).length).toBeLessThanOrEqual(13);
    expect(looksAt(7 as Lsn, 7 as Lsn)).toEqual([]);
  });

  test("have one row when they were short-lived, two otherwise", () => {
    expect(rowsOf({ since: 1000, until: 1003 }).map(({ table }) => table)).toEqual([TABLE.DENTRY_ENDED]);
    // It ended at its fork: no moment from the fork on.
    expect(rowsOf({ since: 1000, until: 1024 }).map(({ table }) => table)).toEqual([TABLE.DENTRY_BEGAN]);
    expect(rowsOf({ since: 1000, until: 1025 })).toHaveLength(2);
  });
});
