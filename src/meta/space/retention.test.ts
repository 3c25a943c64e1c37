import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Random } from "../../../test/model/random.ts";
import { audit } from "../../../test/space/audit.ts";
import { compareTimestamps, type Timestamp } from "../../base/clock.ts";
import { MemoryLog } from "../../base/log.ts";
import { ManualTimers } from "../../base/timers.ts";
import { type InodeId, LIVE, type Lsn } from "../../domain/ids.ts";
import type { Inode } from "../../domain/inode.ts";
import { KEEP_EVERYTHING, keptTimes, type RetentionPolicy } from "../../domain/retention.ts";
import { SERVICE_CONTEXT } from "../open-app.ts";
import { addSnapshot } from "../reading/snapshot-rows.ts";
import { type TestApp, TestApps } from "../reading/test-app.ts";
import { resolveMoment } from "../reading/time.ts";
import { SystemTurns } from "../reading/turns.ts";
import { gridRows } from "./grid.ts";
import { SpaceKeeper, type SpaceKeeperOptions } from "./space-keeper.ts";

const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 32));

const HOUR_NS = 3_600_000_000_000;
const DAY_MS = 86_400_000;
const POLICY: RetentionPolicy = { continuousMs: 2 * DAY_MS, hourly: 72, daily: 10, weekly: 6, monthly: 4, yearly: 2 };
const NAMES = ["a", "b", "c", "d"];

/** An app's tree: names and contents. */
type Tree = ReadonlyMap<string, string>;
type Past = { readonly lsn: Lsn; readonly time: Timestamp; readonly tree: Tree };

let apps: TestApps;
let app: TestApp;
let root: InodeId;
let log: MemoryLog;
let tree: Map<string, string>;
let past: Past[];

beforeEach(async () => {
  apps = await TestApps.open({ segmentBytesMax: 64 * 1024 });
  app = await apps.app("shop");
  root = app.share("files").root;
  log = new MemoryLog();
  tree = new Map();
  past = [];
});

afterEach(() => apps.close());

function keeper(policy: RetentionPolicy, options: Partial<SpaceKeeperOptions> = {}): SpaceKeeper {
  return new SpaceKeeper({
    apps: () => [app.app],
    diskSpace: () => ({ totalBytes: 2n ** 40n, freeBytes: 2n ** 39n }),
    clock: apps.clock,
    timers: new ManualTimers(),
    turns: new SystemTurns(),
    log,
    historyBytesMax: 2n ** 40n,
    retention: { policyOf: () => policy, now: () => apps.clock.now() },
    ...options,
  });
}

function note(): void {
  past.push({ lsn: app.app.core.lastLsn, time: apps.clock.now(), tree: new Map(tree) });
}

/** One change to the tree, of the model too. */
function change(random: Random): void {
  const name = random.pick(NAMES);
  const text = `${past.length}:${"x".repeat(random.below(3000))}`;
  if (random.oneIn(5) && tree.has(name)) {
    app.unlink(root, name);
    tree.delete(name);
  } else {
    app.put(root, name, text);
    tree.set(name, text);
  }
  note();
}

/** The tree as it reads at a moment. */
async function readTree(at: Lsn): Promise<Tree> {
  const { engine } = app.app;
  const found = new Map<string, string>();
  for (const name of NAMES) {
    let inode: Inode;
    try {
      inode = (await engine.execute({ op: "lookup", parent: root, name: Buffer.from(name), at }, app.context)) as Inode;
    } catch {
      continue;
    }
    const request = { op: "read", ino: inode.ino, offset: 0n, length: Number(inode.size), at } as const;
    const pieces = (await engine.execute(request, app.context)) as Uint8Array[];
    found.set(name, Buffer.concat(pieces).toString());
  }
  return found;
}

/** The last change at or before a time. */
function presentAt(time: Timestamp): Past | undefined {
  return past.findLast((each) => compareTimestamps(each.time, time) <= 0);
}

async function expectKept(policy: RetentionPolicy, { isDone = true } = {}): Promise<number> {
  const { core } = app.app;
  const { continuousFrom, turns } = keptTimes(policy, apps.clock.now());
  const grid = new Map(gridRows(app.app.store).map(({ turn, lsn }) => [turn.sec, lsn]));
  let kept = 0;
  for (const turn of turns) {
    const then = presentAt(turn);
    if (then === undefined) continue;
    kept++;
    // The keeper's own records may be the last before a turn: they change nothing.
    const lsn = grid.get(turn.sec) ?? (await resolveMoment(core, { kind: "time", time: turn })).lsn;
    expect(lsn).toBeGreaterThanOrEqual(then.lsn);
    expect(core.moments.isReadable(lsn)).toBe(true);
    expect(await readTree(lsn)).toEqual(then.tree);
  }
  // A turn without room stays until the run that drops it ends.
  if (isDone) expect([...grid.keys()].every((sec) => turns.some((turn) => turn.sec === sec))).toBe(true);
  const lsns = new Set(grid.values());
  const floor = presentAt(continuousFrom ?? { sec: 0, nsec: 0 })?.lsn ?? 0;
  for (const { lsn, tree: then } of past) {
    if (lsn < core.moments.floor && !lsns.has(lsn)) {
      await expect(resolveMoment(core, { kind: "lsn", lsn })).rejects.toMatchObject({ code: "OUT_OF_HISTORY" });
    } else expect(await readTree(lsn)).toEqual(then);
    if (lsn > floor) expect(core.moments.isReadable(lsn)).toBe(true);
  }
  return kept;
}

describe("the keeper and a policy", () => {
  test("over half a year every turn's moment reads as it was then, and everything else is out of history", {
    timeout: 60_000,
  }, async () => {
    const random = new Random(SEED);
    console.log(`SEED=${SEED}`);
    const space = keeper(POLICY);
    for (let day = 0; day < 200; day++) {
      for (let count = 0; count < 4; count++) {
        apps.clock.step(random.below(720) * (HOUR_NS / 60));
        change(random);
      }
      if (day % 3 !== 0) continue;
      await app.settle();
      space.retentionChanged();
      await space.runOnce();
      if (day % 30 === 0) await expectKept(POLICY);
    }
    space.retentionChanged();
    await space.runOnce();
    expect(await expectKept(POLICY)).toBeGreaterThan(15);
    expect(app.app.core.moments.floor).toBeGreaterThan(past[past.length - 40]?.lsn ?? 0);
    await app.settle();
    expect(audit(app.app)).toEqual([]);
    expect(await readTree(LIVE)).toEqual(tree);
    expect(log.lines.filter(({ level }) => level === "alarm" || level === "error")).toEqual([]);
  });
});

describe("what a policy can't be made to do", () => {
  async function weeks(count: number): Promise<void> {
    for (let day = 0; day < 7 * count; day++) {
      apps.clock.step(24 * HOUR_NS);
      tree.set("a", `day ${day}`);
      app.put(root, "a", `day ${day}`);
      note();
    }
    await app.settle();
  }

  test("snapshots, however many and whatever they are called or dated, push no moment out", async () => {
    await weeks(3);
    const forged = { lsn: app.app.core.lastLsn, time: { sec: 4_000_000_000, nsec: 0 } };
    for (let count = 0; count < 300; count++)
      addSnapshot(app.app.core, { name: `2099-01-01-${count}`, automatic: true, of: forged }, SERVICE_CONTEXT);
    const policy = { ...POLICY, hourly: 0, monthly: 0, yearly: 0 };
    const before = keptTimes(policy, apps.clock.now()).turns.filter((turn) => presentAt(turn) !== undefined).length;
    await keeper(policy).runOnce();
    expect(gridRows(app.app.store)).toHaveLength(before);
    expect(await expectKept(policy)).toBe(before);
  });

  test("the floor never passes what a repository still has to receive", async () => {
    await weeks(3);
    const bound = past[5]?.lsn ?? (0 as Lsn);
    await keeper(POLICY, { floorMax: () => bound }).runOnce();
    expect(app.app.core.moments.floor).toBe(bound);
  });

  test("an app that nobody changes gets no records from it", async () => {
    await weeks(3);
    const space = keeper(POLICY);
    await space.runOnce();
    apps.clock.step(24 * 60 * HOUR_NS);
    await space.runOnce();
    apps.clock.step(24 * 900 * HOUR_NS);
    await space.runOnce();
    const { lastLsn } = app.app.core;
    for (let count = 0; count < 5; count++) {
      apps.clock.step(24 * HOUR_NS);
      space.retentionChanged();
      await space.runOnce();
    }
    expect(app.app.core.lastLsn).toBe(lastLsn);
  });

  test("a process that dies between any two of its records leaves all that is kept, and the next one does the rest", async () => {
    await weeks(4);
    for (let records = 0; records < 12; records++) {
      await weeks(1);
      const { core } = app.app;
      const begin = core.begin.bind(core);
      let begun = 0;
      core.begin = (context) => {
        if (begun++ >= records % 6) throw new Error("the process dies");
        return begin(context);
      };
      const space = keeper(POLICY);
      await space.runOnce().catch(() => {});
      core.begin = begin;
      await app.settle();
      await app.app.close();
      app = await apps.app("shop");
      await expectKept(POLICY, { isDone: false });
      await keeper(POLICY).runOnce();
      await app.settle();
      await expectKept(POLICY);
      expect(audit(app.app)).toEqual([]);
    }
  });

  test("without a policy, or with one that keeps everything, nothing goes", async () => {
    await weeks(3);
    await keeper(KEEP_EVERYTHING).runOnce();
    expect(app.app.core.moments.floor).toBe(0);
  });

  test("a plan says what the run then does", async () => {
    await weeks(3);
    const space = keeper(POLICY);
    const plan = await space.planRetention(app.app, { policy: POLICY, now: apps.clock.now() });
    expect(app.app.core.moments.floor).toBe(0);
    await space.runOnce();
    expect(app.app.core.moments.floor).toBe(plan.floor);
    expect(gridRows(app.app.store)).toEqual(plan.kept);
  });

  test("a full disk comes before the grid: its oldest half goes when nothing else can", async () => {
    await weeks(3);
    await keeper(POLICY).runOnce();
    const before = gridRows(app.app.store);
    expect(before.length).toBeGreaterThan(4);
    await keeper(POLICY, {
      historyBytesMax: 0n,
      retention: { policyOf: () => undefined, now: () => apps.clock.now() },
    }).runOnce();
    expect(gridRows(app.app.store).length).toBeLessThan(before.length);
  });
});
