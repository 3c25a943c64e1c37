import { describe, expect, test } from "vitest";
import type { SealId } from "./names.ts";
import { type Previous, SealLine, type SealRange } from "./seal-line.ts";

const prefix = "apps/x/seals/";

const id = (epoch: number, sequence: number): SealId => ({ epoch, sequence });

function range(epoch: number, first: number, last: number, previous?: Previous): SealRange {
  return { epoch, first, last, previous: first === 1 ? previous : undefined };
}

function lineOf(ranges: readonly SealRange[], after?: SealId): SealLine {
  return new SealLine(ranges, { prefix, after, anomalies: [] });
}

const codes = (line: SealLine) => line.anomalies.map(({ code, object }) => [code, object.slice(prefix.length)]);

const missing = (name: string) =>
  expect.objectContaining({ code: "REPOSITORY_DAMAGED", data: { object: `${prefix}${name}`, missing: true } });
const offLine = expect.objectContaining({
  code: "FAILED_PRECONDITION",
  data: expect.objectContaining({ reason: "off-line" }),
});

/** All seals from the oldest that leads to the head. */
function walk(line: SealLine, from: SealId | null = null): string[] {
  const found: string[] = [];
  for (let at = line.next(from); at !== undefined; at = line.next(at)) found.push(`${at.epoch}.${at.sequence}`);
  return found;
}

test("nothing listed is an empty line", () => {
  const line = lineOf([]);
  expect([line.head, line.anomalies, line.next(null), line.next(id(4, 0))]).toEqual([null, [], undefined, undefined]);
});

test("epochs follow each other", () => {
  const line = lineOf([range(1, 1, 2, null), range(3, 1, 1, id(1, 2)), range(4, 1, 2, id(3, 1))]);
  expect(walk(line)).toEqual(["1.1", "1.2", "3.1", "4.1", "4.2"]);
  expect(walk(line, id(1, 2))).toEqual(["3.1", "4.1", "4.2"]);
  expect([line.head, codes(line)]).toEqual([id(4, 2), []]);
  expect([line.contains(id(3, 1)), line.contains(id(3, 2)), line.before(id(4, 1)), line.before(id(1, 1))]).toEqual([
    true,
    false,
    id(3, 1),
    null,
  ]);
});

describe("a service that was taken over from", () => {
  test("its later seals are ignored and reported", () => {
    const line = lineOf([range(1, 1, 5, null), range(2, 1, 2, id(1, 3))]);
    expect(walk(line)).toEqual(["1.1", "1.2", "1.3", "2.1", "2.2"]);
    expect(codes(line)).toEqual([["SEAL_FENCED_LATE", "00000001-0000000005"]]);
    expect([line.overrules(id(1, 4)), line.overrules(id(1, 3))]).toEqual([true, false]);
    expect(() => line.next(id(1, 4))).toThrow(offLine);
  });

  test("an epoch whose first seal came after the next one's listing is ignored as a whole", () => {
    const line = lineOf([range(1, 1, 3, null), range(2, 1, 1, id(1, 2)), range(3, 1, 1, id(1, 3))]);
    expect(walk(line)).toEqual(["1.1", "1.2", "1.3", "3.1"]);
    expect(codes(line)).toEqual([["SEAL_FENCED_LATE", "00000002-0000000001"]]);
    expect(line.overrules(id(2, 1))).toBe(true);
  });

  test("of one whose every seal is overruled none counts, however many", () => {
    const line = lineOf([range(2, 1, 9, null), range(5, 1, 1, id(1, 2))], id(1, 2));
    expect(walk(line, id(1, 2))).toEqual(["5.1"]);
    expect(codes(line)).toEqual([["SEAL_FENCED_LATE", "00000002-0000000009"]]);
  });
});

describe("seals that are missing", () => {
  test("one in an epoch is reported, and met by who goes there", () => {
    const line = lineOf([range(1, 1, 2, null), range(1, 4, 5)]);
    expect(codes(line)).toEqual([["SEAL_MISSING", "00000001-0000000003"]]);
    expect(line.head).toEqual(id(1, 5));
    expect(() => walk(line, id(1, 1))).toThrow(missing("00000001-0000000003"));
    expect(walk(line)).toEqual(["1.4", "1.5"]);
    expect(walk(line, id(1, 3))).toEqual(["1.4", "1.5"]);
  });

  test("one that the next epoch names", () => {
    const line = lineOf([range(1, 1, 2, null), range(2, 1, 1, id(1, 3))]);
    expect(codes(line)).toEqual([["SEAL_PREVIOUS_MISSING", "00000001-0000000003"]]);
    expect(() => line.next(id(1, 2))).toThrow(missing("00000001-0000000003"));
    expect(walk(line)).toEqual(["2.1"]);
  });

  test("the first of an epoch", () => {
    const line = lineOf([range(1, 1, 2, null), range(2, 2, 3)]);
    expect(codes(line)).toEqual([["SEAL_MISSING", "00000002-0000000001"]]);
    expect(() => line.next(id(1, 2))).toThrow(missing("00000002-0000000001"));
  });

  test("the ones right behind what is known", () => {
    expect(codes(lineOf([range(1, 7, 9)], id(1, 5)))).toEqual([["SEAL_MISSING", "00000001-0000000006"]]);
    expect(codes(lineOf([range(2, 1, 9, id(1, 6))], id(1, 5)))).toEqual([
      ["SEAL_PREVIOUS_MISSING", "00000001-0000000006"],
    ]);
    expect(() => lineOf([range(1, 7, 9)], id(1, 5)).next(id(1, 5))).toThrow(missing("00000001-0000000006"));
    expect(codes(lineOf([range(1, 6, 9)], id(1, 5)))).toEqual([]);
    expect(codes(lineOf([range(2, 1, 9, id(1, 5))], id(1, 5)))).toEqual([]);
  });

  test("the oldest ones, pruned, are no anomaly", () => {
    const line = lineOf([range(1, 40, 41), range(2, 1, 1, id(1, 41))]);
    expect([codes(line), walk(line), line.head]).toEqual([[], ["1.40", "1.41", "2.1"], id(2, 1)]);
    expect(codes(lineOf([range(2, 1, 1, id(1, 41))]))).toEqual([]);
  });

  test("a first seal that does not open leaves what is before it in place, but not joined", () => {
    const line = lineOf([range(1, 1, 2, null), range(2, 1, 2, undefined)]);
    expect([line.head, codes(line)]).toEqual([id(2, 2), []]);
    expect(walk(line)).toEqual(["2.1", "2.2"]);
    expect(() => line.next(id(1, 2))).toThrow(missing("00000002-0000000001"));
  });
});

describe("a line that begins anew", () => {
  const line = lineOf([range(1, 1, 2, null), range(3, 1, 2, null)]);

  test("has nothing of the old one", () => {
    expect(walk(line)).toEqual(["3.1", "3.2"]);
    expect(codes(line)).toEqual([["LINE_RESTARTED", "00000001-0000000002"]]);
    expect(() => line.next(id(1, 2))).toThrow(offLine);
  });

  test("goes on from its base, also when the service took another epoch in between", () => {
    expect(walk(line, id(3, 0))).toEqual(["3.1", "3.2"]);
    expect(walk(line, id(2, 0))).toEqual(["3.1", "3.2"]);
    expect(line.overrules(id(2, 0))).toBe(false);
  });
});
