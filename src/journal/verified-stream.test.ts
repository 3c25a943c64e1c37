import fs from "node:fs";
import { expect, test } from "vitest";
import type { Lsn } from "../domain/ids.ts";
import { CHAIN_START, Chain, ChainLinker } from "./chain.ts";
import { APP, appendPlaced, draft, JournalFixture, randomDraft, seededRandom, testSeed } from "./journal-fixture.ts";
import { type VerifiedRecord, VerifiedStream } from "./verified-stream.ts";

async function readTo(stream: VerifiedStream, to: Lsn, use: (record: VerifiedRecord) => void): Promise<void> {
  await stream.refresh(to);
  while (!stream.isDone) {
    const record = stream.take();
    if (record === undefined) await stream.fill();
    else use(record);
  }
}

test("records come with their data, across segments and in any steps, and add up to the chain", async () => {
  const random = seededRandom(testSeed("verified stream"));
  await using fixture = new JournalFixture();
  const journal = await fixture.open({ limits: { segmentBytesMax: 300_000 } });
  const stream = new VerifiedStream({ folder: fixture.folder, appId: APP, from: 1 as Lsn });
  const linker = new ChainLinker();
  let hash: Buffer = CHAIN_START;
  const written: (Buffer | null)[] = [];
  let lsn = 0;
  for (let step = 0; step < 20; step += 1) {
    for (let count = Math.floor(random() * 6); count > 0; count -= 1) {
      const made = randomDraft(random, random() < 0.1 ? 7_000_000 : 900_000);
      written.push(made.data === null ? null : Buffer.from(made.data));
      appendPlaced(journal, made);
    }
    if (random() < 0.3) await stream.close();
    await readTo(stream, journal.lastLsn, (record) => {
      lsn += 1;
      expect(record.fields.lsn).toBe(lsn);
      expect(record.data.equals(written[lsn - 1] ?? Buffer.alloc(0))).toBe(true);
      hash = linker.begin(hash, record.prefix, record.body).finish(record.inner);
    });
  }
  expect(lsn).toBe(journal.lastLsn);
  expect(journal.segments().length).toBeGreaterThan(1);
  const chain = new Chain(fixture.folder, APP);
  expect(chain.advance(journal.lastLsn).hash.equals(hash)).toBe(true);
  chain.close();
  const middle = Math.ceil(lsn / 2) as Lsn;
  const later = new VerifiedStream({ folder: fixture.folder, appId: APP, from: middle });
  const seen: number[] = [];
  await readTo(later, journal.lastLsn, ({ fields }) => seen.push(fields.lsn));
  expect(seen).toEqual(Array.from({ length: lsn - middle + 1 }, (_, index) => middle + index));
  await stream.close();
  await later.close();
});

test("a changed byte is noticed at its record, and the records before are given", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open();
  journal.append(draft());
  appendPlaced(journal, draft({ data: Buffer.alloc(100_000, 7) }));
  const file = fixture.pathOf(0);
  const bytes = fs.readFileSync(file);
  bytes[bytes.length - 3] = bytes.readUInt8(bytes.length - 3) ^ 1;
  fs.writeFileSync(file, bytes);
  const stream = new VerifiedStream({ folder: fixture.folder, appId: APP, from: 1 as Lsn });
  const seen: number[] = [];
  const reading = readTo(stream, 2 as Lsn, ({ fields }) => seen.push(fields.lsn));
  await expect(reading).rejects.toMatchObject({ code: "DATA_DAMAGED", data: { lsn: 2 } });
  expect([seen, stream.lsn]).toEqual([[1], 2]);
  await stream.close();
});

test("records that are not kept are out of history", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open();
  journal.append(draft());
  fs.renameSync(fixture.pathOf(0), `${fixture.folder}/0000000000000005.seg`);
  const stream = new VerifiedStream({ folder: fixture.folder, appId: APP, from: 1 as Lsn });
  await expect(readTo(stream, 1 as Lsn, () => {})).rejects.toMatchObject({ code: "OUT_OF_HISTORY" });
  await stream.close();
});

test("reading goes on behind what was read and is not kept any more", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open({ limits: { segmentBytesMax: 20_000 } });
  const append = (): void => void appendPlaced(journal, draft({ data: Buffer.alloc(15_000, 3) }));
  append();
  const stream = new VerifiedStream({ folder: fixture.folder, appId: APP, from: 1 as Lsn });
  const seen: number[] = [];
  await readTo(stream, 1 as Lsn, ({ fields }) => seen.push(fields.lsn));
  await stream.close();
  append();
  append();
  await journal.sync(journal.lastLsn);
  await journal.removeSegment(1);
  await readTo(stream, 3 as Lsn, ({ fields }) => seen.push(fields.lsn));
  expect(seen).toEqual([1, 2, 3]);
  await stream.close();
});
