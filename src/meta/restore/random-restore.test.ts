import { afterEach, beforeEach, expect, test } from "vitest";
import { Random } from "../../../test/model/random.ts";
import { present } from "../../base/assert.ts";
import type { RestoreRequest } from "../../domain/admin-restore.ts";
import { FsError } from "../../domain/errors.ts";
import { type InodeId, LIVE, type Lsn } from "../../domain/ids.ts";
import { pathNames } from "../../domain/names.ts";
import { lookupPath } from "../reading/paths.ts";
import { type TestApp, TestApps } from "../reading/test-app.ts";
import { Restores } from "./restores.ts";
import { RandomTree } from "./test-random-tree.ts";
import { describeTree, executeAll, expectSameTree, line, planOf, restoresOf } from "./test-restore.ts";

/** Run with SEED to play one run again. */
const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 32));
const RUNS = Number(process.env["RUNS"] ?? 6);

const runs = Array.from({ length: RUNS }, (_, run) => run);

const SHARES = ["files", "second"];
const APP = { namespace: "default", name: "shop" };

let apps: TestApps;
let app: TestApp;
let roots: InodeId[];
let restores: Restores;
let random: Random;
let tree: RandomTree;

async function open(seed: number): Promise<void> {
  random = new Random(seed);
  apps = await TestApps.open({ segmentBytesMax: 65_536 });
  app = await apps.app("shop");
  roots = SHARES.map((name) => app.share(name).root);
  restores = restoresOf(apps);
  tree = new RandomTree(app, random, roots);
}

beforeEach(() => {
  console.log(`SEED=${SEED}`);
});

afterEach(() => apps.close());

async function whole(at?: Lsn): Promise<Map<string, string>> {
  const trees = new Map<string, string>();
  for (const share of SHARES) {
    for (const [path, text] of await describeTree(apps, app.app, { share, ...(at === undefined ? {} : { at }) }))
      trees.set(`${share}:${path}`, text);
  }
  return trees;
}

/** No inode is left behind without a name: limbo and all that was in it are gone. */
function expectNothingLeft(reachable: number): void {
  expect(app.app.core.counters.inodeCount).toBe(reachable);
}

function inodeCount(): number {
  const inodes = new Set<number>(roots);
  for (const { root, path } of tree.paths()) {
    const row = lookupPath(app.app.core, present(roots[root], "root"), pathNames(path), LIVE);
    if (row !== undefined) inodes.add(row.ino);
  }
  return inodes.size;
}

async function moments(count: number): Promise<Lsn[]> {
  const lsns: Lsn[] = [];
  for (let index = 0; index < count; index++) {
    tree.change(60);
    if (random.oneIn(2)) await app.settle();
    lsns.push(app.app.core.lastLsn);
  }
  return lsns;
}

test.each(runs)(
  "run %i: a whole app restored to any moment is what it was then; undo brings back what was",
  async (run) => {
    await open(SEED + run);
    const lsns = await moments(5);
    for (let round = 0; round < 3; round++) {
      const at = random.pick(lsns);
      const request: RestoreRequest = {
        kind: "restore",
        source: app.path(""),
        at: { kind: "lsn", lsn: at },
        mode: "mirror",
      };
      const before = await whole();
      await executeAll(restores, request);
      expectSameTree(await whole(), await whole(at));
      expectNothingLeft(inodeCount());
      expect((await planOf(restores, request)).actions.map(line)).toEqual([]);
      await executeAll(restores, { kind: "undo", app: APP });
      expectSameTree(await whole(), before);
      expectNothingLeft(inodeCount());
      if (random.oneIn(2)) {
        await executeAll(restores, { kind: "undo", app: APP });
        expectSameTree(await whole(), await whole(at));
      }
      tree.change(40);
    }
  },
);

test.each(runs)("run %i: a part restored in place is what it was; undo brings back all that was", async (run) => {
  await open(SEED + run);
  const lsns = await moments(3);
  for (let round = 0; round < 6; round++) {
    const at = random.pick(lsns);
    const place = random.pick(tree.paths().length === 0 ? [{ root: 0, path: Buffer.alloc(0) }] : tree.paths());
    const share = present(SHARES[place.root], "share");
    const row = lookupPath(app.app.core, present(roots[place.root], "root"), pathNames(place.path), at);
    tree.change(20);
    const source = { app: APP, share: { name: share }, path: place.path };
    const request: RestoreRequest = { kind: "restore", source, at: { kind: "lsn", lsn: at }, mode: "mirror" };
    if (row === undefined) {
      await expect(executeAll(restores, request)).rejects.toMatchObject({ code: "NOT_FOUND" });
      continue;
    }
    const before = await whole();
    const path = place.path.toString("latin1");
    try {
      await executeAll(restores, request);
    } catch (error) {
      // Something else than a directory is in the way now.
      expect(error).toMatchObject({ code: "FAILED_PRECONDITION" });
      continue;
    }
    expectSameTree(
      withoutLinks(await describeTree(apps, app.app, { share, path })),
      withoutLinks(await describeTree(apps, app.app, { share, path, at })),
    );
    expectNothingLeft(inodeCount());
    await executeAll(restores, { kind: "undo", app: APP });
    expectSameTree(await whole(), before);
    expectNothingLeft(inodeCount());
  }
});

/** Names outside the restored part count as links, and they are what they are now. */
function withoutLinks(described: Map<string, string>): Map<string, string> {
  return new Map(
    [...described].map(([path, text]) => [
      path,
      text
        .split(" ")
        .filter((_, index) => index !== 4)
        .join(" "),
    ]),
  );
}

test.each(runs)("run %i: a copy elsewhere is what the source was, whatever was there", async (run) => {
  await open(SEED + run);
  const lsns = await moments(3);
  for (let round = 0; round < 4; round++) {
    const at = random.pick(lsns);
    const source = { app: APP, share: { name: "files" }, path: Buffer.alloc(0) };
    const target = { app: APP, share: { name: "second" }, path: Buffer.from(random.pick(["n1", "n2", "copy"])) };
    const before = await whole();
    const request: RestoreRequest = { kind: "restore", source, target, at: { kind: "lsn", lsn: at }, mode: "mirror" };
    await executeAll(restores, request);
    const copy = await describeTree(apps, app.app, { share: "second", path: target.path.toString() });
    expectSameTree(withoutBirth(copy), withoutBirth(await describeTree(apps, app.app, { share: "files", at })));
    expectNothingLeft(inodeCount());
    if (random.oneIn(2)) {
      await executeAll(restores, { kind: "undo", app: APP });
      expectSameTree(await whole(), before);
    }
    tree.change(20);
  }
});

/** Files that were there are changed and keep their time of birth. */
function withoutBirth(described: Map<string, string>): Map<string, string> {
  return new Map(
    [...described].map(([path, text]) => [
      path,
      text
        .split(" ")
        .filter((_, index) => index !== 9)
        .join(" "),
    ]),
  );
}

test.each(runs)("run %i: a restore cut anywhere goes on at the next start and ends the same", async (run) => {
  await open(SEED + run);
  const lsns = await moments(4);
  for (let round = 0; round < 4; round++) {
    const at = random.pick(lsns);
    const before = await whole();
    const request: RestoreRequest = {
      kind: "restore",
      source: app.path(""),
      at: { kind: "lsn", lsn: at },
      mode: "mirror",
    };
    let commits = 1 + random.below(30);
    for (let cuts = 0; ; cuts++) {
      let closing: Promise<void> | undefined;
      const stop = app.app.core.onCommit(() => {
        if (--commits === 0) closing = restores.close();
      });
      const running = cuts === 0 ? executeAll(restores, request) : restores.resumeRestores(app.app);
      await Promise.resolve(running).catch(() => {});
      await closing;
      stop();
      if (closing === undefined) break;
      commits = 1 + random.below(30);
      await app.app.applier.close();
      app = await apps.app("shop");
      tree = new RandomTree(app, random, roots);
      restores = restoresOf(apps);
    }
    expectSameTree(await whole(), await whole(at));
    expectNothingLeft(inodeCount());
    await executeAll(restores, { kind: "undo", app: APP });
    expectSameTree(await whole(), before);
    tree.change(30);
  }
});

test.each(runs)("run %i: mounts that go on working while it restores leave a sound tree", async (run) => {
  await open(SEED + run);
  const lsns = await moments(4);
  let ticks = 0;
  // Every look at the clock makes the work due for a pause, and in every pause somebody changes something.
  const clock = { now: () => apps.clock.now(), monotonicMs: () => (ticks += 10) };
  const known = Array.from({ length: 5 }, () => tree.directory());
  const turns = {
    next: async () => {
      if (!random.oneIn(8)) return;
      tree.change(1);
      // Somebody whose working directory a restore may have taken away.
      const name = Buffer.from(`held${ticks}`);
      const parent = random.pick(known);
      try {
        app.run({ op: "create", parent, name, mode: 0o600, umask: 0, exclusive: true, truncate: false });
      } catch (error) {
        if (!(error instanceof FsError)) throw error;
      }
    },
  };
  const busy = new Restores({ ...apps.parts, clock, turns, newId: () => `${ticks}`.padStart(32, "0") });
  for (let round = 0; round < 4; round++) {
    const at = random.pick(lsns);
    const request = { kind: "restore", source: app.path(""), at: { kind: "lsn", lsn: at }, mode: "mirror" } as const;
    await executeAll(busy, random.oneIn(3) && round > 0 ? { kind: "undo", app: APP } : request);
    await whole();
    expectNothingLeft(inodeCount());
    known[random.below(known.length)] = tree.directory();
  }
});
