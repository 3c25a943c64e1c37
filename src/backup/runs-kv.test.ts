import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { kvContract } from "../../test/contract/kv-contract.ts";
import { FaultyBlobs, flippedAt, withheld } from "../blob/testing/faulty-blobs.ts";
import { MemoryBlobs } from "../blob/testing/memory-blobs.ts";
import { seededRandom, testSeed } from "../journal/journal-fixture.ts";
import type { KvRange } from "../kv/kv-store.ts";
import { MemoryKv } from "../kv/memory-kv.ts";
import type { AppObjects } from "../repository/app-objects.ts";
import type { Row, RunRef } from "../repository/runs/run-codec.ts";
import { writeRun } from "../repository/runs/run-writer.ts";
import { appIn } from "../repository/seals-fixture.ts";
import { RunFiles } from "./run-files.ts";
import { RunsKv } from "./runs-kv.ts";

let folder: string;
let store: FaultyBlobs;
let objects: AppObjects;
let files: RunFiles;
let kv: RunsKv;

beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-runs-kv-"));
  store = new FaultyBlobs(new MemoryBlobs());
  ({ objects } = appIn(store));
  files = new RunFiles(path.join(folder, "runs"), objects);
  kv = new RunsKv({ over: new MemoryKv(), files, regions: REGIONS, directory: folder });
});
afterEach(async () => {
  await kv.close();
  fs.rmSync(folder, { recursive: true });
});

kvContract("RunsKv", async () => ({
  open: async () => {
    const runs = new RunFiles(path.join(os.tmpdir(), "tidemark-no-runs"), appIn(new MemoryBlobs()).objects);
    return new RunsKv({ over: new MemoryKv(), files: runs, regions: [], directory: "memory" });
  },
  dispose: async () => {},
}));

/** As those of an app's rows and of its archive: the keys of one region come all before those of the other, in the KV and in runs in different orders. */
const REGIONS = [
  { kv: Buffer.from("1/"), run: Buffer.from("R") },
  { kv: Buffer.from("2/d"), run: Buffer.from("D") },
];

const SPACE = 400;
const keyAt = (number: number): Buffer => {
  const digits = String(number).padStart(4, "0");
  return Buffer.from(number % 2 === 0 ? `1/${digits}` : `2/d${digits}`);
};
const inRun = (key: Buffer): Buffer => {
  const region = REGIONS.find(({ kv: prefix }) => key.subarray(0, prefix.length).equals(prefix));
  return Buffer.concat([region?.run ?? Buffer.alloc(0), key.subarray(region?.kv.length)]);
};

/** Parts and blocks so small that there are many of them. */
const SMALL = { partBytesTarget: 2000, blockBytesTarget: 150 };

const runOf = (rows: ReadonlyMap<string, string | null>): Promise<RunRef> => {
  const sorted: Row[] = [...rows]
    .map(([key, value]) => ({ key: inRun(Buffer.from(key)), value: value === null ? null : Buffer.from(value) }))
    .sort((a, b) => Buffer.compare(a.key, b.key));
  return writeRun(objects, [sorted], SMALL);
};

/** What a range means, of rows in a map. */
function expected(model: ReadonlyMap<string, string>, range: KvRange): string[] {
  const above = (key: Buffer): boolean =>
    (range.gte === undefined || Buffer.compare(key, range.gte) >= 0) &&
    (range.gt === undefined || Buffer.compare(key, range.gt) > 0);
  const below = (key: Buffer): boolean =>
    (range.lt === undefined || Buffer.compare(key, range.lt) < 0) &&
    (range.lte === undefined || Buffer.compare(key, range.lte) <= 0);
  const keys = [...model.keys()].filter((key) => above(Buffer.from(key)) && below(Buffer.from(key))).sort();
  if (range.reverse === true) keys.reverse();
  const rows: string[] = [];
  let bytes = 0;
  for (const key of keys) {
    const value = model.get(key) ?? "";
    rows.push(`${key}=${value}`);
    bytes += key.length + value.length;
    if (rows.length === range.limit || bytes >= (range.bytesMax ?? Number.POSITIVE_INFINITY)) break;
  }
  return rows;
}

test("runs over one another, and what came since, read as one store, whatever is asked for", async () => {
  const random = seededRandom(testSeed("rows over runs"));
  const below = (count: number): number => Math.floor(random() * count);
  const model = new Map<string, string>();
  const change = (value: string): [string, string | null] => {
    const key = keyAt(below(SPACE)).toString();
    const gone = random() < 0.25;
    if (gone) model.delete(key);
    else model.set(key, value);
    return [key, gone ? null : value];
  };
  const runs: RunRef[] = [];
  for (const [age, count] of [600, 150, 40].entries()) {
    const rows = new Map<string, string | null>();
    for (let each = 0; each < count; each++) {
      const [key, value] = change(`run ${age} ${each}`);
      rows.set(key, value);
    }
    runs.unshift(await runOf(rows));
  }
  await kv.use(runs);
  for (let round = 0; round < 400; round++) {
    if (random() < 0.3) {
      const [key, value] = change(`since ${round}`);
      const name = Buffer.from(key);
      await kv.batch([
        value === null ? { type: "del", key: name } : { type: "put", key: name, value: Buffer.from(value) },
      ]);
    }
    const bound = (): Buffer => (random() < 0.2 ? Buffer.from(random() < 0.5 ? "1" : "2/z") : keyAt(below(SPACE + 20)));
    const range: KvRange = {
      ...(random() < 0.5 ? { gte: bound() } : { gt: bound() }),
      ...(random() < 0.5 ? { lt: bound() } : { lte: bound() }),
      reverse: random() < 0.5,
      limit: 1 + below(random() < 0.5 ? 4 : 300),
      ...(random() < 0.3 ? { bytesMax: 1 + below(400) } : {}),
    };
    expect(kv.rangeSync(range).map(({ key, value }) => `${key}=${value}`)).toEqual(expected(model, range));
    const keys = Array.from({ length: 5 }, () => keyAt(below(SPACE)));
    const wanted = keys.map((key) => model.get(key.toString()));
    expect(kv.getManySync(keys).map((value) => value?.toString())).toEqual(wanted);
    expect(keys.map((key) => kv.getSync(key)?.toString())).toEqual(wanted);
  }
  await kv.deleteRange({ gte: Buffer.from("1"), lt: Buffer.from("3") });
  expect(kv.rangeSync({ limit: 10 })).toEqual([]);
});

test("what is read may be changed by who reads it", async () => {
  await kv.use([await runOf(new Map([["1/0001", "one"]]))]);
  kv.getSync(Buffer.from("1/0001"))?.fill(0);
  kv.rangeSync({ limit: 1 })[0]?.value.fill(0);
  expect(kv.getSync(Buffer.from("1/0001"))?.toString()).toBe("one");
});

test("parts are fetched once, and those of no run removed", async () => {
  const first = await runOf(new Map([["1/0001", "one"]]));
  const second = await runOf(new Map([["1/0002", "two"]]));
  await kv.use([first]);
  for (const { id } of [first, second].flatMap(({ parts }) => parts)) store.alter(objects.name("runs", id), withheld());
  await kv.use([first]);
  await expect(kv.use([second, first])).rejects.toMatchObject({ code: "REPOSITORY_DAMAGED" });
  expect(kv.getSync(Buffer.from("1/0001"))?.toString()).toBe("one");
});

test("a damaged object is told when it is fetched, a damaged copy when it is read; discarded, it is fetched again", async () => {
  const run = await runOf(new Map([["1/0001", "one"]]));
  const name = run.parts[0]?.id ?? "";
  const file = path.join(folder, "runs", name);
  store.alter(objects.name("runs", name), flippedAt(60));
  await expect(kv.use([run])).rejects.toMatchObject({ code: "REPOSITORY_DAMAGED" });
  store.heal();
  expect(fs.existsSync(file)).toBe(false);
  await kv.use([run]);
  const bytes = fs.readFileSync(file);
  bytes.writeUInt8(bytes.readUInt8(60) ^ 1, 60);
  fs.writeFileSync(file, bytes);
  expect(() => kv.getSync(Buffer.from("1/0001"))).toThrow(expect.objectContaining({ code: "KV_CORRUPT" }));
  kv.discard();
  await kv.use([run]);
  expect(kv.getSync(Buffer.from("1/0001"))?.toString()).toBe("one");
});
