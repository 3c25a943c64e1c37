import { expect, test } from "vitest";
import { MemoryKv } from "../kv/memory-kv.ts";
import { type ChunkPlace, packId } from "../repository/chunk-place.ts";
import { ArchiveIndex } from "./archive-index.ts";
import { encodeArchivedData, runDataKey } from "./archive-rows.ts";
import { ReadAhead } from "./read-ahead.ts";

const SLOT = 3;
const RECORD_BYTES = 1024 * 1024;

/** Data of 40 records, a MiB each, in a pack of their own order. */
async function setUp() {
  const kv = new MemoryKv();
  const index = new ArchiveIndex(kv, SLOT);
  for (let number = 0; number < 40; number++) {
    const place: ChunkPlace = {
      pack: packId("ab".repeat(16)),
      offset: number,
      storedLength: RECORD_BYTES,
      rawLength: RECORD_BYTES,
      chunkOffset: 0,
      length: RECORD_BYTES,
    };
    const value = encodeArchivedData({ dataLength: RECORD_BYTES, pieces: [{ skip: 0, length: RECORD_BYTES, place }] });
    await kv.batch([index.dataOperation(runDataKey(1 + Math.floor(number / 10), 100 * number), value)]);
  }
  const fetched: number[][] = [];
  const waiting: (() => void)[] = [];
  const ahead = new ReadAhead(index, (places) => {
    fetched.push(places.map(({ offset }) => offset));
    return new Promise<void>((resolve) => waiting.push(resolve));
  });
  const note = (number: number) => ahead.note(1 + Math.floor(number / 10), 100 * number);
  const done = async (): Promise<void> => {
    waiting.shift()?.();
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { note, fetched, done };
}

test("who reads in order has the next megabytes fetched, across segments, and waits for what is on its way", async () => {
  const { note, fetched, done } = await setUp();
  expect(note(7)).toBeUndefined();
  expect(fetched).toEqual([]);
  expect(note(8)).toBeUndefined();
  expect(fetched).toEqual([[9, 10, 11, 12]]);
  const waits = note(9);
  expect(waits).toBeInstanceOf(Promise);
  await done();
  await waits;
  expect(note(10)).toBeUndefined();
  expect(fetched).toHaveLength(1);
});

test("it goes on fetching when what was fetched has been read", async () => {
  const { note, fetched, done } = await setUp();
  for (let number = 0; number < 20; number++) {
    note(number);
    await done();
  }
  expect(fetched.flat()).toEqual([...new Set(fetched.flat())]);
  expect(fetched.flat().length).toBeGreaterThan(16);
});

test("who jumps about has nothing fetched", async () => {
  const { note, fetched } = await setUp();
  for (const number of [30, 5, 17, 22, 9, 39, 1]) note(number);
  expect(fetched).toEqual([]);
});
