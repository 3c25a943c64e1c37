import fs from "node:fs";
import path from "node:path";
import { describe, expect, test, vi } from "vitest";
import type { AppId, Lsn } from "../domain/ids.ts";
import {
  appendPlaced,
  contentOf,
  draft,
  JournalFixture,
  randomDraft,
  seededRandom,
  testSeed,
} from "./journal-fixture.ts";
import { encodeHeader, HEADER_BYTES, segmentName } from "./segment-file.ts";

// Hundreds of journals are opened, each with a few fdatasyncs.
vi.setConfig({ testTimeout: 60_000 });

const SMALL_SEGMENTS = { limits: { segmentBytesMax: 4096 } };
const DATA = Buffer.from("some data of the last record");

/** A journal of three small records; the last one has data and begins at `lastStart`. */
async function threeRecords(
  fixture: JournalFixture,
  options: { synced: boolean },
): Promise<{ bytes: Buffer; lastStart: number }> {
  const journal = await fixture.open();
  journal.append(draft());
  journal.append(draft());
  if (options.synced) await journal.sync(2 as Lsn);
  const lastStart = journal.segments()[0]?.bytes ?? 0;
  appendPlaced(journal, draft({ data: DATA }));
  const bytes = fs.readFileSync(fixture.pathOf(0));
  await journal.close();
  return { bytes, lastStart };
}

describe("a torn last record", () => {
  test("cut at any byte: the journal ends at the record before, and goes on from there", async () => {
    await using fixture = new JournalFixture();
    const { bytes, lastStart } = await threeRecords(fixture, { synced: false });
    for (let length = lastStart; length < bytes.length; length += 1) {
      fs.writeFileSync(fixture.pathOf(0), bytes.subarray(0, length));
      const journal = await fixture.open();
      expect([length, journal.lastLsn, fixture.recovered.length]).toEqual([length, 2, 2]);
      expect(fs.statSync(fixture.pathOf(0)).size).toBe(lastStart);
      expect(journal.append(draft({ unique: length }))).toBe(3);
      await journal.close();
      const again = await fixture.open();
      expect(fixture.recovered.map(({ unique }) => unique)).toEqual([0, 0, length]);
      await again.close();
    }
  });

  test("garbled at any byte: the journal ends at the record before", async () => {
    await using fixture = new JournalFixture();
    const { bytes, lastStart } = await threeRecords(fixture, { synced: false });
    for (let at = lastStart; at < bytes.length; at += 1) {
      const garbled = Buffer.from(bytes);
      garbled.writeUInt8(garbled.readUInt8(at) ^ 0x41, at);
      fs.writeFileSync(fixture.pathOf(0), garbled);
      const journal = await fixture.open();
      expect([at, journal.lastLsn]).toEqual([at, 2]);
      await journal.close();
    }
  });

  test("zeros from any byte on, or garbage behind the last record: the journal ends before it", async () => {
    await using fixture = new JournalFixture();
    const { bytes, lastStart } = await threeRecords(fixture, { synced: false });
    for (let at = lastStart; at < bytes.length; at += 7) {
      fs.writeFileSync(
        fixture.pathOf(0),
        Buffer.concat([bytes.subarray(0, at), Buffer.alloc(bytes.length - at + 5000)]),
      );
      const journal = await fixture.open();
      expect([at, journal.lastLsn]).toEqual([at, 2]);
      await journal.close();
    }
    fs.writeFileSync(fixture.pathOf(0), Buffer.concat([bytes, Buffer.alloc(300, "TMRC")]));
    expect((await fixture.open()).lastLsn).toBe(3);
    expect(fixture.log.at("warn").at(-1)?.fields).toMatchObject({ lsn: 4, position: bytes.length, bytes: 300 });
  });

  test("the same bytes twice are not two records", async () => {
    await using fixture = new JournalFixture();
    const { bytes, lastStart } = await threeRecords(fixture, { synced: false });
    fs.writeFileSync(fixture.pathOf(0), Buffer.concat([bytes, bytes.subarray(lastStart)]));
    expect((await fixture.open()).lastLsn).toBe(3);
  });
});

describe("damage is refused, by name, with nothing changed", () => {
  async function expectRefused(fixture: JournalFixture, options: object, expected: object): Promise<void> {
    const before = fixture.files().map((name) => fs.readFileSync(path.join(fixture.folder, name)));
    const error = await fixture.open(options).catch((caught: unknown) => caught);
    expect(error).toMatchObject(expected);
    const after = fixture.files().map((name) => fs.readFileSync(path.join(fixture.folder, name)));
    expect(after.length).toBe(before.length);
    for (const [index, bytes] of after.entries()) expect(bytes.equals(before[index] ?? Buffer.alloc(0))).toBe(true);
  }

  test("a damaged record that a later one proves durable", async () => {
    await using fixture = new JournalFixture();
    const { bytes } = await threeRecords(fixture, { synced: true });
    for (let at = HEADER_BYTES; at < HEADER_BYTES + 100; at += 9) {
      const damaged = Buffer.from(bytes);
      damaged.writeUInt8(damaged.readUInt8(at) ^ 1, at);
      fs.writeFileSync(fixture.pathOf(0), damaged);
      await expectRefused(fixture, {}, { code: "DATA_DAMAGED", data: { segment: 1, position: HEADER_BYTES, lsn: 1 } });
    }
  });

  test("a damaged record that the rows have passed", async () => {
    await using fixture = new JournalFixture();
    const { bytes, lastStart } = await threeRecords(fixture, { synced: false });
    fs.writeFileSync(fixture.pathOf(0), bytes.subarray(0, bytes.length - 1));
    const damaged = { code: "DATA_DAMAGED", data: { segment: 1, position: lastStart, lsn: 3 } };
    await expectRefused(fixture, { appliedLsn: 3 as Lsn }, damaged);
  });

  test("a journal that ends, at a record, before the rows do", async () => {
    await using fixture = new JournalFixture();
    const { bytes, lastStart } = await threeRecords(fixture, { synced: false });
    fs.writeFileSync(fixture.pathOf(0), bytes.subarray(0, lastStart));
    await expectRefused(fixture, { appliedLsn: 3 as Lsn }, { code: "DATA_DAMAGED" });
    fs.rmSync(fixture.pathOf(0));
    await expectRefused(fixture, { appliedLsn: 3 as Lsn }, { code: "DATA_DAMAGED" });
  });

  test("damage in a segment that a later segment proves durable", async () => {
    await using fixture = new JournalFixture();
    const journal = await fixture.open(SMALL_SEGMENTS);
    for (let index = 0; index < 80; index += 1) {
      journal.append(draft());
      await journal.sync(journal.lastLsn);
    }
    await journal.close();
    const bytes = fs.readFileSync(fixture.pathOf(0));
    fs.writeFileSync(fixture.pathOf(0), bytes.subarray(0, bytes.length - 10));
    await expectRefused(fixture, {}, { code: "DATA_DAMAGED", data: { segment: 1 } });
    fs.writeFileSync(fixture.pathOf(0), bytes);
    expect(fixture.files()).toHaveLength(3);
    const second = fixture.pathOf(1);
    const kept = fs.readFileSync(second);
    fs.rmSync(second);
    await expectRefused(fixture, {}, { code: "DATA_DAMAGED", data: { segment: 1, position: bytes.length } });
    fs.writeFileSync(second, kept.subarray(0, 30));
    await expectRefused(fixture, {}, { code: "DATA_DAMAGED" });
  });

  test("a header that is damaged while its first record is there", async () => {
    await using fixture = new JournalFixture();
    const { bytes } = await threeRecords(fixture, { synced: false });
    const damaged = Buffer.from(bytes);
    damaged.writeUInt8(damaged.readUInt8(47) ^ 1, 47);
    fs.writeFileSync(fixture.pathOf(0), damaged);
    await expectRefused(fixture, {}, { code: "DATA_DAMAGED", data: { segment: 1, position: 0 } });
  });

  test("a segment of another app, of a newer version, of another number, or a file of somebody else", async () => {
    await using fixture = new JournalFixture();
    const { bytes } = await threeRecords(fixture, { synced: false });
    const header = { segment: 1, created: { sec: 0, nsec: 0 }, state: "records", seed: 1 } as const;
    const foreign = encodeHeader({ ...header, appId: "f".repeat(32) as AppId });
    fs.writeFileSync(fixture.pathOf(0), Buffer.concat([foreign, bytes.subarray(64)]));
    await expectRefused(
      fixture,
      {},
      { code: "DATA_FOLDER_FOREIGN", message: expect.stringContaining("belongs to app ffff") },
    );
    const newer = await newerHeader(bytes);
    fs.writeFileSync(fixture.pathOf(0), newer);
    await expectRefused(
      fixture,
      {},
      { code: "DATA_FOLDER_FOREIGN", message: expect.stringContaining("segment version 2") },
    );
    fs.rmSync(fixture.pathOf(0));
    fs.writeFileSync(path.join(fixture.folder, segmentName(5)), bytes);
    await expectRefused(
      fixture,
      { appliedLsn: 4 as Lsn },
      { code: "DATA_FOLDER_FOREIGN", message: expect.stringContaining(segmentName(1)) },
    );
    fs.writeFileSync(path.join(fixture.folder, "notes.txt"), "mine");
    await expectRefused(fixture, {}, { code: "DATA_FOLDER_FOREIGN", message: expect.stringContaining("notes.txt") });
  });

  async function newerHeader(bytes: Buffer): Promise<Buffer> {
    const { crc32 } = await import("node:zlib");
    const newer = Buffer.from(bytes);
    newer.writeUInt8(2, 4);
    newer.writeUInt32BE(crc32(newer.subarray(0, 60)), 60);
    return newer;
  }
});

test("a segment that follows removed ones was durable: when its start is damaged, that is refused", async () => {
  for (const removed of [[0], [0, 1], [1]]) {
    await using fixture = new JournalFixture();
    const journal = await fixture.open(SMALL_SEGMENTS);
    for (let index = 0; index < 70; index += 1) journal.append(draft());
    const segments = journal.segments().map(({ segment }) => segment);
    expect(segments).toHaveLength(3);
    for (const index of removed) await journal.removeSegment(segments[index] ?? 0);
    await journal.close();
    const next = segments[Math.max(...removed) + 1] ?? 0;
    const file = path.join(fixture.folder, segmentName(next));
    const bytes = fs.readFileSync(file);
    for (const damaged of [Buffer.alloc(0), Buffer.alloc(bytes.length), bytes.subarray(0, 100)]) {
      fs.writeFileSync(file, damaged);
      if (removed.length === 2 || removed[0] === 1)
        for (const name of fixture.files().filter((other) => other > segmentName(next)))
          fs.rmSync(path.join(fixture.folder, name));
      await expect(fixture.open({ appliedLsn: (next - 1) as Lsn })).rejects.toMatchObject({ code: "DATA_DAMAGED" });
      expect(fs.readFileSync(file).equals(damaged)).toBe(true);
    }
  }
});

test("data that looks like a journal can neither be taken for records nor prove anything", async () => {
  await using fixture = new JournalFixture();
  const { bytes: other } = await threeRecords(fixture, { synced: true });
  fs.rmSync(fixture.pathOf(0));
  const journal = await fixture.open();
  journal.append(draft());
  const lastStart = journal.segments()[0]?.bytes ?? 0;
  // A whole journal, its proofs of durability included, as the contents of a file.
  appendPlaced(journal, draft({ data: Buffer.concat([other.subarray(64), other.subarray(64)]) }));
  const bytes = fs.readFileSync(fixture.pathOf(0));
  await journal.close();
  const torn = Buffer.from(bytes);
  torn.writeUInt8(torn.readUInt8(lastStart + 20) ^ 1, lastStart + 20);
  fs.writeFileSync(fixture.pathOf(0), torn);
  expect((await fixture.open()).lastLsn).toBe(1);
});

test("an interrupted start of a segment is undone: without header, with half of one, or without a record", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open();
  journal.append(draft());
  await journal.close();
  const next = path.join(fixture.folder, segmentName(2));
  for (const start of [Buffer.alloc(0), Buffer.from("TMSG"), Buffer.alloc(64), Buffer.alloc(4096)]) {
    fs.writeFileSync(next, start);
    const reopened = await fixture.open();
    expect(reopened.append(draft())).toBe(2);
    await reopened.close();
    expect(fixture.files()).toEqual([segmentName(1)]);
    const again = await fixture.open();
    expect(again.lastLsn).toBe(2);
    await again.close();
    fs.truncateSync(fixture.pathOf(0), 64 + (fs.statSync(fixture.pathOf(0)).size - 64) / 2);
  }
});

test("an empty last segment is used, and the last time is that of the record before it", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open(SMALL_SEGMENTS);
  journal.append(draft({ time: { sec: 77, nsec: 1 } }));
  journal.place(100_000, 0);
  await journal.close();
  expect(fixture.files()).toHaveLength(2);
  const reopened = await fixture.open({ appliedLsn: 1 as Lsn });
  expect([reopened.lastLsn, reopened.lastTime]).toEqual([1, { sec: 77, nsec: 1 }]);
  expect(reopened.append(draft())).toBe(2);
});

test("a damaged body of an applied record does not keep the journal from opening: it is named when read", async () => {
  await using fixture = new JournalFixture();
  const { bytes, lastStart } = await threeRecords(fixture, { synced: true });
  const damaged = Buffer.from(bytes);
  damaged.writeUInt8(damaged.readUInt8(lastStart - 3) ^ 1, lastStart - 3);
  fs.writeFileSync(fixture.pathOf(0), damaged);
  const journal = await fixture.open({ appliedLsn: 2 as Lsn });
  expect([journal.lastLsn, fixture.recovered.map(({ lsn }) => lsn)]).toEqual([3, [3]]);
  await expect(journal.readRecords(2 as Lsn, 2 as Lsn).next()).rejects.toMatchObject({ code: "DATA_DAMAGED" });
});

/**
 * A crash layer: of the 4 KiB blocks written since the last sync, each one is on disk or not, in any combination; a missing one is as it was then, or zeros. The
 * file's size and the later files may be there or not, too.
 */
test("whatever subset of unsynced blocks reached the disk, the journal ends at a record that was appended, not before what was synced", async () => {
  const seed = testSeed("reordered blocks");
  const random = seededRandom(seed);
  for (let round = 0; round < 60; round += 1) {
    await using fixture = new JournalFixture();
    const writer = await fixture.open({ limits: { segmentBytesMax: 60_000 } });
    const originals = Array.from({ length: 60 }, () => randomDraft(random, 20_000));
    const syncedCount = Math.floor(random() * 60);
    for (const original of originals.slice(0, syncedCount)) appendPlaced(writer, original);
    await writer.sync(writer.lastLsn);
    const synced = snapshot(fixture.folder);
    for (const original of originals.slice(syncedCount)) appendPlaced(writer, original);
    const written = snapshot(fixture.folder);
    await writer.close();
    writeCrashed(fixture.folder, { synced, written, random });
    const journal = await fixture.open();
    expect(journal.lastLsn, `SEED=${seed} round ${round}`).toBeGreaterThanOrEqual(syncedCount);
    expect(fixture.recovered.map(contentOf)).toEqual(originals.slice(0, journal.lastLsn).map(contentOf));
    for (const { lsn, segment, dataStart, dataLength } of fixture.recovered) {
      const data = await journal.readData({ segment, dataStart, dataLength, skip: 0, length: dataLength });
      expect(data.equals(originals[lsn - 1]?.data ?? Buffer.alloc(0))).toBe(true);
    }
  }
});

type Files = Map<string, Buffer>;

function snapshot(folder: string): Files {
  return new Map(fs.readdirSync(folder).map((name) => [name, fs.readFileSync(path.join(folder, name))]));
}

function writeCrashed(folder: string, state: { synced: Files; written: Files; random: () => number }): void {
  const { synced, written, random } = state;
  for (const name of fs.readdirSync(folder)) fs.rmSync(path.join(folder, name));
  for (const [name, bytes] of written) {
    const before = synced.get(name);
    if (before === undefined && random() < 0.3) continue;
    const crashed = Buffer.from(bytes);
    const loss = random();
    for (let at = 0; at < bytes.length; at += 4096) {
      if (random() >= loss) continue;
      crashed.fill(0, at, Math.min(at + 4096, bytes.length));
      if (before !== undefined && at < before.length) before.copy(crashed, at, at, at + 4096);
    }
    const sizeMin = before?.length ?? 0;
    const size = random() < 0.5 ? bytes.length : sizeMin + Math.floor(random() * (bytes.length - sizeMin + 1));
    fs.writeFileSync(path.join(folder, name), crashed.subarray(0, size));
  }
}
