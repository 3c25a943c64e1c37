import { expect, test } from "vitest";
import type { ChunkPlace, PackId } from "./chunk-place.ts";
import { planReads } from "./pack-reads.ts";

const PACK = "1".repeat(32) as PackId;
const OTHER = "2".repeat(32) as PackId;
const MIB = 1024 * 1024;

function place(offset: number, changes: Partial<ChunkPlace> = {}): ChunkPlace {
  return { pack: PACK, offset, storedLength: 1000, rawLength: 2000, chunkOffset: 0, length: 10, ...changes };
}

/** Ranges of the reads with the offsets of their blocks. */
function planned(places: readonly ChunkPlace[]): unknown[] {
  return planReads(places).map(({ offset, length, blocks }) => [offset, length, blocks.map((block) => block.offset)]);
}

test("each block is read once, whatever the number and order of its chunks", () => {
  const places = [place(2040), place(40), place(2040, { chunkOffset: 500 }), place(1040)];
  expect(planned(places)).toEqual([[40, 3000, [40, 1040, 2040]]]);
});

test("a small gap is read along, a large one not", () => {
  const near = 1040 + 512 * 1024;
  expect(planned([place(40), place(near)])).toEqual([[40, near + 1000 - 40, [40, near]]]);
  expect(planned([place(40), place(near + 1)])).toEqual([
    [40, 1000, [40]],
    [near + 1, 1000, [near + 1]],
  ]);
});

test("no read is longer than 8 MiB, nor its blocks than 32 MiB, but for a single block", () => {
  const stored = Array.from({ length: 20 }, (_, index) => place(index * MIB, { storedLength: MIB }));
  expect(planReads(stored).map(({ length }) => length / MIB)).toEqual([8, 8, 4]);
  const raw = Array.from({ length: 20 }, (_, index) => place(index * 1000, { rawLength: 4 * MIB }));
  expect(planReads(raw).map(({ blocks }) => blocks.length)).toEqual([8, 8, 4]);
  expect(planned([place(40, { storedLength: 20 * MIB })])).toEqual([[40, 20 * MIB, [40]]]);
});

test("packs are read apart, and nothing is nothing", () => {
  const reads = planReads([place(40), place(40, { pack: OTHER }), place(1040)]);
  expect(reads.map(({ pack, blocks }) => [pack, blocks.length])).toEqual([
    [PACK, 2],
    [OTHER, 1],
  ]);
  expect(planReads([])).toEqual([]);
});
