import { afterEach, beforeEach, expect, test } from "vitest";
import { Random } from "../../../test/model/random.ts";
import { MemoryLog } from "../../base/log.ts";
import { ManualTimers } from "../../base/timers.ts";
import { type InodeId, LIVE, type Lsn } from "../../domain/ids.ts";
import { isDirectory } from "../../domain/inode.ts";
import { SERVICE_CONTEXT } from "../open-app.ts";
import { RandomTree } from "../restore/test-random-tree.ts";
import { executeAll, expectSameTree, restoresOf } from "../restore/test-restore.ts";
import { SpaceKeeper } from "../space/space-keeper.ts";
import { Changes } from "./changes.ts";
import { addSnapshot } from "./snapshot-rows.ts";
import { type TestApp, TestApps } from "./test-app.ts";
import { entriesOf, TreeCopy } from "./test-delta.ts";
import { SystemTurns } from "./turns.ts";

/** Run with SEED to play one run again. */
const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 32));
const RUNS = Number(process.env["RUNS"] ?? 6);

const runs = Array.from({ length: RUNS }, (_, run) => run);

let apps: TestApps;
let app: TestApp;
let root: InodeId;
let changes: Changes;
let restless: Changes;
let random: Random;
let tree: RandomTree;

async function open(seed: number, segmentBytesMax = 65_536): Promise<void> {
  random = new Random(seed);
  apps = await TestApps.open({ segmentBytesMax });
  app = await apps.app("shop");
  root = app.share("files").root;
  tree = new RandomTree(app, random, [root, app.share("second").root]);
  changes = new Changes({ ...apps.parts, timers: new ManualTimers() });
  restless = restlessChanges();
}

/** Changes that pause wherever they may, and somebody changes the tree then. */
function restlessChanges(): Changes {
  let nowMs = 0;
  const clock = { now: () => apps.clock.now(), monotonicMs: () => (nowMs += 100) };
  const next = async (): Promise<void> => {
    await new Promise((resolve) => setImmediate(resolve));
    if (random.oneIn(3)) tree.change(1);
  };
  return new Changes({ ...apps.parts, clock, turns: { next }, timers: new ManualTimers() });
}

beforeEach(() => {
  console.log(`SEED=${SEED}`);
});

afterEach(() => apps.close());

function pair(lsns: readonly Lsn[]): { from: Lsn; to: Lsn } {
  const left = random.pick(lsns);
  const right = random.pick(lsns);
  return { from: Math.min(left, right) as Lsn, to: Math.max(left, right) as Lsn };
}

/** Applies the delta of the share, or of what is below `within`, to the tree at `from`, and expects the tree at `to`. */
async function check({ from, to }: { from: Lsn; to: Lsn }, within?: InodeId): Promise<"journal" | "rows" | undefined> {
  const { core } = app.app;
  const top = within ?? root;
  const byPath = random.oneIn(2);
  const readAt = async (at: Lsn): Promise<TreeCopy> => {
    const isThere = at !== 0 && core.findInodeAt(top, at) !== undefined;
    return isThere && isBelow(top, at) ? TreeCopy.read(apps, core, top, at) : new TreeCopy();
  };
  const copy = await readAt(from);
  let foundIn: "journal" | "rows" | undefined;
  const pages = (random.oneIn(3) ? restless : changes).shareDelta({
    path: app.path("files"),
    from: { kind: "lsn", lsn: from },
    to: { kind: "lsn", lsn: to },
    byPath,
    ...(within === undefined ? {} : { within }),
  });
  const seen = async function* (): AsyncGenerator<Awaited<ReturnType<(typeof pages)["next"]>>["value"]> {
    for await (const page of pages) {
      ({ foundIn } = page);
      yield page;
    }
  };
  const entries = await entriesOf(seen());
  const numbers = entries
    .filter(({ after, before }) => after !== undefined || before !== undefined)
    .map(({ ino }) => ino);
  expect(numbers).toEqual([...new Set(numbers)].sort((left, right) => left - right));
  await copy.apply(entries, { apps, core, to, byPath });
  const wanted = await readAt(to);
  // Only one kind of names is brought up to date.
  const kind = byPath ? "name" : "path";
  expectSameTree(without(copy.describe(), kind), without(wanted.describe(), kind));
  return foundIn;
}

function without(described: Map<string, string>, kind: string): Map<string, string> {
  return new Map([...described].filter(([key]) => !key.startsWith(`${kind} `)));
}

/** Whether a directory was in the share. */
function isBelow(ino: InodeId, at: Lsn): boolean {
  const { core } = app.app;
  for (let next: InodeId = ino; ; ) {
    if (next === root) return true;
    const row = core.findInodeAt(next, at);
    if (row === undefined || row.nlink === 0 || row.parent === 0 || row.parent === next) return false;
    next = row.parent;
  }
}

async function moments(count: number, changesBetween = 25): Promise<Lsn[]> {
  const restores = restoresOf(apps);
  const lsns: Lsn[] = [0 as Lsn];
  for (let index = 0; index < count; index++) {
    tree.change(random.below(changesBetween * 2));
    if (random.oneIn(2)) await app.settle();
    if (random.oneIn(4)) {
      const at = { kind: "lsn" as const, lsn: random.pick(lsns.slice(1).concat(app.app.core.lastLsn)) };
      await executeAll(restores, { kind: "restore", source: app.path("files"), at, mode: "mirror" });
      if (random.oneIn(3)) await executeAll(restores, { kind: "undo", app: app.path("").app });
    }
    lsns.push(app.app.core.lastLsn);
  }
  return lsns;
}

test.each(runs)("run %i: a delta makes of the tree at one moment that at another", async (run) => {
  await open(SEED + run);
  const lsns = await moments(10);
  for (let round = 0; round < 12; round++) expect(await check(pair(lsns))).toBe("journal");
  // In the middle of restores too.
  for (let round = 0; round < 12; round++) {
    const left = random.below(app.app.core.lastLsn + 1) as Lsn;
    const right = random.below(app.app.core.lastLsn + 1) as Lsn;
    await check({ from: Math.min(left, right) as Lsn, to: Math.max(left, right) as Lsn });
  }
});

test.each(runs)(
  "run %i: of what is below a directory, wherever that is moved meanwhile, the same holds",
  async (run) => {
    await open(SEED + run);
    const lsns = await moments(10);
    const directories = directoriesEver();
    for (let round = 0; round < 30; round++) await check(pair(lsns), random.pick(directories));
  },
);

/** Every directory there ever was in an app. */
function directoriesEver(): InodeId[] {
  const { core } = app.app;
  const found: InodeId[] = [];
  for (let ino = 2; ino < core.nextInode; ino++) {
    for (const at of [LIVE, core.lastLsn, Math.floor(core.lastLsn / 2), Math.floor(core.lastLsn / 4)]) {
      const row = core.findInodeAt(ino, at as Lsn);
      if (row === undefined || !isDirectory(row.mode)) continue;
      found.push(row.ino);
      break;
    }
  }
  return found;
}

test.each(runs)("run %i: between kept moments, though the records between them are gone", async (run) => {
  await open(SEED + run, 16_384);
  const { core } = app.app;
  const kept: Lsn[] = [];
  for (let index = 0; index < 5; index++) {
    await moments(2, 40);
    kept.push(addSnapshot(core, { name: `s${index}`, automatic: false }, SERVICE_CONTEXT).lsn);
  }
  await moments(4, 80);
  const keeper = new SpaceKeeper({
    apps: () => [app.app],
    diskSpace: () => ({ totalBytes: 2n ** 40n, freeBytes: 2n ** 39n }),
    clock: apps.clock,
    timers: new ManualTimers(),
    turns: new SystemTurns(),
    log: new MemoryLog(),
    historyBytesMax: 16_384n,
  });
  await keeper.runOnce();
  const ways = new Set<string | undefined>();
  for (let round = 0; round < 16; round++) {
    if (random.oneIn(4)) tree.change(5);
    ways.add(await check(pair([...kept, core.lastLsn])));
  }
  expect(ways).toContain("rows");
});
