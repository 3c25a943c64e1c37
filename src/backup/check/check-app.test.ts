import fs from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { SystemClock } from "../../base/clock.ts";
import { silentLog } from "../../base/log.ts";
import { SystemTimers } from "../../base/timers.ts";
import { MemoryBlobs } from "../../blob/testing/memory-blobs.ts";
import type { InodeId } from "../../domain/ids.ts";
import { type TestApp, TestApps } from "../../meta/reading/test-app.ts";
import { SystemTurns } from "../../meta/reading/turns.ts";
import type { AppRepository } from "../../repository/app-repository.ts";
import { packName } from "../../repository/chunk-place.ts";
import { Repository } from "../../repository/repository.ts";
import { RepositoryApp } from "../repository-app.ts";
import { SimpleShipper } from "../testing/simple-shipper.ts";
import { type CheckedApp, checkApp } from "./check-app.ts";
import type { Finding, TouchedFile } from "./finding.ts";
import { touchedFiles } from "./touched-files.ts";
import { unsealedEpoch } from "./unsealed-epoch.ts";

let apps: TestApps;
let original: TestApp;
let root: InodeId;
let store: MemoryBlobs;
let app: AppRepository;
let shipper: SimpleShipper;
const clock = new SystemClock();

beforeEach(async () => {
  apps = await TestApps.open({ segmentBytesMax: 64 * 1024 });
  original = await apps.app("shop");
  root = original.share("files").root;
  store = new MemoryBlobs();
  const repository = await Repository.init({ store, secret: { kind: "key-file", key: Buffer.alloc(32, 5) }, clock });
  app = await repository.createApp(original.app.id);
  shipper = new SimpleShipper(app);
});

afterEach(() => apps.close());

async function ship(text: string): Promise<void> {
  original.put(root, text, `${text} `.repeat(20_000));
  await shipper.ship(original.app, { folder: path.join(apps.folder, "shop") });
}

async function check(readPart = 1): Promise<CheckedApp & { readonly findings: readonly Finding[] }> {
  const findings: Finding[] = [];
  const checked = await checkApp({ app, readPart, random: () => 0, onFinding: (finding) => findings.push(finding) });
  return { ...checked, findings };
}

async function names(folder: string): Promise<string[]> {
  const found: string[] = [];
  for await (const page of store.list(`${app.prefix}${folder}/`)) found.push(...page.map(({ name }) => name));
  return found;
}

/** Puts other bytes in an object's place. */
async function replace(name: string, change: (bytes: Buffer) => Buffer): Promise<void> {
  const bytes = await store.get(name);
  await store.delete([name]);
  await store.put(name, [change(Buffer.from(bytes))]);
}

function flipped(at: number): (bytes: Buffer) => Buffer {
  return (bytes) => {
    const position = at < 0 ? bytes.length + at : at;
    bytes[position] = (bytes[position] ?? 0) ^ 1;
    return bytes;
  };
}

describe("a check", () => {
  test("finds nothing where nothing is wrong, and counts what it saw", async () => {
    await ship("one");
    await shipper.checkpoint();
    await ship("two");
    const { findings, counts, lostData } = await check();
    expect(findings).toEqual([]);
    expect(lostData.size).toBe(0);
    expect(counts).toMatchObject({ sealCount: 2, checkpointCount: 1, packCount: 2, packsRead: 2, unnamedPackCount: 0 });
  });

  test("that reads no data does not see a flipped byte in a pack; one that does names the pack", async () => {
    await ship("one");
    const [pack] = await names("packs");
    await replace(pack ?? "", flipped(100));
    expect((await check(0)).findings).toEqual([]);
    expect((await check(1)).findings).toMatchObject([{ severity: "damage", object: pack }]);
  });

  test("tells of a missing and of a cut pack without reading any", async () => {
    await ship("one");
    await ship("two");
    const [first, second] = await names("packs");
    await store.delete([first ?? ""]);
    await replace(second ?? "", (bytes) => bytes.subarray(0, 50));
    const { findings, lostData } = await check(0);
    expect(new Set(findings.map(({ object }) => object))).toEqual(new Set([first, second]));
    expect(lostData.size).toBeGreaterThan(1);
  });

  test("says which files at which times a lost pack touches", async () => {
    await ship("one");
    await ship("two");
    original.put(root, "one", "short");
    await shipper.ship(original.app, { folder: path.join(apps.folder, "shop") });
    await shipper.checkpoint();
    const lost = await firstPack();
    await store.delete([lost]);
    const { lostData } = await check(0);
    const cacheFolder = fs.mkdtempSync(path.join(tmpdir(), "tidemark-check-"));
    const opened = await RepositoryApp.open({ app, cacheFolder, clock, timers: new SystemTimers(), log: silentLog });
    try {
      const files: TouchedFile[] = [];
      for await (const file of touchedFiles(opened.app.core, lostData, new SystemTurns())) files.push(file);
      expect(new Set(files.map((file) => file.path.toString()))).toEqual(new Set(["files/one"]));
      expect(files.every(({ until }) => until !== undefined)).toBe(true);
    } finally {
      await opened.close();
      fs.rmSync(cacheFolder, { recursive: true });
    }
  });

  test("tells of a damaged, a missing and a swapped seal, and goes on behind it", async () => {
    for (const text of ["one", "two", "three", "four"]) await ship(text);
    const [, second, third, fourth] = await names("seals");
    const whole = await store.get(third ?? "");
    await replace(third ?? "", flipped(60));
    expect((await check(0)).findings).toMatchObject([{ severity: "damage", object: third }]);
    await replace(third ?? "", () => whole);
    await replace(second ?? "", () => whole);
    expect((await check(0)).findings).toMatchObject([{ severity: "damage", object: second }]);
    await store.delete([second ?? ""]);
    expect((await check(0)).findings).toMatchObject([{ severity: "damage", object: second }]);
    expect(fourth).toBeDefined();
  });

  test("tells of a damaged run and checkpoint", async () => {
    await ship("one");
    await shipper.checkpoint();
    const [run] = await names("runs");
    await replace(run ?? "", flipped(-200));
    expect((await check(0)).findings).toMatchObject([{ severity: "damage" }]);
    const [checkpoint] = await names("checkpoints");
    await replace(checkpoint ?? "", flipped(-1));
    const { findings } = await check(0);
    expect(findings.filter(({ object }) => object === checkpoint).length).toBeGreaterThan(0);
  });

  test("finds a single flipped bit anywhere in any object", async () => {
    await ship("one");
    await shipper.checkpoint();
    await ship("two");
    const all: string[] = [];
    for (const folder of ["packs", "seals", "runs", "checkpoints"]) all.push(...(await names(folder)));
    for (const name of all) {
      const bytes = await store.get(name);
      for (let round = 0; round < 8; round++) {
        const at = Math.floor((bytes.length * (round + 0.5)) / 8);
        await replace(name, flipped(at));
        const { findings } = await check();
        expect(findings.length, `${name} at byte ${at} of ${bytes.length}`).toBeGreaterThan(0);
        await replace(name, () => bytes);
      }
    }
    expect((await check()).findings).toEqual([]);
  });

  test("tells of seals that are gone: all of them, and those since a checkpoint", async () => {
    expect((await check(0)).findings).toMatchObject([{ severity: "note", object: app.prefix }]);
    await ship("one");
    const [seal = ""] = await names("seals");
    const bytes = await store.get(seal);
    await store.delete([seal]);
    expect((await check(0)).findings).toMatchObject([{ severity: "damage", object: `${app.prefix}seals/` }]);
    await store.put(seal, [bytes]);
    await shipper.checkpoint();
    await store.delete([seal]);
    expect((await check(0)).findings).toMatchObject([{ severity: "damage", object: seal }]);
  });

  test("begins what it finds with the name of the object", async () => {
    await ship("one");
    const [pack = ""] = await names("packs");
    await store.delete([pack]);
    for (const { object, message } of (await check(0)).findings) expect(message.startsWith(object)).toBe(true);
    expect((await check(0)).findings[0]?.message).toMatch(/^apps\/.*\/packs\/.*: this pack is missing/);
  });

  test("tells of an epoch that was begun and has neither a seal nor a base", async () => {
    await ship("one");
    expect(await unsealedEpoch(app)).toBeUndefined();
    const epoch = await app.claimEpoch({ host: "host", service: "service" });
    expect(await unsealedEpoch(app)).toMatch(new RegExp(`epochs/0000000${epoch}: epoch ${epoch} was begun`));
  });

  test("names packs that nothing names", async () => {
    await ship("one");
    const [pack] = await names("packs");
    await store.put(`${app.prefix}packs/00/${"0".repeat(32)}`, [await store.get(pack ?? "")]);
    expect((await check(0)).counts).toMatchObject({ packCount: 2, unnamedPackCount: 1 });
  });
});

/** The pack with the data that were shipped first. */
async function firstPack(): Promise<string> {
  for await (const seal of app.seals({ verify: "line" }))
    for (const { data } of seal.records())
      for (const { place } of data?.pieces ?? []) return packName(app.tag, place.pack);
  throw new Error("no data was shipped");
}
