import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { MemoryBlobs } from "../blob/testing/memory-blobs.ts";
import type { Lsn } from "../domain/ids.ts";
import { CHAIN_START } from "../journal/chain.ts";
import { contentOf, draft } from "../journal/journal-fixture.ts";
import { type PackId, packName } from "./chunk-place.ts";
import { APP, countingFill } from "./packs-fixture.ts";
import { Repository } from "./repository.ts";
import { journalRecordOf } from "./seal-record.ts";
import { checkpointOf, collect, memoryStore, namesIn, RecordSource, TestShipper } from "./seals-fixture.ts";

// A whole repository of version 1, as it was written when that was released: all that is in it stays readable.

const GOLDEN = fileURLToPath(new URL("./golden/repository-v1.json", import.meta.url));
const secret = { kind: "key-file", key: Buffer.alloc(32, 7) } as const;
const ROWS = [
  { key: Buffer.from("Ra"), value: Buffer.from("one") },
  { key: Buffer.from("Rb"), value: null },
];
const PACK = "cd".repeat(16) as PackId;

const drafts = [
  draft(),
  draft({ op: 10, data: Buffer.alloc(70_000, "tide"), rows: [{ key: Buffer.from("Cx"), value: Buffer.alloc(3, 1) }] }),
  draft({ unique: 2 ** 52, actor: { ...draft().actor, label: "cli" } }),
];

/** Makes the sample. Run once, with WRITE_GOLDEN=1, when a version is released. */
async function write(): Promise<void> {
  const { store, clock } = memoryStore();
  const repository = await Repository.init({
    store,
    secret,
    clock,
    lockDays: 30,
    fill: countingFill("golden repository"),
  });
  const app = await repository.createApp(APP);
  const source = new RecordSource(1);
  for (const each of drafts) source.add(each);
  for (const count of [2, 1]) await (await new TestShipper(app, source).start()).ship(count);
  const runs = [await app.writeRun([ROWS])];
  await app.publishCheckpoint(checkpointOf(source, { epoch: 2, sequence: 1, to: 3, runs }));
  await app.writeTombs(2, { names: [packName(app.tag, PACK)], reason: "retention" });
  const objects: Record<string, string> = {};
  for (const name of await namesIn(store)) objects[name] = (await store.get(name)).toString("base64");
  writeFileSync(GOLDEN, `${JSON.stringify(objects, undefined, 1)}\n`);
}

test("a repository of version 1 is read as it was written", async () => {
  if (!existsSync(GOLDEN)) {
    expect(process.env["WRITE_GOLDEN"]).toBe("1");
    await write();
  }
  const store = new MemoryBlobs();
  const objects = JSON.parse(readFileSync(GOLDEN, "utf8")) as Record<string, string>;
  for (const [name, bytes] of Object.entries(objects)) await store.put(name, [Buffer.from(bytes, "base64")]);
  const repository = await Repository.open({ store, secret });
  expect([repository.lockDays, (await repository.apps()).map(({ appId }) => appId)]).toEqual([30, [APP]]);
  const app = await repository.openApp(APP);
  const from = { lsn: 0 as Lsn, chain: CHAIN_START };
  const seals = await collect(app.seals({ verify: "chain", from }));
  const records = seals.flatMap((seal) => [...seal.records()]);
  expect(records.map((record) => contentOf(journalRecordOf(record)))).toEqual(drafts.map(contentOf));
  expect(records[1]?.data?.pieces.map(({ skip, length }) => [skip, length])).toEqual([
    [0, 35_000],
    [35_000, 35_000],
  ]);
  const latest = await app.latestCheckpoint();
  expect(latest?.checkpoint).toMatchObject({ epoch: 2, sequence: 1, to: 3, chain: seals[1]?.head.chain, kept: [1] });
  const [run] = latest?.checkpoint.runs ?? [];
  expect((await collect(app.openRun(run ?? expect.fail()).rows())).flat()).toEqual(ROWS);
  expect(await app.tombedPacks()).toEqual(new Set([PACK]));
  expect(await app.isFenced(1)).toBe(true);
});
