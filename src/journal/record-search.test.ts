import { expect, test } from "vitest";
import type { Lsn } from "../domain/ids.ts";
import { SystemFileOps } from "./file-ops.ts";
import { draft, JournalFixture, randomBytesOf, seededRandom, testSeed } from "./journal-fixture.ts";

/** Counts what is read. */
class CountingOps extends SystemFileOps {
  bytes = 0;

  override readCached(fd: number, target: Buffer, position: number): number {
    this.bytes += target.length;
    return super.readCached(fd, target, position);
  }

  override readLater(fd: number, target: Buffer, position: number): Promise<number> {
    this.bytes += target.length;
    return super.readLater(fd, target, position);
  }
}

test("a record in the middle of a segment that nobody read yet is found, whatever lies before it, without reading all of that", async () => {
  const random = seededRandom(testSeed("record search"));
  await using fixture = new JournalFixture();
  const written = await fixture.open();
  let last = 0 as Lsn;
  let length = 0;
  for (let count = 0; count < 12_000; count += 1) {
    // Data of all lengths, in stretches, with the mark of a record in it now and then.
    const kind = Math.floor(count / 500) % 3;
    const data = kind === 0 ? null : randomBytesOf(random, Math.floor(random() * (kind === 1 ? 200 : 6000)) + 4);
    if (data !== null && random() < 0.2) data.write("TMRC", 0, "latin1");
    length += data?.length ?? 0;
    last = written.append(draft({ data, unique: count + 1 }));
  }
  await written.close();
  const ops = new CountingOps();
  // Everything is applied: opening looks at the end only, and remembers no positions.
  const journal = await fixture.open({ appliedLsn: last, ops });
  const wanted = [1, 2, 65, 66, last - 64, last - 1, last];
  for (let count = 0; count < 60; count += 1) wanted.push(1 + Math.floor(random() * last));
  ops.bytes = 0;
  for (const lsn of wanted) {
    const found: number[] = [];
    for await (const record of journal.readRecords(lsn as Lsn, lsn as Lsn)) found.push(record.lsn, record.unique);
    expect(found).toEqual([lsn, lsn]);
  }
  // Hopping from the start would read half of the segment for each.
  expect(ops.bytes).toBeLessThan((wanted.length * length) / 20);
  await journal.close();
});
