import fs from "node:fs";
import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import type { Lsn } from "../domain/ids.ts";
import {
  APP,
  appendPlaced,
  contentOf,
  draft,
  JournalFixture,
  randomDraft,
  seededRandom,
  testSeed,
} from "./journal-fixture.ts";
import type { RecordDraft } from "./record.ts";
import { SegmentTail } from "./record-reader.ts";

const MIXED = { limits: { segmentBytesMax: 150_000 } };

test("a tail follows a writer step by step, over segments", async () => {
  const random = seededRandom(testSeed("segment tail"));
  await using fixture = new JournalFixture();
  const journal = await fixture.open(MIXED);
  const tail = new SegmentTail(fixture.folder, APP);
  const written: RecordDraft[] = [];
  let next = 1;
  for (let step = 0; step < 60; step += 1) {
    for (let count = 1 + Math.floor(random() * 5); count > 0; count -= 1) {
      const record = randomDraft(random, 300_000);
      appendPlaced(journal, record);
      written.push(record);
    }
    while (next <= journal.lastLsn) {
      const records = tail.read(next as Lsn, journal.lastLsn, random() < 0.5 ? 1 : 1_000_000);
      expect(records.map(contentOf)).toEqual(written.slice(next - 1, next - 1 + records.length).map(contentOf));
      next += records.length;
    }
  }
  tail.close();
  expect(journal.segments().length).toBeGreaterThan(2);
});

test("a tail begins anywhere, goes back, and answers no more than it was asked for", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open({ limits: { segmentBytesMax: 3000 } });
  for (let index = 1; index <= 80; index += 1) journal.append(draft({ unique: index }));
  const tail = new SegmentTail(fixture.folder, APP);
  for (const [from, to] of [
    [40, 60],
    [41, 41],
    [1, 3],
    [80, 80],
    [17, 80],
  ] as const) {
    const records = tail.read(from as Lsn, to as Lsn, 1e9);
    expect(records.map(({ lsn }) => lsn)).toEqual(Array.from({ length: to - from + 1 }, (_, index) => from + index));
  }
  expect(tail.read(1 as Lsn, 80 as Lsn, 1)).toHaveLength(1);
  const some = tail.read(1 as Lsn, 80 as Lsn, 3000).length;
  expect(some).toBeGreaterThan(1);
  expect(some).toBeLessThan(80);
  tail.close();
});

test("a tail names damage, and history that is gone", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open({ limits: { segmentBytesMax: 3000 } });
  for (let index = 1; index <= 80; index += 1) journal.append(draft());
  const [first, second] = journal.segments();
  const tail = new SegmentTail(fixture.folder, APP);
  await journal.removeSegment(first?.segment ?? 0);
  expect(() => tail.read(1 as Lsn, 80 as Lsn, 1)).toThrow(expect.objectContaining({ code: "OUT_OF_HISTORY" }));
  const fd = fs.openSync(fixture.pathOf(0), "r+");
  fs.writeSync(fd, "XX", 64 + 20);
  fs.closeSync(fd);
  const segment = second?.segment ?? 0;
  expect(() => tail.read(segment as Lsn, 80 as Lsn, 1)).toThrow(
    expect.objectContaining({ code: "DATA_DAMAGED", data: { segment, position: 64, lsn: segment } }),
  );
  tail.close();
});

test("a tail works in a worker thread", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open();
  for (let index = 1; index <= 10; index += 1) journal.append(draft({ unique: index }));
  const script = `
    const { parentPort, workerData } = require("node:worker_threads");
    import(workerData.module).then(({ SegmentTail }) => {
      const tail = new SegmentTail(workerData.folder, workerData.app);
      parentPort.postMessage(tail.read(1, 10, 1e6).map(({ unique }) => unique));
      tail.close();
    });`;
  const module = new URL("./record-reader.ts", import.meta.url).href;
  const worker = new Worker(script, { eval: true, workerData: { module, folder: fixture.folder, app: APP } });
  const uniques = await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
  expect(uniques).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  await worker.terminate();
});
