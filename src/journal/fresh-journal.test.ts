import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { silentLog } from "../base/log.ts";
import { ManualTimers } from "../base/timers.ts";
import type { Lsn } from "../domain/ids.ts";
import { Chain } from "./chain.ts";
import { makeFreshJournal } from "./fresh-journal.ts";
import { Journal } from "./journal.ts";
import { APP, draft, ManualClock } from "./journal-fixture.ts";
import type { JournalRecord } from "./record.ts";

const LAST = 1234 as Lsn;
let parent: string;
let folder: string;
const clock = new ManualClock();

beforeEach(() => {
  parent = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-fresh-"));
  folder = path.join(parent, "apps", APP, "journal");
});
afterEach(() => fs.rmSync(parent, { recursive: true, force: true }));

function open(onRecord: (record: JournalRecord) => void = () => {}): Promise<Journal> {
  const timers = new ManualTimers();
  return Journal.open({ folder, appId: APP, clock, log: silentLog, appliedLsn: LAST, onRecord, timers });
}

test("a journal goes on after its archive, over restarts", async () => {
  await makeFreshJournal({ folder, appId: APP, lastLsn: LAST, clock });
  const journal = await open();
  expect(journal.lastLsn).toBe(LAST);
  expect(journal.durableLsn).toBe(LAST);
  expect(journal.lastTime).toBeUndefined();
  expect(journal.append(draft())).toBe(LAST + 1);
  await journal.close();
  const found: number[] = [];
  const again = await open((record) => found.push(record.lsn));
  expect(found).toEqual([LAST + 1]);
  await again.close();
});

test("opened before anything was written it is as it was", async () => {
  await makeFreshJournal({ folder, appId: APP, lastLsn: LAST, clock });
  await (await open()).close();
  const again = await open();
  expect(again.lastLsn).toBe(LAST);
  expect(again.segments()).toMatchObject([{ segment: LAST + 1, lastLsn: LAST }]);
  await again.close();
});

test("what was in the folder is gone, as when an attempt was cut off", async () => {
  await makeFreshJournal({ folder, appId: APP, lastLsn: 7 as Lsn, clock });
  await makeFreshJournal({ folder, appId: APP, lastLsn: LAST, clock });
  expect(fs.readdirSync(folder)).toHaveLength(1);
});

test("its chain goes on from the archive's", async () => {
  await makeFreshJournal({ folder, appId: APP, lastLsn: LAST, clock });
  const journal = await open();
  journal.append(draft({ data: Buffer.from("data") }));
  await journal.close();
  const start = { lsn: LAST, hash: Buffer.alloc(32, 1) };
  const chain = new Chain(folder, APP, start);
  const other = new Chain(folder, APP, { ...start, hash: Buffer.alloc(32, 2) });
  expect(chain.advance((LAST + 1) as Lsn).lsn).toBe(LAST + 1);
  expect(chain.state.hash.equals(other.advance((LAST + 1) as Lsn).hash)).toBe(false);
  chain.close();
  other.close();
});
