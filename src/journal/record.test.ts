import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { crc32 } from "node:zlib";
import { expect, test } from "vitest";
import type { Lsn, MountId } from "../domain/ids.ts";
import { CHAIN_START, Chain } from "./chain.ts";
import { APP, contentOf, draft, JournalFixture, randomDraft, seededRandom, testSeed } from "./journal-fixture.ts";
import { BLOCK_BYTES, dataOffset, PREFIX_BYTES, type RecordDraft, recordLength, saltLength } from "./record.ts";
import { damagedBlock, decodePrefix, decodeRecord, isFault } from "./record-decoder.ts";
import { bodyLengthOf, RecordEncoder } from "./record-encoder.ts";
import { encodeHeader, HEADER_BYTES } from "./segment-file.ts";

const GOLDEN = fileURLToPath(new URL("./golden/segment-v1.seg", import.meta.url));
const SEED = 0xdecafbad;

function encode(record: RecordDraft, lsn: number, durableLsn = 0): Buffer {
  const encoder = new RecordEncoder((pool) => {
    for (let at = 0; at < pool.length; at += 1) pool.writeUInt8(at & 0xff, at);
  });
  const { parts, length } = encoder.encode(record, { lsn: lsn as Lsn, durableLsn: durableLsn as Lsn, seed: SEED });
  const bytes = Buffer.concat(parts);
  expect(bytes.length).toBe(length);
  return bytes;
}

function decode(bytes: Buffer) {
  const prefix = decodePrefix(bytes, 0, SEED);
  if (isFault(prefix)) throw new Error(prefix.fault);
  const headLength = dataOffset(prefix.dataLength);
  const data = bytes.subarray(headLength, headLength + prefix.dataLength);
  const table = bytes.subarray(PREFIX_BYTES, headLength);
  const tail = bytes.subarray(headLength + prefix.dataLength);
  const record = decodeRecord(prefix, table, tail, { segment: 1, position: 0, seed: SEED });
  if (isFault(record)) throw new Error(record.fault);
  return { prefix, record, table, data };
}

test("a record of any shape comes back as it was", () => {
  const random = seededRandom(testSeed("record codec"));
  for (let round = 1; round <= 300; round += 1) {
    const original = randomDraft(random);
    const bytes = encode(original, round, round - 1);
    const { record, prefix, table, data } = decode(bytes);
    expect(contentOf(record)).toEqual(contentOf(original));
    expect([record.lsn, record.durableLsn, prefix.length]).toEqual([round, round - 1, bytes.length]);
    expect(recordLength(original.data?.length ?? 0, bodyLengthOf(original))).toBe(bytes.length);
    expect(data.equals(original.data ?? Buffer.alloc(0))).toBe(true);
    expect(damagedBlock(table, data)).toBe(-1);
  }
});

test("any changed byte outside the data and its table is noticed by the checksums of prefix and rest", () => {
  const bytes = encode(draft({ data: Buffer.alloc(10, 1) }), 1);
  for (let at = 0; at < bytes.length; at += 1) {
    if (at >= PREFIX_BYTES + 4 && at < PREFIX_BYTES + 14) continue;
    const changed = Buffer.from(bytes);
    changed.writeUInt8(changed.readUInt8(at) ^ 0x10, at);
    expect(() => decode(changed), `byte ${at}`).toThrow();
  }
});

test("a record of another segment does not verify, as its checksums begin with another seed", () => {
  const bytes = encode(draft(), 1);
  expect(decodePrefix(bytes, 0, SEED + 1)).toHaveProperty("fault");
});

test("the checksum table stands before the data, last block first", () => {
  const data = Buffer.alloc(BLOCK_BYTES * 2 + 100);
  for (let at = 0; at < data.length; at += 4) data.writeUInt32BE(at, at);
  const bytes = encode(draft({ data }), 1);
  const dataStart = dataOffset(data.length);
  for (let block = 0; block < 3; block += 1) {
    const expected = crc32(data.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES));
    expect(bytes.readUInt32BE(dataStart - 4 * (block + 1))).toBe(expected);
  }
});

test("lengths beyond the limits are a bug of the caller", () => {
  const longLabel = draft({ actor: { ...draft().actor, label: "x".repeat(256) } });
  expect(() => encode(longLabel, 1)).toThrow();
  expect(() => encode(draft({ time: { sec: 0, nsec: 1_000_000_000 } }), 1)).toThrow(/nanoseconds/);
});

/** The sample of version 1: what it holds. Its bytes never change. */
const SAMPLES: RecordDraft[] = [
  draft(),
  draft({ op: 10, unique: 2 ** 40 + 6, data: Buffer.from("hello, journal"), rows: [] }),
  draft({
    op: 72,
    time: { sec: -5, nsec: 999_999_999 },
    detail: Buffer.alloc(0),
    actor: { mountId: 0 as MountId, uid: 0, gid: 0, pid: 1, label: "cli ünïcode" },
  }),
  draft({
    op: 10,
    data: Buffer.alloc(BLOCK_BYTES + 3, "tidemark"),
    rows: [{ key: Buffer.from("Dgone"), value: null }],
  }),
];

function goldenBytes(): Buffer {
  const header = encodeHeader({
    appId: APP,
    segment: 1,
    created: { sec: 1_700_000_000, nsec: 1 },
    state: "records",
    seed: SEED,
  });
  return Buffer.concat([header, ...SAMPLES.map((sample, index) => encode(sample, index + 1, Math.max(0, index - 1)))]);
}

test("version 1 is written as in the golden sample", () => {
  expect(goldenBytes().equals(fs.readFileSync(GOLDEN))).toBe(true);
});

test("the golden sample of version 1 is read, and its chain is the known one", async () => {
  await using fixture = new JournalFixture();
  fs.mkdirSync(fixture.folder);
  fs.copyFileSync(GOLDEN, path.join(fixture.folder, "0000000000000001.seg"));
  const journal = await fixture.open();
  expect(fixture.recovered.map(contentOf)).toEqual(SAMPLES.map(contentOf));
  for (const [index, record] of fixture.recovered.entries()) {
    const { segment, dataStart, dataLength } = record;
    const data = await journal.readData({ segment, dataStart, dataLength, skip: 0, length: dataLength });
    expect(data.equals(SAMPLES[index]?.data ?? Buffer.alloc(0))).toBe(true);
  }
  const chain = new Chain(fixture.folder, APP, { lsn: 0 as Lsn, hash: CHAIN_START });
  expect(chain.advance(4 as Lsn).hash.toString("hex")).toBe(
    "8c9d07e99666ef75ff7af39feee4ee106ed7c1ef80a570f186a50bfaf81e07fd",
  );
  chain.close();
});

test("header and prefix have the sizes of the format", () => {
  expect([HEADER_BYTES, PREFIX_BYTES, saltLength(0), saltLength(1)]).toEqual([64, 96, 0, 16]);
});
