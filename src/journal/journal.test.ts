import fs from "node:fs";
import { expect, test } from "vitest";
import type { Lsn } from "../domain/ids.ts";
import type { Journal } from "./journal.ts";
import {
  appendPlaced,
  contentOf,
  draft,
  FaultyFileOps,
  JournalFixture,
  randomDraft,
  seededRandom,
  testSeed,
} from "./journal-fixture.ts";
import type { JournalRecord } from "./record.ts";

const SMALL_SEGMENTS = { limits: { segmentBytesMax: 4096 } };

async function collect(records: AsyncGenerator<JournalRecord>): Promise<JournalRecord[]> {
  const all: JournalRecord[] = [];
  for await (const record of records) all.push(record);
  return all;
}

function appendMany(journal: Journal, count: number): void {
  for (let index = 0; index < count; index += 1) journal.append(draft({ unique: journal.lastLsn + 1 }));
}

test("records get dense LSNs from 1, and are there after reopening without a sync, as after kill -9", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open();
  expect([journal.lastLsn, journal.durableLsn, journal.lastTime]).toEqual([0, 0, undefined]);
  expect([journal.append(draft()), journal.append(draft({ time: { sec: 9, nsec: 8 } }))]).toEqual([1, 2]);
  expect([journal.lastLsn, journal.durableLsn, journal.lastTime]).toEqual([2, 0, { sec: 9, nsec: 8 }]);
  const reopened = await fixture.open({ readOnly: true });
  expect(fixture.recovered.map(({ lsn }) => lsn)).toEqual([1, 2]);
  expect(reopened.lastLsn).toBe(2);
});

test("what was recovered is durable, and records go on after it", async () => {
  await using fixture = new JournalFixture();
  const first = await fixture.open();
  appendMany(first, 3);
  await first.close();
  const second = await fixture.open({ appliedLsn: 2 as Lsn });
  expect(fixture.recovered.map(({ lsn }) => lsn)).toEqual([3]);
  expect([second.lastLsn, second.durableLsn]).toEqual([3, 3]);
  expect(second.lastTime).toEqual(draft().time);
  expect(second.append(draft())).toBe(4);
});

test("any mix of records survives reopening, over many segments", async () => {
  const random = seededRandom(testSeed("journal round trip"));
  await using fixture = new JournalFixture();
  const originals = Array.from({ length: 120 }, () => randomDraft(random, 100_000));
  const writer = await fixture.open({ limits: { segmentBytesMax: 200_000 } });
  for (const original of originals) appendPlaced(writer, original);
  await writer.close();
  const reader = await fixture.open();
  expect(fixture.recovered.map(contentOf)).toEqual(originals.map(contentOf));
  for (const { lsn, segment, dataStart, dataLength } of fixture.recovered) {
    const data = await reader.readData({ segment, dataStart, dataLength, skip: 0, length: dataLength });
    expect(data.equals(originals[lsn - 1]?.data ?? Buffer.alloc(0))).toBe(true);
  }
  expect(reader.segments().length).toBeGreaterThan(3);
});

test("place says where the data will be, also when it starts a segment", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open(SMALL_SEGMENTS);
  for (let index = 0; index < 20; index += 1) {
    const data = Buffer.alloc(900, index);
    const { lsn, segment, dataStart } = appendPlaced(journal, draft({ data }));
    const read = await journal.readData({ segment, dataStart, dataLength: 900, skip: 0, length: 900 });
    expect([lsn, read.equals(data)]).toEqual([index + 1, true]);
  }
  expect(fixture.files().length).toBeGreaterThan(3);
});

test("a place is void after the next append, and must fit the data that comes", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open();
  journal.place(100, 0);
  expect(() => journal.append(draft({ data: Buffer.alloc(99) }))).toThrow(/placed for another length/);
  journal.place(100, 0);
  expect(journal.append(draft())).toBe(1);
  expect(journal.append(draft({ data: Buffer.alloc(5) }))).toBe(2);
});

test("a segment holds whole records up to its limit, and is named by its first LSN; a longer record has one of its own", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open(SMALL_SEGMENTS);
  appendMany(journal, 40);
  appendPlaced(journal, draft({ data: Buffer.alloc(10_000) }));
  const segments = journal.segments();
  expect(segments[0]?.segment).toBe(1);
  for (const [index, { bytes, segment }] of segments.entries()) {
    if (index > 0) expect(segment).toBe((segments[index - 1]?.lastLsn ?? 0) + 1);
    if (index < segments.length - 1) expect(bytes).toBeLessThanOrEqual(4096);
  }
  expect(segments.at(-1)).toMatchObject({ segment: 41, lastLsn: 41, sealed: false });
});

test("sync makes durable, in order over segments, and tells listeners", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open(SMALL_SEGMENTS);
  const seen: Lsn[] = [];
  const stop = journal.onDurable((durable) => seen.push(durable));
  appendMany(journal, 40);
  await journal.sync(40 as Lsn);
  expect(journal.durableLsn).toBe(40);
  expect(seen).toEqual(journal.segments().map(({ lastLsn }) => lastLsn));
  stop();
  appendMany(journal, 1);
  await journal.sync(41 as Lsn);
  expect(seen.at(-1)).toBe(40);
  expect(() => journal.sync(42 as Lsn)).toThrow(/does not exist/);
});

test("everyone who waits shares one fdatasync, and those who come meanwhile share the next", async () => {
  await using fixture = new JournalFixture();
  const ops = new FaultyFileOps();
  const journal = await fixture.open({ ops });
  appendMany(journal, 1);
  await journal.sync(1 as Lsn);
  const gate = Promise.withResolvers<void>();
  ops.syncGate = gate.promise;
  ops.syncCount = 0;
  appendMany(journal, 1);
  const waiting = [journal.sync(2 as Lsn)];
  while (ops.syncCount === 0) await new Promise((resolve) => setImmediate(resolve));
  for (let index = 0; index < 100; index += 1) {
    appendMany(journal, 1);
    waiting.push(journal.sync(journal.lastLsn));
  }
  gate.resolve();
  await Promise.all(waiting);
  expect(ops.syncCount).toBe(2);
  expect(journal.durableLsn).toBe(102);
});

test("a record that came during an fdatasync is not durable by it", async () => {
  await using fixture = new JournalFixture();
  const ops = new FaultyFileOps();
  const journal = await fixture.open({ ops });
  const gate = Promise.withResolvers<void>();
  appendMany(journal, 1);
  ops.syncGate = gate.promise;
  const first = journal.sync(1 as Lsn);
  while (ops.syncCount === 0) await new Promise((resolve) => setImmediate(resolve));
  appendMany(journal, 1);
  gate.resolve();
  await first;
  expect(journal.durableLsn).toBe(1);
});

test("the bytes that are not durable yet are counted, over segments", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open(SMALL_SEGMENTS);
  const bytes = () => journal.segments().reduce((sum, segment) => sum + segment.bytes - 64, 0);
  appendMany(journal, 40);
  expect(journal.unsyncedBytes).toBe(bytes());
  await journal.sync(40 as Lsn);
  expect(journal.unsyncedBytes).toBe(0);
  const before = bytes();
  appendMany(journal, 1);
  expect(journal.unsyncedBytes).toBe(bytes() - before);
});

test("the first unsynced change is synced by itself within a second", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open();
  appendMany(journal, 1);
  expect(fixture.timers.pendingCount).toBe(1);
  appendMany(journal, 1);
  expect(fixture.timers.pendingCount).toBe(1);
  const durable = new Promise<Lsn>((resolve) => journal.onDurable(resolve));
  fixture.timers.advance(999);
  expect(await durable).toBe(2);
});

test("what is appended during a sync gets a timer of its own", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open();
  appendMany(journal, 1);
  const first = journal.sync(1 as Lsn);
  appendMany(journal, 1);
  await first;
  while (fixture.timers.pendingCount === 0) await new Promise((resolve) => setImmediate(resolve));
  const durable = new Promise<Lsn>((resolve) => journal.onDurable(resolve));
  fixture.timers.advance(999);
  expect(await durable).toBe(2);
});

test("after a failed fdatasync waiters and later changes get EIO, nothing more becomes durable, reads go on", async () => {
  await using fixture = new JournalFixture();
  const ops = new FaultyFileOps();
  const journal = await fixture.open({ ops });
  const { segment, dataStart } = appendPlaced(journal, draft({ data: Buffer.from("kept") }));
  await journal.sync(1 as Lsn);
  appendMany(journal, 2);
  ops.failNext.sync = "EIO";
  const waiting = [journal.sync(2 as Lsn), journal.sync(3 as Lsn)];
  for (const wait of waiting) await expect(wait).rejects.toMatchObject({ code: "EIO" });
  expect(journal.failed).toBe(true);
  expect(() => journal.append(draft())).toThrow(expect.objectContaining({ code: "EIO" }));
  expect(() => journal.place(1, 1)).toThrow(expect.objectContaining({ code: "EIO" }));
  await expect(journal.sync(3 as Lsn)).rejects.toMatchObject({ code: "EIO" });
  await journal.sync(1 as Lsn);
  expect([journal.durableLsn, journal.lastLsn]).toEqual([1, 3]);
  expect(fixture.log.at("alarm")).toHaveLength(1);
  expect(String(await journal.readData({ segment, dataStart, dataLength: 4, skip: 0, length: 4 }))).toBe("kept");
  expect(fixture.timers.pendingCount).toBe(0);
});

test("a failed sync of an earlier segment keeps the later one from becoming durable", async () => {
  await using fixture = new JournalFixture();
  const ops = new FaultyFileOps();
  const journal = await fixture.open({ ...SMALL_SEGMENTS, ops });
  appendMany(journal, 40);
  ops.failNext.sync = "EIO";
  await expect(journal.sync(40 as Lsn)).rejects.toMatchObject({ code: "EIO" });
  expect(journal.durableLsn).toBe(0);
});

test("closing makes everything durable; a closed journal takes nothing", async () => {
  await using fixture = new JournalFixture();
  const ops = new FaultyFileOps();
  const journal = await fixture.open({ ops });
  appendMany(journal, 1);
  await journal.close();
  await journal.close();
  expect([journal.durableLsn, ops.syncCount]).toEqual([1, 1]);
  expect(() => journal.append(draft())).toThrow(/closed/);
});

test("a close whose sync fails says so", async () => {
  await using fixture = new JournalFixture();
  const ops = new FaultyFileOps();
  const journal = await fixture.open({ ops });
  appendMany(journal, 1);
  ops.failNext.sync = "EIO";
  await expect(journal.close()).rejects.toMatchObject({ code: "EIO" });
});

test("write-back is started every few MiB, and covers everything once", async () => {
  await using fixture = new JournalFixture();
  const ops = new FaultyFileOps();
  const journal = await fixture.open({ ops, limits: { writeBackBytes: 100_000 } });
  for (let index = 0; index < 10; index += 1) {
    appendPlaced(journal, draft({ data: Buffer.alloc(120_000) }));
    await journal.sync(journal.lastLsn);
  }
  expect(ops.writeBacks.length).toBeGreaterThanOrEqual(5);
  for (const [index, { position }] of ops.writeBacks.entries()) {
    const before = ops.writeBacks[index - 1];
    if (before !== undefined) expect(position).toBe(before.position + before.length);
  }
});

test("records are read from anywhere to anywhere, over segments, while others are appended", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open(SMALL_SEGMENTS);
  for (let index = 1; index <= 60; index += 1) {
    appendPlaced(journal, draft({ unique: index, data: index % 7 === 0 ? Buffer.alloc(3000, index) : null }));
  }
  for (const [from, to] of [
    [1, 60],
    [17, 17],
    [30, 59],
    [60, 60],
  ] as const) {
    const records = await collect(journal.readRecords(from as Lsn, to as Lsn));
    expect(records.map(({ unique }) => unique)).toEqual(
      Array.from({ length: to - from + 1 }, (_, index) => from + index),
    );
  }
  let count = 0;
  for await (const record of journal.readRecords(1 as Lsn, 60 as Lsn)) {
    expect(record.lsn).toBe(++count);
    appendMany(journal, 1);
  }
  expect([count, journal.lastLsn]).toEqual([60, 120]);
});

test("reading records hops over data that is longer than its window", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open();
  for (let index = 1; index <= 5; index += 1)
    appendPlaced(journal, draft({ unique: index, data: Buffer.alloc(1_000_000, index) }));
  const records = await collect(journal.readRecords(1 as Lsn, 5 as Lsn));
  expect(records.map(({ unique, dataLength }) => [unique, dataLength])).toEqual(
    [1, 2, 3, 4, 5].map((index) => [index, 1_000_000]),
  );
});

test("a damaged record is named when it is read", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open();
  appendMany(journal, 3);
  const { position, segment } = (await collect(journal.readRecords(2 as Lsn, 2 as Lsn)))[0] as JournalRecord;
  const fd = fs.openSync(fixture.pathOf(0), "r+");
  fs.writeSync(fd, "X", position + 100);
  fs.closeSync(fd);
  const error = await collect(journal.readRecords(1 as Lsn, 3 as Lsn)).catch((caught: unknown) => caught);
  expect(error).toMatchObject({ code: "DATA_DAMAGED", data: { segment, position, lsn: 2 } });
});

test("sealed segments can be removed: the oldest disappear, one between others leaves its header", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open(SMALL_SEGMENTS);
  appendMany(journal, 100);
  const before = journal.segments();
  const [first, second, third] = before.map(({ segment }) => segment);
  await journal.removeSegment(third ?? 0);
  expect(journal.segments()).toEqual(before.filter(({ segment }) => segment !== third));
  expect(fixture.files()).toHaveLength(before.length);
  await expect(collect(journal.readRecords(1 as Lsn, 100 as Lsn))).rejects.toMatchObject({ code: "OUT_OF_HISTORY" });

  await journal.close();
  const reopened = await fixture.open({ appliedLsn: 100 as Lsn });
  expect(reopened.segments().map(({ segment }) => segment)).toEqual(
    before.map(({ segment }) => segment).filter((segment) => segment !== third),
  );
  await reopened.removeSegment(first ?? 0);
  await reopened.removeSegment(second ?? 0);
  expect(fixture.files()).toHaveLength(before.length - 3);
  const from = (before[3]?.segment ?? 0) as Lsn;
  expect(await collect(reopened.readRecords(from, 100 as Lsn))).toHaveLength(100 - from + 1);
  await expect(collect(reopened.readRecords((from - 1) as Lsn, 100 as Lsn))).rejects.toMatchObject({
    code: "OUT_OF_HISTORY",
  });
  await expect(reopened.removeSegment(before.at(-1)?.segment ?? 0)).rejects.toThrow(/sealed/);
});

test("a journal open for reading changes nothing", async () => {
  await using fixture = new JournalFixture();
  const writer = await fixture.open();
  appendMany(writer, 3);
  await writer.close();
  fs.appendFileSync(fixture.pathOf(0), "torn");
  const before = fs.readFileSync(fixture.pathOf(0));
  const reader = await fixture.open({ readOnly: true });
  expect(reader.lastLsn).toBe(3);
  expect(() => reader.append(draft())).toThrow(/reading/);
  await reader.close();
  expect(fs.readFileSync(fixture.pathOf(0)).equals(before)).toBe(true);
});
