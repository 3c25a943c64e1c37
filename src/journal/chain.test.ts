import { createHash } from "node:crypto";
import fs from "node:fs";
import { expect, test } from "vitest";
import type { Lsn } from "../domain/ids.ts";
import { CHAIN_START, Chain, type ChainState } from "./chain.ts";
import { APP, appendPlaced, draft, JournalFixture, randomDraft, seededRandom, testSeed } from "./journal-fixture.ts";

const MIXED = { limits: { segmentBytesMax: 400_000 } };

function sha256(...parts: Uint8Array[]): Buffer {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** The chain as FORMAT.md says it, over whole files. */
function chainOf(files: readonly Buffer[]): Buffer {
  let link: Buffer = Buffer.alloc(32);
  for (const file of files) {
    for (let at = 64; at < file.length; ) {
      const dataLength = file.readUInt32BE(at + 48);
      const tableEnd = at + 96 + 4 * Math.ceil(dataLength / 65_536);
      const dataEnd = tableEnd + dataLength;
      const saltEnd = dataEnd + (dataLength > 0 ? 16 : 0);
      const end = saltEnd + file.readUInt32BE(at + 52);
      const inner = sha256(
        file.subarray(dataEnd, saltEnd),
        file.subarray(at + 96, tableEnd),
        file.subarray(tableEnd, dataEnd),
      );
      link = sha256(link, file.subarray(at, at + 96), file.subarray(saltEnd, end), inner);
      at = end;
    }
  }
  return link;
}

test("the chain over any records is the format's, computed in any steps, and known at each segment's end", async () => {
  const random = seededRandom(testSeed("chain"));
  await using fixture = new JournalFixture();
  const journal = await fixture.open(MIXED);
  const chain = new Chain(fixture.folder, APP);
  const ends = new Map<number, ChainState>();
  for (let step = 0; step < 20; step += 1) {
    for (let count = Math.floor(random() * 6); count > 0; count -= 1)
      appendPlaced(journal, randomDraft(random, 3_000_000));
    chain.advance(journal.lastLsn, (segment, end) => ends.set(segment, end));
  }
  const files = fixture.files().map((_, index) => fs.readFileSync(fixture.pathOf(index)));
  expect(chain.state).toEqual({ lsn: journal.lastLsn, hash: chainOf(files) });
  const segments = journal.segments();
  expect(segments.length).toBeGreaterThan(2);
  for (const [index, { segment, lastLsn, sealed }] of segments.entries()) {
    if (sealed) expect(ends.get(segment)).toEqual({ lsn: lastLsn, hash: chainOf(files.slice(0, index + 1)) });
  }
  const later = new Chain(fixture.folder, APP, ends.get(segments[1]?.segment ?? 0));
  expect(later.advance(journal.lastLsn).hash.equals(chain.state.hash)).toBe(true);
  chain.close();
  later.close();
});

test("a changed byte anywhere in a record is noticed before it gets into the chain", async () => {
  await using fixture = new JournalFixture();
  const journal = await fixture.open();
  journal.append(draft());
  const start = fs.statSync(fixture.pathOf(0)).size;
  appendPlaced(journal, draft({ data: Buffer.from("twenty bytes of data") }));
  const file = fixture.pathOf(0);
  const { size } = fs.statSync(file);
  const fd = fs.openSync(file, "r+");
  const original = fs.readFileSync(file);
  for (let at = start; at < size; at += 1) {
    fs.writeSync(fd, Buffer.from([original.readUInt8(at) ^ 4]), 0, 1, at);
    const chain = new Chain(fixture.folder, APP, { lsn: 0 as Lsn, hash: CHAIN_START });
    expect(() => chain.advance(2 as Lsn), `byte ${at}`).toThrow(expect.objectContaining({ code: "DATA_DAMAGED" }));
    expect(chain.state.lsn).toBe(1);
    chain.close();
    fs.writeSync(fd, original, at, 1, at);
  }
  fs.closeSync(fd);
});
