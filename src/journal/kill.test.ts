import { expect, test } from "vitest";
import { expectWritten, WriterProcess } from "./crash-fixture.ts";
import { JournalFixture, seededRandom, testSeed } from "./journal-fixture.ts";

test("after kill -9 every acknowledged record is there, again and again", async () => {
  const random = seededRandom(testSeed("kill"));
  await using fixture = new JournalFixture();
  for (let round = 0; round < 5; round += 1) {
    const writer = new WriterProcess(fixture.folder, 1_000_000);
    await writer.run(1 + Math.floor(random() * 150));
    await writer.kill();
    expect(writer.failure).toBeUndefined();
    const journal = await fixture.open();
    expect(journal.lastLsn).toBeGreaterThanOrEqual(writer.appended);
    await expectWritten(journal, fixture.recovered);
    await journal.close();
  }
}, 60_000);
