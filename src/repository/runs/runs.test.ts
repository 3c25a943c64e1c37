import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { CountingBlobs } from "../../blob/counting-blobs.ts";
import { FaultyBlobs, flippedAt, replacedBy, truncatedTo, withheld } from "../../blob/testing/faulty-blobs.ts";
import { MemoryBlobs } from "../../blob/testing/memory-blobs.ts";
import { ManualClock, randomBytesOf, seededRandom, testSeed } from "../../journal/journal-fixture.ts";
import { AppObjects } from "../app-objects.ts";
import { countingFill, keysOf } from "../packs-fixture.ts";
import { appIn, collect, namesIn } from "../seals-fixture.ts";
import { mergeRows } from "./merge.ts";
import { levelOf, planMerge, RUNS_MAX } from "./plan-merge.ts";
import { type Row, type RunRef, readRunRef } from "./run-codec.ts";
import { RunReader } from "./run-reader.ts";
import { writeRun } from "./run-writer.ts";

const GOLDEN = fileURLToPath(new URL("../golden/run-v1.bin", import.meta.url));

const key = (number: number) => Buffer.from(`key ${String(number).padStart(6, "0")}`);
const rowOf = (number: number, value: string | null = `value ${number}`): Row => ({
  key: key(number),
  value: value === null ? null : Buffer.from(value),
});

function rowsOf(count: number): Row[] {
  return Array.from({ length: count }, (_, number) => rowOf(number, number % 7 === 3 ? null : `value ${number}`));
}

function batched(rows: readonly Row[], size: number): Row[][] {
  const batches: Row[][] = [];
  for (let at = 0; at < rows.length; at += size) batches.push(rows.slice(at, at + size));
  return batches;
}

/** The rows as plain data. */
const plain = (rows: readonly Row[]) => rows.map((row) => [row.key.toString("hex"), row.value?.toString("hex")]);

async function rowsIn(reader: RunReader, range = {}): Promise<Row[]> {
  const rows: Row[] = [];
  for await (const batch of reader.rows(range)) rows.push(...batch);
  return rows;
}

/** Parts and blocks so small that there are many of them. */
const SMALL = { partBytesTarget: 3000, blockBytesTarget: 200 };

async function smallRun(rows: readonly Row[]) {
  const store = new FaultyBlobs(new MemoryBlobs());
  const objects = appIn(store).objects;
  const ref = await writeRun(objects, batched(rows, 37), SMALL);
  return { store, objects, ref, reader: new RunReader(objects, ref) };
}

test("rows come back in order, over blocks and parts", async () => {
  const rows = rowsOf(2000);
  const { ref, reader } = await smallRun(rows);
  expect(ref.parts.length).toBeGreaterThan(3);
  expect(ref.rows).toBe(2000);
  expect(plain(await rowsIn(reader))).toEqual(plain(rows));
});

test("a range of keys is read, from any key to any other", async () => {
  const rows = rowsOf(1000);
  const { reader } = await smallRun(rows);
  const random = seededRandom(testSeed("run ranges"));
  for (let round = 0; round < 60; round++) {
    const [from, to] = [Math.floor(random() * 1100) - 50, Math.floor(random() * 1100) - 50];
    const half = (number: number) => Buffer.concat([key(Math.max(0, number)), Buffer.alloc(number % 2 === 0 ? 0 : 1)]);
    const range = { from: half(from), to: half(to) };
    const wanted = rows.filter(
      (row) => Buffer.compare(row.key, range.from) >= 0 && Buffer.compare(row.key, range.to) < 0,
    );
    expect(plain(await rowsIn(reader, range))).toEqual(plain(wanted));
  }
  expect((await rowsIn(reader, { from: key(990) })).length).toBe(10);
  expect(await rowsIn(reader, { from: Buffer.from("z") })).toEqual([]);
  expect(await rowsIn(reader, { to: Buffer.from("a") })).toEqual([]);
});

test("one row is found by its key: its value, that it is deleted, or that it is not there", async () => {
  const { reader } = await smallRun(rowsOf(1000));
  for (const number of [0, 1, 499, 999]) expect((await reader.get(key(number)))?.toString()).toBe(`value ${number}`);
  expect(await reader.get(key(10))).toBeNull();
  for (const absent of [Buffer.from("a"), Buffer.from("z"), Buffer.concat([key(5), Buffer.of(0)])])
    expect(await reader.get(absent)).toBeUndefined();
});

test("one row costs two requests, the next one in the neighbourhood one", async () => {
  const store = new CountingBlobs(new MemoryBlobs());
  const objects = appIn(store).objects;
  const reader = new RunReader(objects, await writeRun(objects, [rowsOf(10_000)]));
  const before = store.counters.gets;
  await reader.get(key(5000));
  expect(store.counters.gets - before).toBe(2);
  await reader.get(key(5001));
  expect(store.counters.gets - before).toBe(3);
});

test("an empty run has no objects", async () => {
  const { ref, reader, store } = await smallRun([]);
  expect([ref.parts, ref.rows, await rowsIn(reader), await reader.get(key(1)), await namesIn(store)]).toEqual([
    [],
    0,
    [],
    undefined,
    [],
  ]);
});

test("rows longer than a frame are kept whole", async () => {
  const random = seededRandom(3);
  const rows = [0, 1, 2_500_000, 70_000, 1_048_576].map((length, index) => ({
    key: Buffer.concat([Buffer.of(index), Buffer.alloc(index * 10_000)]),
    value: randomBytesOf(random, length),
  }));
  const objects = appIn(new MemoryBlobs()).objects;
  const reader = new RunReader(objects, await writeRun(objects, [rows]));
  expect(plain(await rowsIn(reader))).toEqual(plain(rows));
  expect((await reader.get(rows[2]?.key ?? expect.fail()))?.length).toBe(2_500_000);
});

test("an index of long keys stays within a frame: a part is closed before", async () => {
  const rows = Array.from({ length: 60 }, (_, index) => ({
    key: Buffer.concat([Buffer.of(index), Buffer.alloc(60_000)]),
    value: Buffer.alloc(10),
  }));
  const objects = appIn(new MemoryBlobs()).objects;
  const ref = await writeRun(objects, [rows], { blockBytesTarget: 1 });
  expect(ref.parts.length).toBeGreaterThan(2);
  expect(plain(await rowsIn(new RunReader(objects, ref)))).toEqual(plain(rows));
});

test("rows that do not ascend are a defect of the writer", async () => {
  const objects = appIn(new MemoryBlobs()).objects;
  await expect(writeRun(objects, [[rowOf(2)], [rowOf(2)]])).rejects.toThrow("ascend");
  await expect(writeRun(objects, [[rowOf(2), rowOf(1)]])).rejects.toThrow("ascend");
});

describe("damage", () => {
  const damagedAt = (name: string) =>
    expect.objectContaining({ code: "REPOSITORY_DAMAGED", data: expect.objectContaining({ object: name }) });

  test("of any byte is found when it is read", async () => {
    const rows = rowsOf(60);
    const { objects, store, ref } = await smallRun(rows);
    const [part] = ref.parts;
    const name = objects.name("runs", part?.id);
    for (let at = 0; at < (part?.bytes ?? 0); at += 1) {
      store.alter(name, flippedAt(at));
      await expect(rowsIn(new RunReader(objects, ref)), `byte ${at}`).rejects.toMatchObject({
        code: expect.stringMatching(/^REPOSITORY_(DAMAGED|NEWER)$/),
      });
    }
  });

  test("by cutting, taking away, or putting another in its place is found", async () => {
    const { objects, store, ref } = await smallRun(rowsOf(2000));
    const [first, second] = ref.parts.map(({ id }) => objects.name("runs", id));
    for (const name of [first ?? "", second ?? ""]) {
      for (const change of [
        truncatedTo(100),
        truncatedTo(10),
        withheld(),
        replacedBy(await store.get(name === first ? (second ?? "") : (first ?? ""))),
      ]) {
        store.alter(name, change);
        await expect(rowsIn(new RunReader(objects, ref))).rejects.toThrow(damagedAt(name));
        store.heal();
      }
    }
  });

  test("of a part that is not asked for does not hinder", async () => {
    const { objects, store, ref } = await smallRun(rowsOf(2000));
    store.alter(objects.name("runs", ref.parts[0]?.id), withheld());
    expect((await rowsIn(new RunReader(objects, ref), { from: key(1900) })).length).toBe(100);
  });

  test("of a reference in a checkpoint is refused", () => {
    const ref: RunRef = {
      level: 0,
      rows: 3,
      bytes: 9,
      parts: [{ id: "ab".repeat(16), rows: 3, bytes: 9, firstKey: "00" }],
    };
    expect(readRunRef(JSON.parse(JSON.stringify(ref)))).toEqual(ref);
    for (const wrong of [{ rows: 4 }, { bytes: -1 }, { parts: [{}] }, { parts: null }])
      expect(() => readRunRef({ ...ref, ...wrong })).toThrow(RangeError);
  });
});

test("a store that can't be reached is not taken for damage", async () => {
  const { objects, store, ref } = await smallRun(rowsOf(100));
  store.inject({ operation: "get", nth: 2, times: 100, effect: { kind: "fail" } });
  await expect(rowsIn(new RunReader(objects, ref))).rejects.toMatchObject({ code: "BLOB_UNREACHABLE" });
});

describe("merging", () => {
  const merged = async (sources: readonly Row[][], dropDeleted = false) =>
    (
      await collect(
        mergeRows(
          sources.map((rows, index) => batched(rows, 1 + index * 3)),
          { dropDeleted },
        ),
      )
    ).flat();

  test("of equal keys the newest counts", async () => {
    const newest = [rowOf(1, "new"), rowOf(3, null)];
    const older = [rowOf(1, "old"), rowOf(2, "old"), rowOf(3, "old")];
    const oldest = [rowOf(0, "oldest"), rowOf(1, "oldest"), rowOf(2, null)];
    const rows = [rowOf(0, "oldest"), rowOf(1, "new"), rowOf(2, "old"), rowOf(3, null)];
    expect(plain(await merged([newest, older, oldest]))).toEqual(plain(rows));
    expect(plain(await merged([newest, older, oldest], true))).toEqual(plain(rows.slice(0, 3)));
  });

  test("of nothing is nothing", async () => {
    expect(await merged([])).toEqual([]);
    expect(await merged([[], [], []])).toEqual([]);
  });

  test("is what a map says, for any runs", async () => {
    const random = seededRandom(testSeed("merge"));
    for (let round = 0; round < 30; round++) {
      const sources = Array.from({ length: Math.floor(random() * 12) }, () => {
        const numbers = new Set(Array.from({ length: Math.floor(random() * 100) }, () => Math.floor(random() * 150)));
        return [...numbers]
          .sort((left, right) => left - right)
          .map((number) => rowOf(number, random() < 0.3 ? null : `${random()}`));
      });
      const map = new Map<string, Row>();
      for (const rows of sources.toReversed()) for (const row of rows) map.set(row.key.toString(), row);
      const wanted = [...map.values()].sort((left, right) => Buffer.compare(left.key, right.key));
      expect(plain(await merged(sources))).toEqual(plain(wanted));
      expect(plain(await merged(sources, true))).toEqual(plain(wanted.filter(({ value }) => value !== null)));
    }
  });

  test("ends its sources when it is ended, and when one of them fails", async () => {
    let ended = 0;
    const source = async function* (fails: boolean) {
      try {
        yield [rowOf(1)];
        if (fails) throw new Error("broken");
        yield rowsOf(2000).slice(2);
        yield [rowOf(3000)];
      } finally {
        ended++;
      }
    };
    for await (const _ of mergeRows([source(false), source(false)], { dropDeleted: false })) break;
    expect(ended).toBe(2);
    await expect(collect(mergeRows([source(false), source(true)], { dropDeleted: false }))).rejects.toThrow("broken");
    expect(ended).toBe(4);
  });
});

describe("the plan of merges", () => {
  test("follows from lengths", () => {
    expect([0, 1, 2 ** 20, 2 ** 20 + 1, 2 ** 23, 2 ** 23 + 1].map(levelOf)).toEqual([0, 0, 0, 1, 1, 2]);
    const mebibytes = (...all: number[]) => all.map((size) => ({ bytes: size * 2 ** 20 }));
    expect(planMerge([])).toBeNull();
    expect(planMerge(mebibytes(1, 1, 1, 1, 1, 1, 1))).toBeNull();
    expect(planMerge(mebibytes(1, 1, 1, 1, 1, 1, 1, 1))).toEqual({ count: 8, dropDeleted: true });
    expect(planMerge(mebibytes(1, 1, 1, 1, 1, 1, 1, 1, 100))).toEqual({ count: 8, dropDeleted: false });
    // The smallest ones count as 1 MiB, or eight of them would wait for each other for ever.
    expect(planMerge(mebibytes(0, 1, 0, 1, 0.5, 0, 0, 0))).toEqual({ count: 8, dropDeleted: true });
    expect(planMerge(mebibytes(1, 10, 10, 10, 10, 10, 10, 10, 10, 100))).toEqual({ count: 9, dropDeleted: false });
    // Short ones below a long one wait until it is merged.
    expect(planMerge(mebibytes(64, 1, 1, 1, 1, 1, 1, 1, 1))).toBeNull();
  });

  test.each([
    ["a little at a time", () => 40_000],
    ["of any length", (random: () => number) => 2 ** (10 + 18 * random())],
    ["much at first", (_: () => number, round: number) => (round < 20 ? 8_000_000 : 50_000)],
    ["ever more, then little again", (_: () => number, round: number) => 2 ** (10 + (round % 19))],
    ["large and small in turn", (random: () => number) => (random() < 0.5 ? 60_000_000 : 10_000)],
  ])("keeps runs few and writes each byte a few times: %s", (_, next) => {
    const random = seededRandom(7);
    let runs: { bytes: number }[] = [];
    let added = 0;
    let written = 0;
    for (let round = 0; round < 5000; round++) {
      const bytes = next(random, round);
      added += bytes;
      written += bytes;
      runs = [{ bytes }, ...runs];
      for (let plan = planMerge(runs); plan !== null; plan = planMerge(runs)) {
        const sum = runs.slice(0, plan.count).reduce((total, run) => total + run.bytes, 0);
        written += sum;
        runs = [{ bytes: sum }, ...runs.slice(plan.count)];
      }
      expect(runs.length).toBeLessThanOrEqual(RUNS_MAX);
    }
    expect(written / added).toBeLessThan(8);
  });
});

test("the sample of version 1 is read as it was written", async () => {
  const store = new MemoryBlobs();
  const objects = new AppObjects({
    keys: keysOf(),
    lockDays: undefined,
    store,
    clock: new ManualClock(),
    fill: countingFill("golden run"),
  });
  const rows = rowsOf(100);
  const ref = await writeRun(objects, [rows], { blockBytesTarget: 500 });
  const name = objects.name("runs", ref.parts[0]?.id);
  if (!existsSync(GOLDEN)) {
    expect(process.env["WRITE_GOLDEN"]).toBe("1");
    writeFileSync(GOLDEN, await store.get(name));
  }
  const bytes = readFileSync(GOLDEN);
  await store.delete([name]);
  await store.put(name, [bytes]);
  const parts = ref.parts.map((part) => ({ ...part, bytes: bytes.length }));
  expect(plain(await rowsIn(new RunReader(objects, { ...ref, bytes: bytes.length, parts })))).toEqual(plain(rows));
});
