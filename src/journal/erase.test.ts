import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import type { Lsn } from "../domain/ids.ts";
import { Chain } from "./chain.ts";
import type { ErasedData, EraseStep } from "./erase.ts";
import {
  decodeErasures,
  type Erasure,
  encodeErasures,
  erasuresName,
  readErasures,
  survivors,
  writeErasures,
} from "./erasures.ts";
import { SystemFileOps } from "./file-ops.ts";
import type { Journal } from "./journal.ts";
import {
  APP,
  appendPlaced,
  contentOf,
  draft,
  JournalFixture,
  randomBytesOf,
  randomDraft,
  seededRandom,
  testSeed,
} from "./journal-fixture.ts";
import type { JournalRecord, RecordDraft } from "./record.ts";
import { VerifiedStream } from "./verified-stream.ts";

const GOLDEN = fileURLToPath(new URL("./golden/erasures-v1.erased", import.meta.url));

type Placed = { readonly lsn: Lsn; readonly segment: number; readonly dataStart: number; readonly record: RecordDraft };

async function filled(journal: Journal, random: () => number, count: number): Promise<Placed[]> {
  const placed: Placed[] = [];
  for (let index = 0; index < count; index += 1) {
    const record = randomDraft(random);
    placed.push({ ...appendPlaced(journal, record), record });
  }
  journal.roll();
  appendPlaced(journal, draft());
  await journal.sync(journal.lastLsn);
  return placed;
}

/** Some parts of some records' data. */
function chosen(placed: readonly Placed[], random: () => number): Map<number, ErasedData[]> {
  const bySegment = new Map<number, ErasedData[]>();
  for (const { segment, dataStart, record } of placed) {
    const dataLength = record.data?.length ?? 0;
    if (dataLength === 0 || random() < 0.5) continue;
    const cuts = [random(), random(), random(), random()]
      .map((part) => Math.floor(part * dataLength))
      .sort((a, b) => a - b);
    const [a = 0, b = 0, c = 0, d = 0] = cuts;
    const parts = [
      { from: a, to: b },
      { from: Math.max(c, b + 1), to: d },
    ].filter(({ from, to }) => from < to);
    const ranges = random() < 0.4 || parts.length === 0 ? [{ from: 0, to: dataLength }] : parts;
    bySegment.set(segment, [...(bySegment.get(segment) ?? []), { dataStart, dataLength, ranges }]);
  }
  return bySegment;
}

function chainOf(fixture: JournalFixture, to: Lsn): string {
  const chain = new Chain(fixture.folder, APP);
  try {
    return chain.advance(to).hash.toString("hex");
  } finally {
    chain.close();
  }
}

async function recordsOf(journal: Journal): Promise<JournalRecord[]> {
  const records: JournalRecord[] = [];
  for await (const record of journal.readRecords(1 as Lsn, journal.lastLsn)) records.push(record);
  return records;
}

/** What of the data a reader gets: every surviving byte, and where nothing survives nothing of before. */
async function expectErased(
  journal: Journal,
  placed: readonly Placed[],
  all: ReadonlyMap<number, ErasedData[]>,
): Promise<void> {
  for (const { segment, dataStart, record } of placed) {
    const { data } = record;
    if (data === null) continue;
    const erased = all.get(segment)?.find((each) => each.dataStart === dataStart);
    const dataLength = data.length;
    for (const { from, to } of survivors({ ranges: erased?.ranges ?? [], dataLength })) {
      const read = await journal.readData({ segment, dataStart, dataLength, skip: from, length: to - from });
      expect(read.equals(data.subarray(from, to))).toBe(true);
    }
  }
}

test("records, chain and what was not erased stay as they were, and the erased bytes are nowhere", async () => {
  const random = seededRandom(testSeed("erase"));
  await using fixture = new JournalFixture();
  const limits = { segmentBytesMax: 500_000 };
  const journal = await fixture.open({ limits });
  const placed = await filled(journal, random, 60);
  const before = (await recordsOf(journal)).map(contentOf);
  const chain = chainOf(fixture, journal.lastLsn);
  const all = chosen(placed, random);
  for (const [segment, wanted] of all) await journal.erase(segment, wanted);
  expect((await recordsOf(journal)).map(contentOf)).toEqual(before);
  expect(chainOf(fixture, journal.lastLsn)).toBe(chain);
  await expectErased(journal, placed, all);
  const stream = new VerifiedStream({ folder: fixture.folder, appId: APP, from: 1 as Lsn });
  await stream.refresh(journal.lastLsn);
  let seen = 0;
  while (!stream.isDone) {
    const record = stream.take();
    if (record === undefined) {
      await stream.fill();
      continue;
    }
    const at = all.get(record.segment)?.find(({ dataStart }) => dataStart === record.dataStart);
    expect(record.erased).toEqual(at?.ranges);
    for (const { from, to } of at?.ranges ?? [])
      expect(record.data.subarray(from, to).every((byte) => byte === 0)).toBe(true);
    if (at !== undefined) {
      expect(record.salt.every((byte) => byte === 0)).toBe(true);
      seen += 1;
    }
  }
  await stream.close();
  expect(seen).toBe([...all.values()].flat().length);
  // Recovery from nothing verifies everything, too.
  await journal.close();
  const again = await fixture.open({ limits });
  expect(fixture.recovered.map(contentOf)).toEqual(before);
  await expectErased(again, placed, all);
});

test("cut short at any step it leaves a journal that verifies, and doing it again finishes it", async () => {
  for (const step of ["noted", "zeroed", "synced", "punched"] as const) {
    const random = seededRandom(7);
    await using fixture = new JournalFixture();
    const journal = await fixture.open();
    const placed = await filled(journal, random, 20);
    const chain = chainOf(fixture, journal.lastLsn);
    const [[segment, wanted] = [0, []]] = [...chosen(placed, random)];
    const stop = (done: EraseStep): void => {
      if (done === step) throw new Error("crash");
    };
    await expect(journal.erase(segment, wanted, stop)).rejects.toThrow("crash");
    expect(chainOf(fixture, journal.lastLsn)).toBe(chain);
    await journal.erase(segment, wanted);
    expect(chainOf(fixture, journal.lastLsn)).toBe(chain);
    await expectErased(journal, placed, new Map([[segment, wanted]]));
  }
});

/** Zeros reach the disk in any order and number: some writes are lost. */
class LossyFileOps extends SystemFileOps {
  lose = false;
  readonly random: () => number;

  constructor(random: () => number) {
    super();
    this.random = random;
  }

  override write(fd: number, parts: readonly Uint8Array[], position: number): number {
    if (this.lose && this.random() < 0.5) return parts.reduce((sum, part) => sum + part.length, 0);
    return super.write(fd, parts, position);
  }
}

test("whichever of its writes a power loss leaves out, the journal verifies, and the next try erases", async () => {
  const random = seededRandom(testSeed("erase and lose"));
  for (let round = 0; round < 10; round += 1) {
    await using fixture = new JournalFixture();
    const ops = new LossyFileOps(random);
    const journal = await fixture.open({ ops });
    const marker = Buffer.from(`marker ${round} of what has to go`);
    const data = Buffer.concat([randomBytesOf(random, 100_000), marker, randomBytesOf(random, 100_000)]);
    const { segment, dataStart } = appendPlaced(journal, draft({ data }));
    journal.roll();
    appendPlaced(journal, draft());
    await journal.sync(journal.lastLsn);
    const chain = chainOf(fixture, journal.lastLsn);
    const wanted = [{ dataStart, dataLength: data.length, ranges: [{ from: 90_000, to: 110_000 }] }];
    ops.lose = true;
    await journal.erase(segment, wanted);
    ops.lose = false;
    expect(chainOf(fixture, journal.lastLsn)).toBe(chain);
    const stream = new VerifiedStream({ folder: fixture.folder, appId: APP, from: 1 as Lsn });
    await stream.refresh(journal.lastLsn);
    while (!stream.isDone) if (stream.take() === undefined) await stream.fill();
    await stream.close();
    await journal.erase(segment, wanted);
    expect(fs.readFileSync(fixture.pathOf(0)).includes(marker)).toBe(false);
    for (const { from, to } of survivors({ ranges: wanted[0]?.ranges ?? [], dataLength: data.length })) {
      const read = await journal.readData({
        segment,
        dataStart,
        dataLength: data.length,
        skip: from,
        length: to - from,
      });
      expect(read.equals(data.subarray(from, to))).toBe(true);
    }
  }
});

test("one byte of data can be erased, and a second order goes on from the first", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open();
  const one = appendPlaced(journal, draft({ data: Buffer.from("x") }));
  const two = appendPlaced(journal, draft({ data: Buffer.from("abcdefgh") }));
  journal.roll();
  appendPlaced(journal, draft());
  await journal.sync(journal.lastLsn);
  const chain = chainOf(fixture, journal.lastLsn);
  await journal.erase(1, [{ dataStart: one.dataStart, dataLength: 1, ranges: [{ from: 0, to: 1 }] }]);
  await journal.erase(1, [{ dataStart: two.dataStart, dataLength: 8, ranges: [{ from: 0, to: 2 }] }]);
  await journal.erase(1, [{ dataStart: two.dataStart, dataLength: 8, ranges: [{ from: 4, to: 6 }] }]);
  expect(chainOf(fixture, journal.lastLsn)).toBe(chain);
  const read = await journal.readData({ segment: 1, dataStart: two.dataStart, dataLength: 8, skip: 0, length: 8 });
  expect(read.toString("latin1")).toBe("\0\0cd\0\0gh");
  expect(readErasures(fixture.folder, APP, 1).map(({ ranges }) => ranges)).toEqual([
    [{ from: 0, to: 1 }],
    [
      { from: 0, to: 2 },
      { from: 4, to: 6 },
    ],
  ]);
});

test("what was damaged before stays damaged: nothing is made good by erasing beside it", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open();
  const data = Buffer.alloc(1000, 7);
  const { dataStart } = appendPlaced(journal, draft({ data }));
  journal.roll();
  appendPlaced(journal, draft());
  await journal.sync(journal.lastLsn);
  const file = fixture.pathOf(0);
  const bytes = fs.readFileSync(file);
  bytes.writeUInt8(9, dataStart + 500);
  fs.writeFileSync(file, bytes);
  await journal.erase(1, [{ dataStart, dataLength: 1000, ranges: [{ from: 0, to: 100 }] }]);
  await expect(
    (async () => journal.readData({ segment: 1, dataStart, dataLength: 1000, skip: 400, length: 200 }))(),
  ).rejects.toThrow("damaged");
  expect(fixture.log.lines.some(({ level }) => level === "alarm")).toBe(true);
});

test("a record that lost its checksums without an erasure's note is damage", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open();
  const { dataStart } = appendPlaced(journal, draft({ data: Buffer.alloc(1000, 7) }));
  journal.roll();
  appendPlaced(journal, draft());
  await journal.sync(journal.lastLsn);
  await journal.erase(1, [{ dataStart, dataLength: 1000, ranges: [{ from: 0, to: 1000 }] }]);
  fs.rmSync(path.join(fixture.folder, erasuresName(1)));
  expect(() => chainOf(fixture, journal.lastLsn)).toThrow("does not match its checksum");
});

test("a damaged note is an error that names it, and goes with its segment", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open();
  const { dataStart } = appendPlaced(journal, draft({ data: Buffer.alloc(1000, 7) }));
  journal.roll();
  appendPlaced(journal, draft());
  await journal.sync(journal.lastLsn);
  await journal.erase(1, [{ dataStart, dataLength: 1000, ranges: [{ from: 0, to: 1000 }] }]);
  const file = path.join(fixture.folder, erasuresName(1));
  const bytes = fs.readFileSync(file);
  for (let at = 4; at < bytes.length; at += 7) {
    const flipped = Buffer.from(bytes);
    flipped.writeUInt8(flipped.readUInt8(at) ^ 0x10, at);
    expect(() => decodeErasures(flipped, { appId: APP, segment: 1 }), `byte ${at}`).toThrow();
  }
  fs.writeFileSync(file, bytes.subarray(0, 50));
  expect(() => readErasures(fixture.folder, APP, 1)).toThrow(erasuresName(1));
  await journal.removeSegment(1);
  expect(fs.existsSync(file)).toBe(false);
});

const SAMPLE: Erasure[] = [
  {
    position: 64,
    lsn: 1 as Lsn,
    dataLength: 70_000,
    inner: Buffer.alloc(32, 0xab),
    bodyChecksum: 0x01020304,
    isBodyDamaged: false,
    ranges: [
      { from: 0, to: 10 },
      { from: 65_530, to: 70_000 },
    ],
    blocks: [
      { index: 0, checksum: 0x0a0b0c0d },
      { index: 1, checksum: 0xffffffff },
    ],
  },
  {
    position: 80_000,
    lsn: 2 as Lsn,
    dataLength: 1,
    inner: Buffer.alloc(32, 0xcd),
    bodyChecksum: 0,
    isBodyDamaged: true,
    ranges: [{ from: 0, to: 1 }],
    blocks: [{ index: 0, checksum: 0xd202ef8d }],
  },
];

test("version 1 is written as in the golden sample, and read", async () => {
  expect(encodeErasures({ appId: APP, segment: 1 }, SAMPLE).equals(fs.readFileSync(GOLDEN))).toBe(true);
  expect(decodeErasures(fs.readFileSync(GOLDEN), { appId: APP, segment: 1 })).toEqual(SAMPLE);
  expect(() => decodeErasures(fs.readFileSync(GOLDEN), { appId: APP, segment: 2 })).toThrow("another segment");
  await using fixture = new JournalFixture();
  fs.mkdirSync(fixture.folder, { recursive: true });
  await writeErasures(fixture.folder, { appId: APP, segment: 1 }, SAMPLE);
  expect(readErasures(fixture.folder, APP, 1)).toEqual(SAMPLE);
});
