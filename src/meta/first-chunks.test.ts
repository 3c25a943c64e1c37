import { expect, test } from "vitest";
import type { ContentId, Lsn } from "../domain/ids.ts";
import { seededRandom, testSeed } from "../journal/journal-fixture.ts";
import type { RowOp } from "../journal/record.ts";
import { MemoryKv } from "../kv/memory-kv.ts";
import { ContentMap } from "./content.ts";
import { firstChunks } from "./first-chunks.ts";
import { chunkKey, cutKey, TABLE } from "./keys.ts";
import { RowStore } from "./row-store.ts";
import { type Extent, encodeCut, encodeExtents } from "./rows.ts";

const RECORDS = 400;
const CONTENTS = 40;
const CHUNK = 64 * 1024 * 1024;

const random = seededRandom(testSeed("first chunks"));
const below = (limit: number): number => Math.floor(random() * limit);

function extent(lsn: number): Extent {
  const length = 1 + below(50);
  return { start: below(200), length, segment: lsn, dataStart: 0, dataLength: 100, skip: below(50) };
}

/** A store of RECORDS records that write, cut and check files of one or two chunks, some of which lie close together. */
function filled(): { store: RowStore; numbers: ContentId[] } {
  const store = new RowStore({ kv: new MemoryKv(), slot: 1, appliedLsn: 0 as Lsn });
  const numbers = Array.from({ length: CONTENTS }, (_, index) => (1 + index + 1000 * below(3)) as ContentId);
  const content = new ContentMap(store);
  for (let lsn = 1; lsn <= RECORDS; lsn++) {
    const number = numbers[below(CONTENTS)] as ContentId;
    const chunk = below(5) === 0 ? 1 : 0;
    const rows: RowOp[] = [];
    if (below(4) > 0)
      rows.push({ key: chunkKey(TABLE.SLICE, number, chunk, lsn), value: encodeExtents([extent(lsn)]) });
    if (below(4) === 0) {
      const from = below(2 * CHUNK);
      const to = below(2) === 0 ? 200 : from + below(CHUNK);
      rows.push({ key: cutKey(number, lsn), value: encodeCut(BigInt(Math.min(from, to)), BigInt(Math.max(from, to))) });
    }
    store.add(lsn as Lsn, rows);
    if (below(10) > 0) continue;
    const extents = content.chunk(number, 0, lsn as Lsn).list.extents;
    store.add(lsn as Lsn, [{ key: chunkKey(TABLE.CHECKPOINT, number, 0, lsn), value: encodeExtents(extents) }]);
  }
  return { store, numbers };
}

test("first chunks read together are those that are read one by one, at any moment", () => {
  const { store, numbers } = filled();
  for (let round = 0; round < 30; round++) {
    const at = below(RECORDS + 1) as Lsn;
    const wanted = numbers.filter(() => below(2) === 0);
    const found = firstChunks(store, wanted, at);
    const single = new ContentMap(store);
    for (const number of wanted) expect(found.get(number)?.extents).toEqual(single.chunk(number, 0, at).list.extents);
  }
});

test("a file with more slices than one query reads is left out, with those beside it", () => {
  const store = new RowStore({ kv: new MemoryKv(), slot: 1, appliedLsn: 0 as Lsn });
  for (let lsn = 1; lsn <= 2100; lsn++)
    store.add(lsn as Lsn, [{ key: chunkKey(TABLE.SLICE, 5, 0, lsn), value: encodeExtents([extent(lsn)]) }]);
  store.add(2101 as Lsn, [{ key: chunkKey(TABLE.SLICE, 900, 0, 2101), value: encodeExtents([extent(2101)]) }]);
  const found = firstChunks(store, [5, 6, 900] as ContentId[], 3000 as Lsn);
  expect([...found.keys()]).toEqual([900]);
});
