import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { ByteWriter } from "../base/bytes.ts";
import type { Lsn } from "../domain/ids.ts";
import { CHAIN_START } from "../journal/chain.ts";
import { contentOf, draft, testSeed } from "../journal/journal-fixture.ts";
import { sealText } from "./names.ts";
import { sealObject } from "./object-codec.ts";
import { countingFill, keysOf, OTHER_APP } from "./packs-fixture.ts";
import { encodeSeal, openSealHead, Seal } from "./seal-codec.ts";
import { journalRecordOf, type SealRecord, sealRecordBytes, writeSealRecord } from "./seal-record.ts";
import { headOf, RecordSource } from "./seals-fixture.ts";

const keys = keysOf();
const ID = { epoch: 3, sequence: 1 };
const NAME = `apps/${keys.tag}/seals/${sealText(ID)}`;
const GOLDEN = fileURLToPath(new URL("./golden/seal-v1.bin", import.meta.url));
const damaged = expect.objectContaining({
  code: "REPOSITORY_DAMAGED",
  data: expect.objectContaining({ object: NAME }),
});

function sealOf(source: RecordSource, from = 1, to: number = source.lsn) {
  const head = headOf(source, { ...ID, previous: null, from, to });
  const records = source.records.slice(from - 1, to);
  return { head, records, bytes: Buffer.concat(encodeSeal(keys, NAME, { head, records })) };
}

function sourceOf(seed: number, count: number): RecordSource {
  const source = new RecordSource(seed);
  source.growTo(count);
  return source;
}

async function* chunksOf(bytes: Buffer, length: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

test("records of any shape come back as the journal had them, with the chain", () => {
  const source = sourceOf(testSeed("seal codec"), 200);
  const { head, records, bytes } = sealOf(source);
  const seal = Seal.open(keys, { name: NAME, id: ID, bytes });
  expect(seal.head).toEqual(head);
  const read = [...seal.records()];
  expect(read).toEqual(records);
  expect(read.map((record) => contentOf(journalRecordOf(record)))).toEqual(source.drafts.map(contentOf));
  expect(journalRecordOf(read[9] ?? fail())).toMatchObject({ lsn: 10, durableLsn: 9 });
  seal.verifyChain(CHAIN_START);
  expect(() => seal.verifyChain(Buffer.alloc(32, 1))).toThrow(damaged);
});

test("what a record takes in a seal is told before", () => {
  const source = sourceOf(5, 40);
  const told = source.records.reduce((sum, record) => sum + sealRecordBytes(record), 0);
  expect(told).toBe(plainOf(source.records).length);
});

test("a head is read without the records", async () => {
  const { head, bytes } = sealOf(sourceOf(6, 50));
  const asked: number[] = [];
  const chunks = (async function* () {
    for await (const chunk of chunksOf(bytes, 200)) {
      asked.push(chunk.length);
      yield chunk;
    }
  })();
  expect(await openSealHead(keys, { name: NAME, id: ID, chunks })).toEqual(head);
  await expect(openSealHead(keys, { name: NAME, id: ID, chunks: chunksOf(bytes.subarray(0, 50), 10) })).rejects.toThrow(
    damaged,
  );
});

test("a seal that is changed, cut, or another one is refused", () => {
  const { bytes } = sealOf(sourceOf(7, 5));
  for (const change of [
    bytes.subarray(0, -1),
    bytes.subarray(0, 39),
    Buffer.alloc(0),
    Buffer.concat([bytes, Buffer.from([0])]),
  ])
    expect(() => Seal.open(keys, { name: NAME, id: ID, bytes: change })).toThrow(damaged);
  for (let at = 0; at < bytes.length; at += Math.ceil(bytes.length / 50)) {
    const flipped = Buffer.from(bytes);
    flipped[at] = (flipped[at] ?? 0) ^ 1;
    expect(() => Seal.open(keys, { name: NAME, id: ID, bytes: flipped })).toThrow();
  }
  expect(() => Seal.open(keysOf(OTHER_APP), { name: NAME, id: ID, bytes })).toThrow(damaged);
  const other = { ...ID, sequence: 2 };
  expect(() => Seal.open(keys, { name: NAME, id: other, bytes })).toThrow(damaged);
});

test("a seal whose writer was wrong is refused: records that are not dense, too few, too many; a line that can't be", () => {
  const source = sourceOf(8, 6);
  const { head, records } = sealOf(source);
  const open = (wrong: object, some = records) => {
    const json = Buffer.from(JSON.stringify({ ...head, ...wrong }));
    // Encoded by itself: encodeSeal asserts what is wrong here.
    const lengths = Buffer.alloc(4);
    lengths.writeUInt32BE(json.length);
    const bytes = Buffer.concat(sealObject(keys, { kind: "seal", name: NAME }, [lengths, json, plainOf(some)]));
    return [...Seal.open(keys, { name: NAME, id: ID, bytes }).records()].length;
  };
  expect(open({})).toBe(6);
  expect(() => open({ to: 7 })).toThrow(damaged);
  expect(() => open({ to: 5 })).toThrow(damaged);
  expect(() => open({ from: 2 })).toThrow(damaged);
  expect(() => open({ from: 0 })).toThrow(damaged);
  expect(() => open({ from: 7, to: 6 })).toThrow(damaged);
  expect(() => open({ epoch: 4 })).toThrow(damaged);
  expect(() => open({ appId: OTHER_APP })).toThrow(damaged);
  expect(() => open({ chain: "00" })).toThrow(damaged);
  expect(() => open({ packs: [{ id: "../x", bytes: 1 }] })).toThrow(damaged);
  expect(() => open({ previous: { epoch: 3, sequence: 7, hash: "00".repeat(32) } })).toThrow(damaged);
  expect(() => open({}, records.toReversed())).toThrow(damaged);
});

test("what a writer may not do is asserted", () => {
  const source = sourceOf(9, 4);
  const { head, records } = sealOf(source);
  const encode = (changes: object, some = records) =>
    encodeSeal(keys, NAME, { head: { ...head, ...changes }, records: some });
  expect(() => encode({}, records.slice(1))).toThrow("all records");
  expect(() => encode({ to: 5 as Lsn })).toThrow("all records");
  expect(() => encode({}, records.toReversed())).toThrow("dense");
  expect(() => encode({ sequence: 2 })).toThrow("follows");
  expect(() => encode({ appId: OTHER_APP })).toThrow("keys' app");
});

test("the sample of version 1 is read as it was written", () => {
  const source = goldenSource();
  const head = headOf(source, { ...ID, previous: null, from: 1, to: source.lsn });
  const records = source.records;
  if (!existsSync(GOLDEN)) {
    expect(process.env["WRITE_GOLDEN"]).toBe("1");
    writeFileSync(GOLDEN, Buffer.concat(encodeSeal(keys, NAME, { head, records, fill: countingFill("golden seal") })));
  }
  const seal = Seal.open(keys, { name: NAME, id: ID, bytes: readFileSync(GOLDEN) });
  expect(seal.head).toEqual(head);
  expect([...seal.records()]).toEqual(records);
  seal.verifyChain(CHAIN_START);
});

function goldenSource(): RecordSource {
  const source = new RecordSource(1);
  source.add(draft());
  source.add(draft({ op: 10, data: Buffer.alloc(100_000, "data"), rows: [{ key: Buffer.from("Cx"), value: null }] }));
  source.add(draft({ unique: 2 ** 52, actor: { ...draft().actor, label: "cli" } }));
  return source;
}

/** Records as they stand in a seal. */
function plainOf(records: readonly SealRecord[]): Buffer {
  const writer = new ByteWriter();
  for (const record of records) writeSealRecord(writer, record);
  return writer.finish();
}

function fail(): never {
  throw new Error("missing");
}
