import { afterEach, beforeEach, expect, test } from "vitest";
import type { RestoreRequest } from "../../domain/admin-restore.ts";
import { type InodeId, LIVE, type Lsn } from "../../domain/ids.ts";
import type { MomentRef } from "../../domain/moment.ts";
import { SERVICE_CONTEXT } from "../open-app.ts";
import { History } from "../reading/history.ts";
import { lastState } from "../reading/last-state.ts";
import { Snapshots } from "../reading/snapshots.ts";
import { all, type TestApp, TestApps } from "../reading/test-app.ts";
import { sharesAt, updateShare } from "../shares.ts";
import type { Restores } from "./restores.ts";
import { describeTree, executeAll, line, planOf, restoresOf } from "./test-restore.ts";

let apps: TestApps;
let app: TestApp;
let root: InodeId;
let restores: Restores;

beforeEach(async () => {
  apps = await TestApps.open({ segmentBytesMax: 65_536 });
  app = await apps.app("shop");
  root = app.share("files").root;
  restores = restoresOf(apps);
});

afterEach(() => apps.close());

function moment(): MomentRef & { lsn: Lsn } {
  return { kind: "lsn", lsn: app.app.core.lastLsn };
}

function request(
  path: string,
  at: MomentRef,
  more: { target?: string; mode?: "mirror" | "overlay" } = {},
): RestoreRequest {
  const target = more.target === undefined ? {} : { target: app.path(more.target) };
  return { kind: "restore", source: app.path(path), at, mode: more.mode ?? "mirror", ...target };
}

const UNDO: RestoreRequest = { kind: "undo", app: { namespace: "default", name: "shop" } };

/** Plans, executes, and checks that the result is what was there, and that undo brings back what was. */
async function restoreAndUndo(
  path: string,
  at: MomentRef & { lsn: Lsn },
  place = { share: "files" },
): Promise<string[]> {
  const before = await describeTree(apps, app.app, place);
  const { actions } = await planOf(restores, request(path, at));
  await executeAll(restores, request(path, at));
  expect(await describeTree(apps, app.app, place)).toEqual(await describeTree(apps, app.app, { ...place, at: at.lsn }));
  expect((await planOf(restores, request(path, at))).actions.map(line)).toEqual([]);
  await executeAll(restores, UNDO);
  expect(await describeTree(apps, app.app, place)).toEqual(before);
  await executeAll(restores, UNDO);
  expect(await describeTree(apps, app.app, place)).toEqual(await describeTree(apps, app.app, { ...place, at: at.lsn }));
  return actions.map(line);
}

test("a changed file gets its content and attributes back and keeps its number", async () => {
  app.put(root, "f", "one");
  app.setattr(root, "f", { mode: 0o600, uid: 5, mtime: { sec: 7, nsec: 9 } });
  const at = moment();
  const { ino } = app.at(root, "f");
  app.put(root, "f", "something longer");
  app.setattr(root, "f", { mode: 0o644, uid: 0 });
  expect(await restoreAndUndo("files", at)).toEqual(["change f (content mode owner times)"]);
  expect(app.at(root, "f").ino).toBe(ino);
});

test("what came since goes, what went comes back under new numbers that name the old", async () => {
  app.mkdir(root, "d");
  app.put(root, "d/gone", "gone");
  app.mkdir(root, "d/sub");
  app.put(root, "d/sub/deep", "deep");
  const at = moment();
  const old = app.at(root, "d/sub/deep").ino;
  app.unlink(root, "d/gone");
  app.unlink(root, "d/sub/deep");
  app.rmdir(root, "d/sub");
  app.mkdir(root, "d/new");
  app.put(root, "d/new/x", "x");
  expect((await restoreAndUndo("files", at)).sort()).toEqual(
    ["change d (times)", "create d/gone", "create d/sub", "create d/sub/deep", "delete d/new", "delete d/new/x"].sort(),
  );
  // Restored, taken back, and restored again.
  const { core } = app.app;
  const now = core.inode(app.at(root, "d/sub/deep").ino);
  expect(now.ino).not.toBe(old);
  expect(lastState(core, now.restoredFrom as InodeId, core.lastLsn)?.restoredFrom).toBe(old);
});

test("swapped names, and directories moved into each other, come back with their numbers", async () => {
  app.mkdir(root, "a");
  app.mkdir(root, "a/b");
  app.put(root, "a/b/f", "f");
  app.put(root, "x", "x");
  app.put(root, "y", "y");
  const at = moment();
  const numbers = ["a", "a/b", "a/b/f", "x", "y"].map((file) => app.at(root, file).ino);
  app.rename(root, "x", "t");
  app.rename(root, "y", "x");
  app.rename(root, "t", "y");
  app.rename(root, "a/b", "b");
  app.rename(root, "a", "b/a");
  app.rename(root, "b", "a");
  await restoreAndUndo("files", at);
  expect(["a", "a/b", "a/b/f", "x", "y"].map((file) => app.at(root, file).ino)).toEqual(numbers);
});

test("hard links stay links: of a live file all names change, a dead one comes back with all of them", async () => {
  app.mkdir(root, "d");
  app.put(root, "d/dead", "dead");
  app.link(root, "d/dead", "d/dead2");
  app.put(root, "d/live", "live");
  app.link(root, "d/live", "outside");
  const at = moment();
  app.unlink(root, "d/dead");
  app.unlink(root, "d/dead2");
  app.put(root, "d/live", "changed");
  app.rename(root, "d/live", "d/renamed");
  const { actions } = await planOf(restores, request("files/d", at));
  const live = actions.find((action) => action.path.toString() === "d/live");
  expect(live?.kind).toBe("link");
  expect(live?.otherNames.map(String).sort()).toEqual(["d/renamed", "outside"]);
  await restoreAndUndo("files", at);
  expect(app.at(root, "d/dead").ino).toBe(app.at(root, "d/dead2").ino);
  expect(app.at(root, "d/live").ino).toBe(app.at(root, "outside").ino);
});

test("one file is put back in place, its directories too if they are gone; nothing else changes", async () => {
  app.mkdir(root, "a");
  app.mkdir(root, "a/b");
  app.put(root, "a/b/f", "f");
  app.put(root, "a/b/g", "g");
  const at = moment();
  for (const file of ["a/b/f", "a/b/g"]) app.unlink(root, file);
  app.rmdir(root, "a/b");
  app.put(root, "other", "other");
  const { actions } = await planOf(restores, request("files/a/b/f", at));
  expect(actions.map(line)).toEqual(["create a/b", "create a/b/f"]);
  await executeAll(restores, request("files/a/b/f", at));
  expect([...(await describeTree(apps, app.app, { share: "files" })).keys()]).toEqual([
    "",
    "a",
    "a/b",
    "a/b/f",
    "other",
  ]);
});

test("an overlay puts back what was and keeps what came since", async () => {
  app.mkdir(root, "d");
  app.put(root, "d/f", "old");
  app.put(root, "d/gone", "gone");
  const at = moment();
  app.put(root, "d/f", "newer");
  app.unlink(root, "d/gone");
  app.put(root, "d/new", "new");
  await executeAll(restores, request("files/d", at, { mode: "overlay" }));
  expect([...(await describeTree(apps, app.app, { share: "files" })).keys()]).toEqual([
    "",
    "d",
    "d/f",
    "d/gone",
    "d/new",
  ]);
});

test("restored beside, a copy is independent of the live file, and shares its stored bytes", async () => {
  app.mkdir(root, "d");
  app.put(root, "d/f", "old");
  app.link(root, "d/f", "d/l");
  const at = moment();
  app.put(root, "d/f", "live");
  const then = await describeTree(apps, app.app, { share: "files", path: "d", at: at.lsn });
  const { core } = app.app;
  await executeAll(restores, request("files/d", at, { target: "files/copy" }));
  expect(await describeTree(apps, app.app, { share: "files", path: "copy" })).toEqual(then);
  const copy = app.at(root, "copy/f");
  expect(copy.ino).not.toBe(app.at(root, "d/f").ino);
  const run = core.content.runs(copy.contentId, 0n, 3n, LIVE)[0]?.run;
  const thenRow = core.inodeAt(app.at(root, "d/f").ino, at.lsn);
  expect(run?.segment).toBe(core.content.runs(thenRow.contentId, 0n, 3n, at.lsn)[0]?.run.segment);
  app.put(root, "copy/f", "copied");
  app.put(root, "copy/extra", "x");
  await executeAll(restores, request("files/d", at, { target: "files/copy" }));
  expect(await describeTree(apps, app.app, { share: "files", path: "copy" })).toEqual(then);
  await expect(executeAll(restores, request("files/d", at, { target: "files/no/where" }))).rejects.toMatchObject({
    code: "NOT_FOUND",
  });
});

test("into another share, and into another app, whose journal then has the data itself", async () => {
  const other = app.share("second");
  const elsewhere = await apps.app("else");
  elsewhere.share("there");
  app.mkdir(root, "d");
  app.put(root, "d/f", "content");
  app.create(root, "d/big");
  app.write(root, "d/big", Buffer.alloc(1024 * 1024, 1));
  app.write(root, "d/big", Buffer.alloc(1024 * 1024, 2), 3n * 1024n * 1024n);
  app.link(root, "d/f", "d/l");
  app.run({
    op: "setxattr",
    ino: app.at(root, "d/f").ino,
    name: Buffer.from("user.a"),
    value: Buffer.from("b"),
    flags: 0,
    killSgid: false,
  });
  const at = moment();
  const then = await describeTree(apps, app.app, { share: "files", path: "d" });
  await executeAll(restores, request("files/d", at, { target: "second/copy" }));
  expect(await describeTree(apps, app.app, { share: "second", path: "copy" })).toEqual(then);
  expect(app.at(other.root, "copy/f").nlink).toBe(2);
  const target = elsewhere.path("there/copy");
  await executeAll(restores, { kind: "restore", source: app.path("files/d"), at, target, mode: "mirror" });
  expect(await describeTree(apps, elsewhere.app, { share: "there", path: "copy" })).toEqual(then);
  await executeAll(restores, { kind: "undo", app: { namespace: "default", name: "else" } });
  expect(await describeTree(apps, elsewhere.app, { share: "there", path: "copy" })).toEqual(new Map());
});

test("a whole app: shares deleted since come back, shares that came since are deleted, and undo reverses it", async () => {
  const second = app.share("second");
  app.put(second.root, "f", "f");
  app.put(root, "g", "g");
  const at = moment();
  app.unlink(second.root, "f");
  updateShare(app.app.core, second, { deleted: true }, SERVICE_CONTEXT);
  app.share("third");
  app.put(root, "g", "changed");
  const live = (): string[] =>
    sharesAt(app.app.core, app.app.core.lastLsn)
      .filter((share) => share.deletedAt === undefined)
      .map((share) => share.name)
      .sort();
  const { actions } = await planOf(restores, request("", at));
  expect(actions.map((action) => `${action.share.name}: ${line(action)}`).sort()).toEqual([
    "files: change g (content times)",
    "second: change  (times)",
    "second: create f",
    "second: share ",
    "third: delete ",
  ]);
  await executeAll(restores, request("", at));
  expect(live()).toEqual(["files", "second"]);
  expect(app.at(second.root, "f").size).toBe(1n);
  await executeAll(restores, UNDO);
  expect(live()).toEqual(["files", "third"]);
  expect(app.at(root, "g").size).toBe(7n);
});

test("it is bracketed, snapshotted, listed, and undone once", async () => {
  app.put(root, "f", "1");
  const at = moment();
  app.put(root, "f", "2");
  const before = app.app.core.lastLsn;
  const result = await executeAll(restores, request("files", at));
  expect(result.firstLsn).toBe(before + 1);
  expect(result.lastLsn).toBe(app.app.core.lastLsn);
  const snapshots = await all(
    new Snapshots(apps.parts).listSnapshots({ app: UNDO.kind === "undo" ? UNDO.app : never() }),
  );
  expect(snapshots).toMatchObject([{ name: result.snapshot, lsn: before, automatic: true }]);
  const log = await all(
    new History(apps.parts).log({
      path: app.path(""),
      order: "oldest-first",
      follow: false,
      from: { kind: "lsn", lsn: before },
    }),
  );
  expect(log.map((record) => record.op)).toEqual(["RESTORE_BEGIN", "SNAPSHOT_CREATE", "RESTORE_ENTRY", "RESTORE_END"]);
  expect(log[2]).toMatchObject({ path: Buffer.from("f"), details: [{ name: "action", value: "change" }] });
  await executeAll(restores, { ...UNDO, restoreId: result.restoreId } as RestoreRequest);
  const list = await restores.listRestores({ app: { namespace: "default", name: "shop" }, countMax: 10 });
  expect(list.map(({ kind, state }) => `${kind} ${state}`)).toEqual(["undo done", "restore undone"]);
  await expect(executeAll(restores, { ...UNDO, restoreId: result.restoreId } as RestoreRequest)).rejects.toMatchObject({
    code: "FAILED_PRECONDITION",
  });
});

test("undo takes back what the restore changed and leaves later work elsewhere alone", async () => {
  app.put(root, "a", "1");
  app.put(root, "b", "1");
  const at = moment();
  app.put(root, "a", "22");
  await executeAll(restores, request("files", at));
  app.put(root, "b", "later work");
  app.put(root, "c", "later file");
  app.put(root, "a", "edited after the restore");
  const { actions } = await planOf(restores, UNDO);
  expect(actions.map(line)).toEqual(["change a (content times)"]);
  await executeAll(restores, UNDO);
  expect([app.at(root, "a").size, app.at(root, "b").size, app.at(root, "c").size]).toEqual([2n, 10n, 10n]);
});

test("a plan changes nothing, and what can't be planned leaves no trace", async () => {
  app.put(root, "f", "1");
  const at = moment();
  app.put(root, "f", "2");
  const before = app.app.core.lastLsn;
  await planOf(restores, request("files", at));
  await expect(executeAll(restores, request("files/none", at))).rejects.toMatchObject({
    code: "NOT_FOUND",
    message: expect.stringMatching(/^there was no ".*files\/none" at LSN \d+ \(/),
  });
  await expect(executeAll(restores, request("", at, { target: "files/x" }))).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
  });
  await expect(executeAll(restores, UNDO)).rejects.toMatchObject({ code: "NOT_FOUND" });
  expect(app.app.core.lastLsn).toBe(before);
});

test("a file that is open somewhere stays readable there when a restore takes it away", async () => {
  app.app.engine.attachMount(1 as never, { resumed: false });
  const at = moment();
  const { ino } = app.put(root, "new", "text");
  await executeAll(restores, request("files", at));
  expect(app.app.core.inode(ino).nlink).toBe(0);
  app.run({ op: "forget", ino });
  expect(app.app.core.findInodeAt(ino, LIVE)).toBeUndefined();
});

test("content of more pieces than one record names is put back whole, and seen only when it is complete", async () => {
  const { ino } = app.create(root, "f");
  for (let index = 0; index < 512; index++) {
    app.run({ op: "write", ino, offset: BigInt(index * 2), data: Buffer.from([index & 0xff]), killPrivileges: false });
  }
  // Doubled until there are 131,072 pieces of one byte.
  for (let length = 1024n; length < 262_144n; length *= 2n) {
    app.run({
      op: "copyRange",
      source: ino,
      sourceOffset: 0n,
      target: ino,
      targetOffset: length,
      length,
      sourceAt: LIVE,
    });
  }
  const at = moment();
  const then = await describeTree(apps, app.app, { share: "files" });
  const { size } = app.at(root, "f");
  app.put(root, "f", "short");
  const sizes = new Set<bigint>();
  const stop = app.app.core.onCommit(() => sizes.add(app.app.core.inode(ino).size));
  const before = app.app.core.lastLsn;
  await executeAll(restores, request("files", at));
  stop();
  expect([...sizes].sort()).toEqual([size, 5n]);
  const log = await all(
    new History(apps.parts).log({
      path: app.path(""),
      order: "oldest-first",
      follow: false,
      from: { kind: "lsn", lsn: before },
    }),
  );
  expect(log.filter((record) => record.op === "RESTORE_CONTENT").length).toBeGreaterThan(1);
  expect(await describeTree(apps, app.app, { share: "files" })).toEqual(then);
});

function never(): never {
  throw new Error("unreachable");
}
