import fs from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { dumpTree } from "../../test/crash/engine-dump.ts";
import { Random } from "../../test/model/random.ts";
import { compareTimestamps, type Timestamp } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { SystemTimers } from "../base/timers.ts";
import { FaultyBlobs } from "../blob/testing/faulty-blobs.ts";
import { MemoryBlobs } from "../blob/testing/memory-blobs.ts";
import { LIVE, type Lsn } from "../domain/ids.ts";
import { keptTimes, type RetentionPolicy } from "../domain/retention.ts";
import { SERVICE_CONTEXT } from "../meta/open-app.ts";
import { addSnapshot, removeSnapshot } from "../meta/reading/snapshot-rows.ts";
import { gridRows } from "../meta/space/grid.ts";
import { type PruneOptions, type PruneReport, type PruneStep, pruneApp } from "./prune.ts";
import { RepositoryApp } from "./repository-app.ts";
import type { ShipEngine } from "./ship-engine.ts";
import { ShipFixture, SMALL_SEALS } from "./ship-fixture.ts";

const HOUR_NS = 3_600_000_000_000;
const DAY_MS = 86_400_000;
const POLICY: RetentionPolicy = { continuousMs: 2 * DAY_MS, hourly: 0, daily: 7, weekly: 3, monthly: 2, yearly: 0 };

type Past = { readonly lsn: Lsn; readonly time: Timestamp };

let fixture: ShipFixture;
let engine: ShipEngine;
let store: FaultyBlobs;
let folder: string;
let past: Past[];
let scratchCount: number;

beforeEach(async () => {
  const late: { clock?: ShipFixture["apps"]["clock"] } = {};
  const clock = {
    now: () => late.clock?.now() ?? { sec: 1_700_000_000, nsec: 0 },
    monotonicMs: () => late.clock?.monotonicMs() ?? 0,
  };
  store = new FaultyBlobs(new MemoryBlobs({ clock }));
  fixture = await ShipFixture.open({ store, limits: SMALL_SEALS });
  late.clock = fixture.apps.clock;
  folder = fs.mkdtempSync(path.join(tmpdir(), "tidemark-prune-"));
  past = [];
  scratchCount = 0;
  engine = fixture.engine();
  await engine.start(await fixture.target());
});

afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
  fs.rmSync(folder, { recursive: true, force: true });
});

/** Days of changes, of which only the last of each file is the present, shipped every other day. */
async function days(count: number, random = new Random(7)): Promise<void> {
  for (let day = 0; day < count; day++) {
    for (let round = 0; round < 3; round++) {
      fixture.apps.clock.step(8 * HOUR_NS);
      const name = random.pick(["a", "b", "c"]);
      fixture.test.put(fixture.root, name, `${past.length} `.repeat(500 + random.below(20_000)));
      past.push({ lsn: fixture.app.core.lastLsn, time: fixture.apps.clock.now() });
    }
    if (day % 2 === 1) await ship();
  }
  await ship();
}

async function ship(): Promise<void> {
  const target = await fixture.target();
  await engine.ship(target, () => {});
  await engine.checkpoint({ force: true, app: target.app });
}

function prune(options: Partial<PruneOptions> = {}): Promise<PruneReport> {
  const scratchFolder = path.join(folder, `scratch${scratchCount++}`);
  return pruneApp({
    app: fixture.repository(),
    scratchFolder,
    policy: POLICY,
    dryRun: false,
    clock: fixture.apps.clock,
    timers: new SystemTimers(),
    log: silentLog,
    ...options,
  });
}

async function names(): Promise<string[]> {
  const all: string[] = [];
  for await (const page of store.list("")) all.push(...page.map(({ name }) => name));
  return all;
}

async function bytes(): Promise<number> {
  let sum = 0;
  for await (const page of store.list("")) for (const each of page) sum += each.bytes;
  return sum;
}

/** Reads every kept moment, all its data, and compares it with the original. Answers how many moments below the floor there are. */
async function expectKept(cache = `cache${scratchCount++}`): Promise<number> {
  const opened = await RepositoryApp.open({
    app: fixture.repository(),
    cacheFolder: path.join(folder, cache),
    clock: fixture.apps.clock,
    timers: new SystemTimers(),
    log: silentLog,
  });
  try {
    const { core, engine: reader } = opened.app;
    const { floor } = core.moments;
    const same = async (at: Lsn): Promise<void> =>
      expect(await dumpTree(reader, fixture.root, at), `at ${at}`).toEqual(
        await dumpTree(fixture.app.engine, fixture.root, at),
      );
    for (const { lsn } of past) if (core.moments.isReadable(lsn)) await same(lsn);
    const grid = gridRows(opened.app.store);
    for (const { lsn } of grid) await same(lsn);
    await same(LIVE);
    const { turns, continuousFrom } = keptTimes(POLICY, fixture.apps.clock.now());
    if (floor === 0) return 0;
    const firstTime = past[0]?.time ?? { sec: 0, nsec: 0 };
    for (const turn of turns) {
      if (compareTimestamps(turn, firstTime) < 0) continue;
      const then = past.findLast(({ time }) => compareTimestamps(time, turn) <= 0)?.lsn ?? (0 as Lsn);
      // A snapshot's record may be the last one before a turn: it changes nothing.
      const lsn = grid.find((row) => row.turn.sec === turn.sec)?.lsn ?? then;
      expect(lsn).toBeGreaterThanOrEqual(then);
      expect(core.moments.isReadable(lsn), `the moment of ${turn.sec}`).toBe(true);
    }
    const isOld = ({ time }: Past) => continuousFrom !== undefined && compareTimestamps(time, continuousFrom) < 0;
    const kept = past.filter((each) => isOld(each) && each.lsn < floor && core.moments.isReadable(each.lsn));
    expect(kept.length).toBeLessThanOrEqual(turns.length + 3);
    return grid.length;
  } finally {
    await opened.close();
  }
}

const pass = (ms: number): void => fixture.apps.clock.step(ms * 1_000_000);

describe("pruning an app", () => {
  test("leaves the moments of the policy, exactly as they were, and gives room back after the grace", async () => {
    await days(40);
    const before = await bytes();
    const { plan } = await prune();
    expect(plan.writesBase).toBe(true);
    expect(plan.doomed.packs.count).toBeGreaterThan(0);
    expect(plan.doomed.seals.count).toBeGreaterThan(0);
    expect(await expectKept()).toBeGreaterThan(5);
    expect(await bytes()).toBeGreaterThanOrEqual(before);
    pass(DAY_MS + 1);
    const second = await prune();
    expect(second.executed?.deleted).toBeGreaterThan(10);
    expect(second.executed?.spared).toBe(0);
    await expectKept();
    pass(DAY_MS + 1);
    await prune();
    pass(DAY_MS + 1);
    await prune();
    expect(await bytes()).toBeLessThan(before / 2);
    await expectKept();
  });

  test("goes on while the app is shipped, again and again, and old moments leave as they age", async () => {
    const random = new Random(11);
    for (let round = 0; round < 5; round++) {
      await days(9, random);
      await prune();
      await expectKept();
    }
    expect(await expectKept("again")).toBeGreaterThan(5);
    await days(1, random);
    await prune();
    await expectKept("again");
    expect((await names()).filter((name) => name.includes("/checkpoints/")).length).toBeLessThan(8);
  });

  test("writes what lives of a pack anew when most of it is gone", async () => {
    const random = new Random(3);
    for (let file = 0; file < 12; file++) {
      fixture.test.put(fixture.root, `f${file}`, "");
      fixture.test.write(
        fixture.root,
        `f${file}`,
        Buffer.from(Array.from({ length: 40_000 }, () => random.below(256))),
      );
    }
    await ship();
    const packs = (await names()).filter((name) => name.includes("/packs/"));
    for (let file = 1; file < 12; file++) fixture.test.unlink(fixture.root, `f${file}`);
    await days(8);
    // No turn shows what was deleted.
    const policy = { ...POLICY, daily: 0, weekly: 0, monthly: 0 };
    const { plan } = await prune({ policy });
    expect(plan.repacked.count).toBeGreaterThan(0);
    pass(DAY_MS + 1);
    const { plan: second } = await prune({ policy });
    expect(second.repacked.count).toBe(0);
    expect((await names()).filter((name) => packs.includes(name))).toEqual([]);
    pass(DAY_MS + 1);
    await prune({ policy });
    const opened = await RepositoryApp.open({
      app: fixture.repository(),
      cacheFolder: path.join(folder, "repacked"),
      clock: fixture.apps.clock,
      timers: new SystemTimers(),
      log: silentLog,
    });
    expect(await dumpTree(opened.app.engine, fixture.root, LIVE)).toEqual(
      await dumpTree(fixture.app.engine, fixture.root, LIVE),
    );
    await opened.close();
  });

  test("a dry run writes nothing, and what it says is what is done", async () => {
    await days(20);
    const before = await names();
    const dry = await prune({ dryRun: true });
    expect(await names()).toEqual(before);
    const { plan } = await prune();
    expect(plan).toEqual(dry.plan);
  });

  test("what is asked first and denied is not done", async () => {
    await days(20);
    const before = await names();
    const { executed } = await prune({ confirm: async () => false });
    expect(executed).toBeUndefined();
    expect(await names()).toEqual(before);
  });

  test("doing it again at once changes nothing", async () => {
    await days(20);
    await prune();
    const before = await names();
    const { plan } = await prune();
    expect(plan.writesBase).toBe(false);
    expect(await names()).toEqual(before);
  });

  test("snapshots keep their moments, and let them go when they are deleted; forged ones push none out", async () => {
    await days(6);
    const { core } = fixture.app;
    const { lsn } = addSnapshot(core, { name: "kept", automatic: false }, SERVICE_CONTEXT);
    fixture.test.put(fixture.root, "a", "after the snapshot");
    for (let count = 0; count < 100; count++)
      addSnapshot(
        core,
        { name: `forged${count}`, automatic: true, of: { lsn: core.lastLsn, time: { sec: 4_000_000_000, nsec: 0 } } },
        SERVICE_CONTEXT,
      );
    await days(14);
    await prune();
    await expectKept();
    const isReadable = async (): Promise<boolean> => {
      const opened = await RepositoryApp.open({
        app: fixture.repository(),
        cacheFolder: path.join(folder, "snapshots"),
        clock: fixture.apps.clock,
        timers: new SystemTimers(),
        log: silentLog,
      });
      const answer = opened.app.core.moments.isReadable(lsn);
      await opened.close();
      return answer;
    };
    expect(await isReadable()).toBe(true);
    removeSnapshot(core, "kept", SERVICE_CONTEXT);
    await days(4);
    await prune();
    expect(await isReadable()).toBe(false);
    await expectKept();
  });
});

describe("when things go wrong", () => {
  test("a store whose clock lies ahead makes nothing old; one that is behind is refused by name", async () => {
    await days(20);
    const now = await store.timeMs();
    const ahead = new FaultyBlobs(store);
    ahead.timeMs = async () => now + 10 * 365 * DAY_MS;
    const app = fixture.repository(ahead);
    await prune({ app, graceMs: 100 * 365 * DAY_MS });
    await expectKept();
    const behind = new FaultyBlobs(store);
    behind.timeMs = async () => now - 3_600_000;
    const refused = prune({ app: fixture.repository(behind) });
    await expect(refused).rejects.toMatchObject({ code: "FAILED_PRECONDITION", data: { reason: "clock" } });
  });

  test("any error in listing ends it before anything is written", async () => {
    await days(20);
    const before = await names();
    for (const effect of ["list", "list-page"] as const)
      for (let nth = 1; nth <= 3; nth++) {
        store.inject({ operation: effect, nth, effect: { kind: "fail" } });
        await expect(prune()).rejects.toThrow();
        store.heal();
        expect(await names()).toEqual(before);
      }
  });

  test("a crash before any step or at any write leaves everything readable, and the next one does the rest", async () => {
    await days(24);
    const steps: PruneStep[] = ["execute-tombs", "write-base", "publish", "write-tombs"];
    for (const crash of steps) {
      const onStep = (step: PruneStep): void => {
        if (step === crash) throw new Error("a crash");
      };
      await expect(prune({ onStep })).rejects.toThrow("a crash");
      await expectKept();
    }
    for (let nth = 1; nth <= 4; nth++) {
      store.inject({ operation: "put", nth, effect: { kind: nth % 2 === 0 ? "fail" : "lose-answer" } });
      await prune().catch(() => {});
      store.heal();
      await expectKept();
    }
    for (let round = 0; round < 3; round++) {
      pass(DAY_MS + 1);
      store.inject({ operation: "delete", nth: 1 + round, effect: { kind: "fail" } });
      await prune().catch(() => {});
      store.heal();
      await expectKept();
    }
    await prune();
    await expectKept();
  });

  test("two at once do no harm, nor does a shipper that goes on from before", async () => {
    await days(24);
    let other: Promise<PruneReport> | undefined;
    const onStep = (step: PruneStep): void => {
      if (step === "publish") other ??= prune();
    };
    await prune({ onStep });
    await other;
    await expectKept();
    for (let round = 0; round < 3; round++) {
      await days(2, new Random(round));
      await prune();
      await expectKept();
    }
    // Chunks of packs that are gone are written again.
    await days(2, new Random(7));
    await expectKept();
  });

  test("a tomb that does not open ends it", async () => {
    await days(20);
    await prune();
    const tomb = (await names()).find((name) => name.includes("/tombs/")) ?? "";
    store.alter(tomb, (content) => content.subarray(0, content.length - 3));
    pass(DAY_MS + 1);
    const before = await names();
    await expect(prune()).rejects.toMatchObject({ code: "REPOSITORY_DAMAGED" });
    expect(await names()).toEqual(before);
  });
});
