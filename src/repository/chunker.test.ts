import { expect, test } from "vitest";
import { AssertionError } from "../base/assert.ts";
import { randomBytesOf, seededRandom, testSeed } from "../journal/journal-fixture.ts";
import { CHUNK_SIZES, Chunker, type ChunkSizes, NO_CUT } from "./chunker.ts";
import { keysOf, OTHER_APP, textOf } from "./packs-fixture.ts";

const SMALL: ChunkSizes = { minBytes: 64, averageBytes: 256, maxBytes: 1024 };
const GEAR = keysOf().gearTable();

/** Where a run is cut when its bytes arrive in pieces of lengths that `length` gives. Each piece is in a buffer of its own, so nothing behind it can be looked at. */
function cutsOf(chunker: Chunker, bytes: Buffer, length: () => number = () => bytes.length): number[] {
  const cuts: number[] = [];
  chunker.reset();
  for (let from = 0; from < bytes.length; ) {
    const piece = Buffer.from(bytes.subarray(from, from + length()));
    for (let at = 0; at < piece.length; ) {
      const cut = chunker.next(piece, at, piece.length);
      if (cut === NO_CUT) break;
      cuts.push(from + cut);
      at = cut;
    }
    from += piece.length;
  }
  if (chunker.pendingBytes > 0) cuts.push(bytes.length);
  return cuts;
}

function lengthsOf(cuts: readonly number[]): number[] {
  return cuts.map((cut, index) => cut - (cuts[index - 1] ?? 0));
}

/** What the paper says, slowly: the reference for the fast one. */
function slowCuts(bytes: Buffer, sizes: ChunkSizes): number[] {
  const bits = Math.log2(sizes.averageBytes);
  const cuts: number[] = [];
  let start = 0;
  let hash = 0;
  for (let at = 0; at < bytes.length; at += 1) {
    const length = at + 1 - start;
    if (length > sizes.minBytes) hash = (hash * 2 + (GEAR[bytes.readUInt8(at)] ?? 0)) % 2 ** 32;
    const zeroBits = length <= sizes.averageBytes ? bits + 2 : bits - 2;
    const found = length > sizes.minBytes && hash < 2 ** (32 - zeroBits);
    if (!found && length < sizes.maxBytes) continue;
    cuts.push(at + 1);
    start = at + 1;
    hash = 0;
  }
  if (start < bytes.length) cuts.push(bytes.length);
  return cuts;
}

test("cuts are where the algorithm says, for random bytes and for text", () => {
  const random = seededRandom(testSeed("chunker reference"));
  for (const sizes of [
    SMALL,
    { minBytes: 1, averageBytes: 8, maxBytes: 9 },
    { minBytes: 100, averageBytes: 128, maxBytes: 4096 },
  ]) {
    for (const bytes of [
      randomBytesOf(random, 50_000),
      textOf(random() * 1e6, 50_000),
      Buffer.alloc(5000),
      Buffer.alloc(0),
    ])
      expect(cutsOf(new Chunker(GEAR, sizes), bytes)).toEqual(slowCuts(bytes, sizes));
  }
});

test("cuts do not depend on the pieces in which the bytes arrive", () => {
  const random = seededRandom(testSeed("chunker pieces"));
  for (let round = 0; round < 60; round += 1) {
    const bytes = round % 2 === 0 ? randomBytesOf(random, 20_000) : textOf(round, 20_000);
    const whole = cutsOf(new Chunker(GEAR, SMALL), bytes);
    const lengthMax = [1, 3, 65, 500, 5000][round % 5] ?? 1;
    expect(cutsOf(new Chunker(GEAR, SMALL), bytes, () => 1 + Math.floor(random() * lengthMax))).toEqual(whole);
  }
});

test("a chunker begins anew after a reset, and after each cut", () => {
  const random = seededRandom(testSeed("chunker reset"));
  const bytes = randomBytesOf(random, 30_000);
  const chunker = new Chunker(GEAR, SMALL);
  const cuts = cutsOf(chunker, bytes);
  chunker.next(bytes, 0, 100);
  expect(cutsOf(chunker, bytes)).toEqual(cuts);
  const first = cuts[3] ?? 0;
  expect(cutsOf(chunker, bytes.subarray(first)).map((cut) => cut + first)).toEqual(cuts.slice(4));
});

test("lengths keep their bounds and are near their average", () => {
  const random = seededRandom(testSeed("chunker lengths"));
  const bytes = randomBytesOf(random, 8 * 1024 * 1024);
  const lengths = lengthsOf(cutsOf(new Chunker(GEAR), bytes)).slice(0, -1);
  expect(Math.min(...lengths)).toBeGreaterThan(CHUNK_SIZES.minBytes);
  expect(Math.max(...lengths)).toBeLessThanOrEqual(CHUNK_SIZES.maxBytes);
  const average = lengths.reduce((sum, each) => sum + each, 0) / lengths.length;
  expect(average).toBeGreaterThan(CHUNK_SIZES.averageBytes * 0.7);
  expect(average).toBeLessThan(CHUNK_SIZES.averageBytes * 1.6);
});

test("bytes that are all the same make longest chunks, which are all the same", () => {
  const lengths = lengthsOf(cutsOf(new Chunker(GEAR, SMALL), Buffer.alloc(10_000, 0xaa)));
  expect(new Set(lengths.slice(0, -1)).size).toBe(1);
});

test("behind bytes that were inserted, removed or changed in the middle, chunks are soon the same again", () => {
  const seed = testSeed("chunker resynchronises");
  const random = seededRandom(seed);
  for (let round = 0; round < 20; round += 1) {
    const bytes = randomBytesOf(random, 400_000);
    const at = 50_000 + Math.floor(random() * 200_000);
    const removed = round % 3 === 0 ? 0 : Math.floor(random() * 300);
    const inserted = randomBytesOf(random, round % 3 === 1 ? 0 : 1 + Math.floor(random() * 300));
    const edited = Buffer.concat([bytes.subarray(0, at), inserted, bytes.subarray(at + removed)]);
    const chunksOf = (run: Buffer): Set<string> => {
      const cuts = cutsOf(new Chunker(GEAR, SMALL), run);
      return new Set(cuts.map((cut, index) => run.toString("latin1", cuts[index - 1] ?? 0, cut)));
    };
    const before = chunksOf(bytes);
    const fresh = [...chunksOf(edited)].filter((chunk) => !before.has(chunk));
    // The chunk of the edit and those until a cut is found that both have: a handful, of some 1,500.
    expect(fresh.length, `round ${round}`).toBeLessThan(25);
  }
});

test("another app's bytes are cut elsewhere", () => {
  const bytes = textOf(1, 100_000);
  const left = cutsOf(new Chunker(GEAR, SMALL), bytes);
  const right = cutsOf(new Chunker(keysOf(OTHER_APP).gearTable(), SMALL), bytes);
  const shared = left.filter((cut) => right.includes(cut));
  expect(shared.length).toBeLessThan(left.length / 4);
});

test("sizes that make no sense are a defect of the caller", () => {
  for (const sizes of [
    { ...SMALL, averageBytes: 300 },
    { ...SMALL, minBytes: 256 },
    { ...SMALL, maxBytes: 256 },
  ])
    expect(() => new Chunker(GEAR, sizes)).toThrow(AssertionError);
});
