import fs from "node:fs";
import { expect, test } from "vitest";
import type { Lsn } from "../domain/ids.ts";
import { readBufferBytes } from "./data-reader.ts";
import {
  appendPlaced,
  draft,
  FaultyFileOps,
  JournalFixture,
  randomBytesOf,
  seededRandom,
  testSeed,
} from "./journal-fixture.ts";
import { BLOCK_BYTES } from "./record.ts";

const LENGTH = BLOCK_BYTES * 3 + 1000;

/** Nothing is in memory: every read goes through the thread pool. */
class ColdFileOps extends FaultyFileOps {
  override readCached(): number {
    return -1;
  }
}

function flip(file: string, position: number): () => void {
  const fd = fs.openSync(file, "r+");
  const byte = Buffer.alloc(1);
  fs.readSync(fd, byte, 0, 1, position);
  const write = (value: number) => fs.writeSync(fd, Buffer.from([value]), 0, 1, position);
  const value = byte.readUInt8(0);
  write(value ^ 0x20);
  return () => {
    write(value);
    fs.closeSync(fd);
  };
}

for (const [name, Ops] of [
  ["in memory", FaultyFileOps],
  ["on disk", ColdFileOps],
] as const) {
  test(`any range of the data is read as it was written, ${name}`, async () => {
    const random = seededRandom(testSeed("data ranges"));
    await using fixture = new JournalFixture();
    const journal = await fixture.open({ ops: new Ops(), limits: { blockCacheBytesMax: 150_000 } });
    const data = randomBytesOf(random, LENGTH);
    const { segment, dataStart } = appendPlaced(journal, draft({ data }));
    for (let round = 0; round < 300; round += 1) {
      const skip = Math.floor(random() * LENGTH);
      const length = Math.floor(random() * (random() < 0.5 ? Math.min(5000, LENGTH - skip) : LENGTH - skip + 1));
      const read = await journal.readData({ segment, dataStart, dataLength: LENGTH, skip, length });
      expect(read.equals(data.subarray(skip, skip + length)), `${skip} + ${length}`).toBe(true);
    }
  });

  test(`a flipped byte in any region is EIO and an alarm with its place, ${name}; the other blocks are read`, async () => {
    await using fixture = new JournalFixture();
    const journal = await fixture.open({ ops: new Ops(), limits: { blockCacheBytesMax: 0 } });
    const { segment, dataStart } = appendPlaced(journal, draft({ data: Buffer.alloc(LENGTH, 7) }));
    for (let block = 0; block < 4; block += 1) {
      const blockStart = dataStart + block * BLOCK_BYTES;
      const blockEnd = Math.min(blockStart + BLOCK_BYTES, dataStart + LENGTH);
      const places = [
        dataStart - 4 * (block + 1),
        dataStart - 4 * block - 1,
        blockStart,
        blockStart + 500,
        blockEnd - 1,
      ];
      for (const position of places) {
        const repair = flip(fixture.pathOf(0), position);
        for (let other = 0; other < 4; other += 1) {
          const place = { segment, dataStart, dataLength: LENGTH, skip: other * BLOCK_BYTES + 10, length: 20 };
          const read = (async () => journal.readData(place))();
          if (other === block) await expect(read, `byte ${position}`).rejects.toMatchObject({ code: "EIO" });
          else expect((await read).equals(Buffer.alloc(20, 7))).toBe(true);
        }
        repair();
      }
      const { fields } = fixture.log.at("alarm").at(-1) ?? { fields: {} };
      expect(fields).toMatchObject({ segment, position: blockStart });
    }
    // One for each block, not one for each read.
    expect(fixture.log.at("alarm")).toHaveLength(4);
  });
}

test("data of a missing or shortened segment is EIO and an alarm", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open({ limits: { segmentBytesMax: 100_000, openSegmentsMax: 1 } });
  const places = [1, 2, 3, 4].map(() => appendPlaced(journal, draft({ data: Buffer.alloc(90_000, 1) })));
  await journal.sync(4 as Lsn);
  const read = async (index: number) =>
    journal.readData({ segment: 0, dataStart: 0, ...places[index], dataLength: 90_000, skip: 0, length: 90_000 });
  expect((await read(0)).length).toBe(90_000);
  expect((await read(1)).length).toBe(90_000);
  fs.rmSync(fixture.pathOf(0));
  await expect(read(0)).rejects.toMatchObject({ code: "EIO" });
  fs.truncateSync(fixture.pathOf(0), 5000);
  await expect(read(1)).rejects.toMatchObject({ code: "EIO" });
  fs.writeFileSync(fixture.pathOf(1), Buffer.alloc(100_000));
  await expect(read(2)).rejects.toMatchObject({ code: "EIO" });
  expect((await read(3)).length).toBe(90_000);
  expect(fixture.log.at("alarm").map(({ fields }) => fields["segment"])).toEqual([1, 2, 3]);
});

test("many small reads of one block read it from the file once", async () => {
  await using fixture = new JournalFixture();
  let reads = 0;
  class CountingOps extends FaultyFileOps {
    override readCached(fd: number, target: Buffer, position: number): number {
      reads += 1;
      return super.readCached(fd, target, position);
    }
  }
  const journal = await fixture.open({ ops: new CountingOps() });
  const { segment, dataStart } = appendPlaced(journal, draft({ data: Buffer.alloc(LENGTH, 3) }));
  const place = { segment, dataStart, dataLength: LENGTH, length: 100 };
  await journal.readData({ ...place, skip: 0 });
  const once = reads;
  for (let skip = 100; skip < 60_000; skip += 100) await journal.readData({ ...place, skip });
  expect(reads).toBe(once);
});

test("a read into the caller's buffer keeps nothing of it", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open();
  const data = randomBytesOf(seededRandom(1), LENGTH);
  const { segment, dataStart } = appendPlaced(journal, draft({ data }));
  const place = { segment, dataStart, dataLength: LENGTH };
  for (const [skip, length] of [
    [0, LENGTH],
    [BLOCK_BYTES - 1, BLOCK_BYTES + 2],
    [5, 10],
    [1000, 20],
  ] as const) {
    const into = Buffer.alloc(readBufferBytes(length));
    const read = await journal.readData({ ...place, skip, length }, into);
    expect(read.equals(data.subarray(skip, skip + length))).toBe(true);
    into.fill(0);
  }
  expect((await journal.readData({ ...place, skip: 7, length: 3 })).equals(data.subarray(7, 10))).toBe(true);
});

test("reads that are under way end well when the journal is closed", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open({ ops: new ColdFileOps() });
  const { segment, dataStart } = appendPlaced(journal, draft({ data: Buffer.alloc(LENGTH, 3) }));
  const reads = Array.from({ length: 20 }, () =>
    journal.readData({ segment, dataStart, dataLength: LENGTH, skip: 0, length: LENGTH }),
  );
  await journal.close();
  for (const read of reads) expect((await read).length).toBe(LENGTH);
});
