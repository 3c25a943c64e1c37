import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ManualTimers } from "../../base/timers.ts";
import type { BlobStore } from "../../blob/blob-store.ts";
import { randomBytesOf, seededRandom, testSeed } from "../../journal/journal-fixture.ts";
import { segmentName } from "../../journal/segment-file.ts";
import { MemoryKv } from "../../kv/memory-kv.ts";
import { type PackId, packName } from "../../repository/chunk-place.ts";
import { checkApp } from "../check/check-app.ts";
import type { Finding } from "../check/finding.ts";
import { DESCRIBED, ShipFixture, SMALL_SEALS } from "../ship-fixture.ts";
import { verifyMaterialised } from "../ship-verify-fixture.ts";
import { Shipper } from "../shipper.ts";
import type { RepairReport } from "./repair-report.ts";

let fixture: ShipFixture;
let shipper: Shipper;
let random: () => number;

beforeEach(async () => {
  random = seededRandom(testSeed("repair"));
  fixture = await ShipFixture.open({ limits: SMALL_SEALS });
  shipper = begin();
});

afterEach(async () => {
  await shipper.stop();
  await fixture[Symbol.asyncDispose]();
});

function begin(options: Parameters<ShipFixture["engine"]>[0] = {}): Shipper {
  const begun = new Shipper({
    app: fixture.app,
    backend: fixture.engine(options),
    everyMs: 60_000,
    onBacklog: "serve",
    describe: () => DESCRIBED,
    shippedMark: fixture.app.core.lastLsn,
    clock: fixture.apps.clock,
    timers: new ManualTimers(),
    log: fixture.log,
    random: () => 0.5,
  });
  begun.start();
  return begun;
}

/** A few seals of files, of which some change. */
async function change(round: number): Promise<void> {
  const { test: app, root } = fixture;
  for (let file = 0; file < 12; file++) {
    app.put(root, `f${round}-${file}`, "");
    app.write(root, `f${round}-${file}`, randomBytesOf(random, 5000));
  }
  if (round > 0) app.write(root, `f${round - 1}-1`, Buffer.from(`changed in ${round}`));
  if (round > 0) app.unlink(root, `f${round - 1}-2`);
  await app.settle();
  await shipper.now();
}

async function history(): Promise<void> {
  await change(0);
  await change(1);
  await shipper.checkpointNow();
  await change(2);
}

async function names(folder: string): Promise<string[]> {
  const found: string[] = [];
  for await (const page of fixture.store.list(`apps/${fixture.keys.tag}/${folder}/`))
    found.push(...page.map(({ name }) => name));
  return found;
}

async function replace(name: string, changed: (bytes: Buffer) => Buffer): Promise<void> {
  const store: BlobStore = fixture.store;
  const bytes = await store.get(name);
  await store.delete([name]);
  await store.put(name, [changed(Buffer.from(bytes))]);
}

function flip(at: (length: number) => number): (bytes: Buffer) => Buffer {
  return (bytes) => {
    const position = at(bytes.length);
    bytes[position] = (bytes[position] ?? 0) ^ 1;
    return bytes;
  };
}

async function damages(): Promise<Finding[]> {
  const found: Finding[] = [];
  const app = fixture.repository();
  await checkApp({ app, readPart: 1, random: () => 0, onFinding: (finding) => found.push(finding) });
  return found.filter(({ severity }) => severity === "damage");
}

async function expectWhole(): Promise<void> {
  expect(await damages()).toEqual([]);
  await fixture.test.settle();
  const { kv } = fixture.apps;
  expect(await verifyMaterialised(fixture.repository(), fixture.app, { kv })).toBe(fixture.app.core.lastLsn);
}

async function repair(): Promise<RepairReport> {
  const report = await shipper.repair({ readPart: 1, isPlan: false });
  await fixture.test.settle();
  return report;
}

test("nothing is written where nothing is wrong", async () => {
  await history();
  const before = await names("checkpoints");
  expect(await repair()).toMatchObject({ findings: [], rows: "whole", lostBytes: 0, restoredBytes: 0, missing: [] });
  expect(await names("checkpoints")).toEqual(before);
});

test("data of packs that are flipped, cut and missing are written anew from the journal", async () => {
  await history();
  const packs = await names("packs");
  expect(packs.length).toBeGreaterThan(5);
  await replace(
    packs[0] ?? "",
    flip((length) => Math.floor(length / 2)),
  );
  await replace(packs[1] ?? "", (bytes) => bytes.subarray(0, 500));
  await fixture.store.delete([packs[2] ?? ""]);
  const found = await damages();
  expect(new Set(found.map(({ object }) => object))).toEqual(new Set(packs.slice(0, 3)));
  const plan = await shipper.repair({ readPart: 1, isPlan: true });
  expect(plan).toMatchObject({ rows: "whole", lostPackCount: 3, restoredBytes: 0 });
  expect(plan.lostBytes).toBeGreaterThan(10_000);
  expect(await damages()).toEqual(found);
  const report = await repair();
  expect(report).toMatchObject({ lostBytes: plan.lostBytes, restoredBytes: plan.lostBytes, missing: [] });
  await expectWhole();
  expect(await names("packs")).toEqual(expect.arrayContaining([packs[0], packs[1]]));
});

test("what comes after a repair is not looked for in the damaged pack, also after a restart", async () => {
  const { test: app, root } = fixture;
  const bytes = randomBytesOf(random, 30_000);
  app.put(root, "one", "");
  app.write(root, "one", bytes);
  await shipper.now();
  const [pack] = await names("packs");
  await replace(
    pack ?? "",
    flip(() => 100),
  );
  await repair();
  app.put(root, "two", "");
  app.write(root, "two", bytes);
  await shipper.now();
  await shipper.stop();
  shipper = begin();
  await shipper.checkpointNow();
  await shipper.stop();
  shipper = begin({ index: new MemoryKv() });
  app.put(root, "three", "");
  app.write(root, "three", bytes);
  await shipper.now();
  await expectWhole();
  await shipper.checkpointNow();
  await expectWhole();
});

test("a damaged newest checkpoint, a damaged run and a missing one are made good by a new checkpoint", async () => {
  await history();
  await shipper.checkpointNow();
  const [checkpoint] = (await names("checkpoints")).slice(-1);
  await replace(
    checkpoint ?? "",
    flip((length) => length - 5),
  );
  await shipper.repair({ readPart: 0, isPlan: false });
  await expectWhole();
  for (const run of await names("runs"))
    await replace(
      run,
      flip((length) => length - 30),
    );
  expect((await damages()).length).toBeGreaterThan(0);
  expect(await repair()).toMatchObject({ rows: "checkpoint" });
  await expectWhole();
  await fixture.store.delete(await names("runs"));
  await repair();
  await expectWhole();
  await change(3);
  await shipper.checkpointNow();
  await expectWhole();
});

test("a damaged seal, a missing one and one in another's place are made good from the journal, wherever they are", async () => {
  await history();
  const seals = await names("seals");
  expect(seals.length).toBeGreaterThan(4);
  const newest = seals.length - 1;
  await replace(
    seals[newest] ?? "",
    flip((length) => length - 40),
  );
  await fixture.store.delete([seals[newest - 1] ?? ""]);
  expect((await damages()).length).toBeGreaterThan(0);
  expect(await repair()).toMatchObject({ rows: "checkpoint" });
  await expectWhole();
  await change(3);
  const later = await names("seals");
  const other = await fixture.store.get(later.at(-2) ?? "");
  await replace(later.at(-1) ?? "", () => Buffer.from(other));
  await repair();
  await expectWhole();
  // Not after a start either: the line ends with a seal that is whole.
  await shipper.stop();
  shipper = begin({ index: new MemoryKv() });
  await change(4);
  await expectWhole();
});

test("packs, seals and the checkpoint at once", async () => {
  await history();
  const [seals, packs, runs] = [await names("seals"), await names("packs"), await names("runs")];
  await fixture.store.delete([packs[3] ?? "", runs[0] ?? "", seals.at(-2) ?? ""]);
  for (const pack of packs.slice(4, 7))
    await replace(
      pack,
      flip((length) => length - 12),
    );
  const report = await repair();
  expect(report.missing).toEqual([]);
  expect(report.restoredBytes).toBeGreaterThan(0);
  await expectWhole();
});

test("without the oldest seals and any run, rows come from the journal", async () => {
  await history();
  await fixture.store.delete([...(await names("runs")), ...(await names("seals")).slice(0, 2)]);
  expect((await damages()).length).toBeGreaterThan(0);
  expect(await repair()).toMatchObject({ rows: "checkpoint" });
  await expectWhole();
});

test("rows of a pruned app that can't be read are shipped anew as a base, and later ones behind it", async () => {
  await history();
  const repository = fixture.repository();
  await shipper.checkpointNow();
  const latest = await repository.latestCheckpoint();
  if (latest === null) throw new Error("there is a checkpoint");
  await repository.publishCheckpoint({ ...latest.checkpoint, pruning: { count: 1, policy: null, inherited: [] } });
  for (const run of await names("runs"))
    await replace(
      run,
      flip((length) => length - 30),
    );
  const [pack] = await names("packs");
  await fixture.store.delete([pack ?? ""]);
  expect(await repair()).toMatchObject({ rows: "base" });
  await expectWhole();
  await change(3);
  await shipper.checkpointNow();
  await expectWhole();
});

test("any objects, damaged in any way, again and again: after each repair all of it can be read", {
  timeout: 60_000,
}, async () => {
  const pick = (length: number): number => Math.floor(random() * length);
  for (let round = 0; round < 12; round++) {
    await change(round);
    if (random() < 0.5) await shipper.checkpointNow();
    if (random() < 0.3) {
      await shipper.stop();
      shipper = begin(random() < 0.5 ? {} : { index: new MemoryKv() });
      await shipper.now();
    }
    const told: string[] = [];
    for (let count = 1 + pick(5); count > 0; count--) {
      const kind = ["packs", "seals", "runs", "checkpoints"][pick(4)] ?? "";
      const all = await names(kind);
      const name = all[random() < 0.5 ? pick(all.length) : all.length - 1];
      if (name === undefined) continue;
      const way = pick(4);
      told.push(`${way} ${name}`);
      const other = await fixture.store.get(all[pick(all.length)] ?? name);
      if (way === 0) await fixture.store.delete([name]);
      else if (way === 1) await replace(name, (bytes) => bytes.subarray(0, pick(bytes.length)));
      else if (way === 2) await replace(name, flip(pick));
      else await replace(name, () => Buffer.from(other));
    }
    const report = await repair();
    expect(report.missing, told.join("\n")).toEqual([]);
    expect(await damages(), `${report.rows}\n${told.join("\n")}`).toEqual([]);
    await expectWhole();
  }
});

test("data that this machine hasn't any more either are told, and the rest is repaired", async () => {
  await history();
  const { journalFolder } = fixture;
  const [segment] = fixture.app.journal.segments();
  if (segment === undefined) throw new Error("there is a segment");
  const file = path.join(journalFolder, segmentName(segment.segment));
  const bytes = readFileSync(file);
  const seal = await fixture.repository().readSeal({ epoch: 1, sequence: 1 });
  const first = [...seal.records()].find(({ data }) => (data?.pieces.length ?? 0) > 0);
  const own = packName(fixture.keys.tag, first?.data?.pieces[0]?.place.pack ?? ("" as PackId));
  const other = (await names("packs")).filter((name) => name !== own)[0] ?? "";
  await fixture.store.delete([own, other]);
  const at = (first?.data?.dataStart ?? 0) + 10;
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  writeFileSync(file, bytes);
  const report = await repair();
  expect(report.missing).toEqual([`${first?.data?.segment}:${first?.data?.dataStart}`]);
  expect(report.restoredBytes).toBeGreaterThan(0);
  expect(report.lostBytes).toBeGreaterThan(report.restoredBytes);
  expect((await damages()).map(({ object }) => object)).toEqual([own]);
});
