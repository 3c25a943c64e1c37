import { expect, test } from "vitest";
import { present } from "../../base/assert.ts";
import type { Lsn } from "../../domain/ids.ts";
import type { DataPlace } from "../../journal/data-reader.ts";
import type { Journal } from "../../journal/journal.ts";
import { MemoryKv } from "../../kv/memory-kv.ts";
import { numberKey, relocationKey, TABLE } from "../keys.ts";
import { RowStore } from "../row-store.ts";
import { SegmentData } from "./segment-data.ts";
import { encodePieces, encodeUse, type Piece } from "./space-rows.ts";

/** A journal of which only the data is asked for: each read is answered with its place, at once or when it is told to. */
class FakeJournal {
  readonly waiting: (() => void)[] = [];
  waits = false;

  readData(place: DataPlace): Buffer | Promise<Buffer> {
    const bytes = Buffer.from(`<${place.segment}:${place.dataStart}+${place.skip}.${place.length}>`);
    if (!this.waits) return bytes;
    return new Promise((resolve) => this.waiting.push(() => resolve(bytes)));
  }
}

const place = (segment: number, skip: number, length: number): DataPlace => ({
  segment,
  dataStart: 500,
  dataLength: 1000,
  skip,
  length,
});

const piece = (skip: number, length: number, segment: number, newSkip: number): Piece => ({
  skip,
  length,
  segment,
  dataStart: 9000,
  dataLength: 4000,
  newSkip,
});

function setUp() {
  const store = new RowStore({ kv: new MemoryKv(), slot: 1, appliedLsn: 0 as Lsn });
  const journal = new FakeJournal();
  const data = new SegmentData(store);
  const relocate = (pieces: readonly Piece[]): void => {
    store.add(1 as Lsn, [
      { key: relocationKey(7, 500), value: encodePieces(pieces) },
      { key: numberKey(TABLE.SEGMENT_USE, 7), value: encodeUse({ state: "gone", liveBytes: 0, costBytes: 0 }) },
    ]);
  };
  return { journal, data, relocate, load: () => data.load(journal as unknown as Journal) };
}

test("data of a segment that is there is read from it", () => {
  const { data, load } = setUp();
  load();
  expect(data.read(place(7, 10, 20)).toString()).toBe("<7:500+10.20>");
});

test("data of a segment that is gone is read where its pieces are now, in order", async () => {
  const { data, relocate, load, journal } = setUp();
  relocate([piece(0, 100, 20, 40), piece(100, 50, 21, 0), piece(400, 10, 20, 3)]);
  load();
  expect(data.read(place(7, 10, 20)).toString()).toBe("<20:9000+50.20>");
  expect(data.read(place(7, 90, 30)).toString()).toBe("<20:9000+130.10><21:9000+0.20>");
  journal.waits = true;
  const later = data.read(place(7, 90, 30));
  for (const answer of journal.waiting.reverse()) answer();
  expect((await later).toString()).toBe("<20:9000+130.10><21:9000+0.20>");
});

test("bytes of a segment that is gone and were not moved are EIO, never invented", () => {
  const { data, relocate, load } = setUp();
  relocate([piece(0, 100, 20, 40), piece(120, 50, 21, 0)]);
  load();
  expect(() => data.read(place(7, 90, 40))).toThrow("nowhere");
  expect(() => data.read(place(7, 300, 1))).toThrow("nowhere");
});

test("a segment is quiet when no read of it is under way, and those that come after it was retired go elsewhere", async () => {
  const { data, relocate, load, journal } = setUp();
  load();
  journal.waits = true;
  const early = data.read(place(7, 0, 5));
  relocate([piece(0, 100, 20, 40)]);
  data.relocated(7, 500);
  data.retire(7);
  const late = data.read(place(7, 0, 5));
  let isQuiet = false;
  const quiet = data.quiet(7).then(() => {
    isQuiet = true;
  });
  await Promise.resolve();
  expect(isQuiet).toBe(false);
  present(journal.waiting[0], "the early read")();
  expect((await early).toString()).toBe("<7:500+0.5>");
  await quiet;
  present(journal.waiting[1], "the late read")();
  expect((await late).toString()).toBe("<20:9000+40.5>");
});
