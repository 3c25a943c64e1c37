import { afterEach, beforeEach, expect, test } from "vitest";
import type { DiffEntry } from "../../domain/admin-reading.ts";
import type { InodeId, Lsn } from "../../domain/ids.ts";
import type { MomentRef } from "../../domain/moment.ts";
import { History } from "./history.ts";
import { Snapshots } from "./snapshots.ts";
import { all, type TestApp, TestApps } from "./test-app.ts";

let apps: TestApps;
let app: TestApp;
let root: InodeId;
let history: History;

beforeEach(async () => {
  apps = await TestApps.open({ segmentBytesMax: 16_384 });
  app = await apps.app("shop");
  root = app.share("files").root;
  history = new History(apps.parts);
});

afterEach(() => apps.close());

const NOW: MomentRef = { kind: "now" };

function moment(): MomentRef & { lsn: Lsn } {
  return { kind: "lsn", lsn: app.app.core.lastLsn };
}

async function diff(path: string, from: MomentRef, to: MomentRef = NOW): Promise<string[]> {
  return (await all(history.diff({ path: app.path(path), from, to }))).map(line);
}

function line(entry: DiffEntry): string {
  const before = entry.pathBefore === undefined ? "" : `${entry.pathBefore.toString()} -> `;
  const changes = entry.changes.length === 0 ? "" : ` (${entry.changes.join(" ")})`;
  return `${entry.kind} ${before}${entry.path.toString()}${changes}`;
}

test("what was added, removed, changed and moved, by path; identity is the inode", async () => {
  app.mkdir(root, "d");
  for (const name of ["same", "edited", "moved", "gone", "mode", "linked", "back"]) app.put(root, `d/${name}`, "text");
  const from = moment();
  app.write(root, "d/edited", "TEXT");
  app.rename(root, "d/moved", "there");
  app.setattr(root, "there", { size: 0n });
  app.unlink(root, "d/gone");
  app.setattr(root, "d/mode", { mode: 0o600, uid: 7 });
  app.link(root, "d/linked", "link");
  app.setattr(root, "d/back", { mode: 0o600 });
  app.setattr(root, "d/back", { mode: 0o644 });
  app.put(root, "new", "x");
  app.put(root, "fleeting", "x");
  app.unlink(root, "fleeting");
  expect(await diff("files", from)).toEqual([
    "changed  (times)",
    "changed d (times)",
    "changed d/edited (content times)",
    "removed d/gone",
    "changed d/linked (links)",
    "changed d/mode (mode owner)",
    "added new",
    "moved d/moved -> there (content times)",
  ]);
  expect(await diff("files", NOW, from)).toContain("moved there -> d/moved (content times)");
  expect(await diff("", from, from)).toEqual([]);
});

test("a moved directory is one difference, what is below it none", async () => {
  app.mkdir(root, "a");
  app.mkdir(root, "a/b");
  app.put(root, "a/b/f", "x");
  const from = moment();
  app.rename(root, "a", "z");
  expect(await diff("files", from)).toEqual(["changed  (times)", "moved a -> z"]);
});

test("what a moved directory brings into the asked path, or takes out of it, is there", async () => {
  app.mkdir(root, "in");
  app.mkdir(root, "in/leaving");
  app.put(root, "in/leaving/f", "x");
  app.mkdir(root, "coming");
  app.put(root, "coming/g", "x");
  const from = moment();
  app.rename(root, "in/leaving", "out");
  app.rename(root, "coming", "in/came");
  const expected = [
    "changed in (times)",
    "added in/came",
    "added in/came/g",
    "removed in/leaving",
    "removed in/leaving/f",
  ];
  expect(await diff("files/in", from)).toEqual(expected);
  app.rename(root, "in", "elsewhere");
  app.mkdir(root, "in");
  expect(await diff("files/in", from)).toEqual([
    "removed in",
    "added in",
    "removed in/leaving",
    "removed in/leaving/f",
  ]);
});

test("the cost is what changed: unchanged files are not looked at", async () => {
  app.mkdir(root, "big");
  for (let index = 0; index < 500; index++) app.create(root, `big/f${index}`);
  const from = moment();
  app.put(root, "small", "x");
  const looked = new Set<number>();
  const { core } = app.app;
  const find = core.findInodeAt.bind(core);
  core.findInodeAt = (ino, at) => {
    looked.add(ino);
    return find(ino, at);
  };
  expect(await diff("files", from)).toEqual(["changed  (times)", "added small"]);
  expect(looked.size).toBeLessThan(5);
});

test("from a snapshot before the history that is kept, everything is compared, with the same result", async () => {
  const snapshots = new Snapshots(apps.parts);
  app.mkdir(root, "d");
  for (const name of ["same", "edited", "moved", "gone"]) app.put(root, `d/${name}`, "text");
  const made = await snapshots.createSnapshot({ app: app.path("").app, name: "old", syncMounts: false });
  app.write(root, "d/edited", "TEXT");
  app.rename(root, "d/moved", "there");
  app.unlink(root, "d/gone");
  const from: MomentRef = { kind: "snapshot", name: "old" };
  const expected = [await diff("", from), await diff("files/d", from)];
  expect(expected[0]).toHaveLength(5);
  app.app.core.moments.raise(app.app.core.lastLsn);
  await expect(diff("", { kind: "lsn", lsn: (made.lsn + 1) as Lsn })).rejects.toMatchObject({ code: "OUT_OF_HISTORY" });
  expect([await diff("", from), await diff("files/d", from)]).toEqual(expected);
});
