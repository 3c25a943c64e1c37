import { afterEach, beforeEach, expect, test } from "vitest";
import { ManualTimers } from "../../base/timers.ts";
import type { ShareDeltaRequest } from "../../domain/admin-changes.ts";
import { type InodeId, LIVE, type Lsn } from "../../domain/ids.ts";
import { FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE, RENAME_EXCHANGE } from "../../domain/metadata-api.ts";
import { executeAll, restoresOf } from "../restore/test-restore.ts";
import { Changes } from "./changes.ts";
import { type TestApp, TestApps } from "./test-app.ts";
import { deltaLine, entriesOf } from "./test-delta.ts";

let apps: TestApps;
let app: TestApp;
let root: InodeId;
let changes: Changes;

beforeEach(async () => {
  apps = await TestApps.open({ segmentBytesMax: 65_536 });
  app = await apps.app("shop");
  root = app.share("files").root;
  changes = new Changes({ ...apps.parts, timers: new ManualTimers() });
});

afterEach(() => apps.close());

const now = (): Lsn => app.app.core.lastLsn;

/** The delta since `from`, a line for each entry; the root, which changes with every name, left out. */
async function delta(
  from: Lsn,
  rest: Partial<ShareDeltaRequest> & { to?: never } = {},
  path = "files",
): Promise<string[]> {
  const request = {
    path: app.path(path),
    from: { kind: "lsn", lsn: from },
    to: { kind: "now" },
    byPath: false,
    ...rest,
  } as const;
  return (await entriesOf(changes.shareDelta(request))).map(deltaLine).filter((line) => !line.startsWith("changed  "));
}

const MIB = 1024n * 1024n;

test("of content, only the ranges that are stored elsewhere now", async () => {
  const { ino } = app.put(root, "f", "0123456789");
  const copyRange = (sourceOffset: bigint, targetOffset: bigint, length: bigint): void =>
    void app.run({ op: "copyRange", source: ino, sourceOffset, target: ino, targetOffset, length, sourceAt: LIVE });
  const fallocate = (mode: number, offset: bigint, length: bigint): void =>
    void app.run({ op: "fallocate", ino, mode, offset, length });
  const steps: [string, () => void, string][] = [
    ["written in the middle", () => app.write(root, "f", "xy", 4n), "4+2"],
    ["the same bytes again", () => app.write(root, "f", "xy", 4n), "4+2"],
    ["the whole, in one write as before", () => app.write(root, "f", "0123456789"), "0+10"],
    [
      "neighbours",
      () => [app.write(root, "f", "a", 7n), app.write(root, "f", "b", 6n), app.write(root, "f", "c", 8n)],
      "6+3",
    ],
    ["a piece of itself, moved", () => copyRange(0n, 5n, 4n), "5+4"],
    ["cut and grown again", () => [app.setattr(root, "f", { size: 3n }), app.setattr(root, "f", { size: 10n })], "3-7"],
    ["data into a hole", () => app.write(root, "f", "z", 9n), "9+1"],
    ["punched, in part a hole already", () => fallocate(FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 1n, 5n), "1-2"],
    ["zeros", () => fallocate(FALLOC_ZERO_RANGE, 0n, 1n), "0-1"],
    ["far away", () => app.write(root, "f", "far", 200n * MIB), `${200n * MIB}+3`],
    ["grown by a hole", () => app.setattr(root, "f", { size: 300n * MIB }), ""],
    [
      "punched over many chunks",
      () => fallocate(FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 5n, 290n * MIB),
      `9-1 ${200n * MIB}-3`,
    ],
    ["cut to nothing", () => app.setattr(root, "f", { size: 0n }), ""],
    ["written anew", () => app.write(root, "f", "anew"), "0+4"],
    ["nothing but times", () => app.setattr(root, "f", { mtime: { sec: 1, nsec: 2 } }), ""],
  ];
  for (const [what, change, extents] of steps) {
    const from = now();
    change();
    const [line = ""] = await delta(from);
    expect(line.replace(/^changed f \([a-z ]+\) ?/, ""), what).toBe(extents);
  }
});

test("what a copy shares with its source before is no change, what a restore brings back of it neither", async () => {
  const { ino } = app.put(root, "f", "0123456789");
  const at = now();
  app.run({ op: "copyRange", source: ino, sourceOffset: 2n, target: ino, targetOffset: 2n, length: 3n, sourceAt: at });
  app.write(root, "f", "##", 8n);
  expect(await delta(at)).toEqual(["changed f (content times) 8+2"]);
  const from = now();
  await executeAll(restoresOf(apps), {
    kind: "restore",
    source: app.path("files"),
    at: { kind: "lsn", lsn: at },
    mode: "mirror",
  });
  expect(await delta(from)).toEqual(["changed f (content times) 8+2"]);
  // Only its change time can't be brought back.
  expect(await delta(at)).toEqual(["changed f (ctime)"]);
});

test("a file that was renamed over, and one that was unlinked and made again, are other files", async () => {
  app.put(root, "a", "1");
  app.put(root, "b", "2");
  const from = now();
  app.put(root, "new", "3");
  app.rename(root, "new", "a");
  app.unlink(root, "b");
  app.put(root, "b", "4");
  app.put(root, "fleeting", "5");
  app.unlink(root, "fleeting");
  expect(await delta(from)).toEqual(["deleted -a[other]", "deleted -b[other]", "created +a 0+1", "created +b 0+1"]);
});

test("hard links: every name is told, and which came and went", async () => {
  app.mkdir(root, "d");
  app.put(root, "one", "1");
  app.link(root, "one", "d/two");
  app.link(root, "one", "three");
  const from = now();
  app.write(root, "one", "2");
  expect(await delta(from)).toEqual(["changed d/two one three (content times) 0+1"]);
  app.unlink(root, "one");
  app.rename(root, "three", "d/three");
  expect((await delta(from))[1]).toBe("changed +d/three d/two -one[nothing] -three[nothing] (content times links) 0+1");
});

test("a renamed directory is one entry, or by path one for everything below it", async () => {
  app.mkdir(root, "a");
  app.mkdir(root, "a/b");
  app.put(root, "a/b/same", "1");
  app.put(root, "a/b/edited", "1");
  const from = now();
  app.rename(root, "a", "z");
  app.write(root, "z/b/edited", "2");
  expect(await delta(from)).toEqual([
    "changed +z -a[nothing] (ctime)",
    "changed z/b/edited<a/b/edited (content times) 0+1",
  ]);
  expect(await delta(from, { byPath: true })).toEqual([
    "changed +z -a[nothing] (ctime)",
    "changed +z/b -a/b[no-directory]",
    "changed +z/b/same -a/b/same[no-directory]",
    "changed +z/b/edited -a/b/edited[no-directory] (content times) 0+1",
  ]);
});

test("by path, what is below two exchanged directories changes its place and names the other's", async () => {
  for (const name of ["a", "b"]) {
    app.mkdir(root, name);
    app.put(root, `${name}/both`, name);
    app.put(root, `${name}/only-${name}`, name);
  }
  const from = now();
  app.rename(root, "a", "b", RENAME_EXCHANGE);
  expect(await delta(from)).toEqual(["changed +b -a[other] (ctime)", "changed +a -b[other] (ctime)"]);
  expect(await delta(from, { byPath: true })).toEqual([
    "changed +b -a[other] (ctime)",
    "changed +b/both -a/both[other]",
    "changed +b/only-a -a/only-a[nothing]",
    "changed +a -b[other] (ctime)",
    "changed +a/both -b/both[other]",
    "changed +a/only-b -b/only-b[nothing]",
  ]);
});

test("of a path, what moved in or out with a directory has come or gone, changed or not", async () => {
  app.mkdir(root, "in");
  app.mkdir(root, "in/leaving");
  app.put(root, "in/leaving/f", "1");
  app.mkdir(root, "coming");
  app.mkdir(root, "coming/deep");
  app.put(root, "coming/deep/g", "1");
  const within = app.at(root, "in").ino;
  const from = now();
  app.rename(root, "in/leaving", "left");
  app.rename(root, "coming", "in/came");
  for (const byPath of [false, true]) {
    expect(await delta(from, { byPath }, "files/in")).toEqual([
      "changed in (times)",
      "deleted -in/leaving[nothing]",
      "deleted -in/leaving/f[no-directory]",
      "created +in/came",
      "created +in/came/deep",
      "created +in/came/deep/g 0+1",
    ]);
    expect(await delta(from, { byPath, within })).toEqual([
      "deleted -leaving[nothing]",
      "deleted -leaving/f[no-directory]",
      "created +came",
      "created +came/deep",
      "created +came/deep/g 0+1",
    ]);
  }
});

test("of a path below a directory that was moved away, everything is gone, and of what took its place everything new", async () => {
  app.mkdir(root, "a");
  app.mkdir(root, "a/p");
  app.put(root, "a/p/old", "1");
  app.mkdir(root, "b");
  app.mkdir(root, "b/p");
  app.put(root, "b/p/new", "1");
  const from = now();
  app.rename(root, "a", "c");
  app.rename(root, "b", "a");
  expect(await delta(from, {}, "files/a/p")).toEqual([
    "deleted -a/p[other]",
    "deleted -a/p/old[nothing]",
    "created +a/p",
    "created +a/p/new 0+1",
  ]);
});

test("attributes, owners, links, xattrs; what was changed and changed back differs in its change time", async () => {
  for (const name of ["mode", "owner", "xattr", "back", "untouched"]) app.put(root, name, "1");
  app.run({ op: "symlink", parent: root, name: Buffer.from("s"), target: Buffer.from("to") });
  const from = now();
  app.setattr(root, "mode", { mode: 0o600 });
  app.setattr(root, "owner", { uid: 5 });
  app.run({
    op: "setxattr",
    ino: app.at(root, "xattr").ino,
    name: Buffer.from("user.x"),
    value: Buffer.from("v"),
    flags: 0,
    killSgid: false,
  });
  app.setattr(root, "back", { mode: 0o600 });
  app.setattr(root, "back", { mode: 0o644 });
  app.run({ op: "symlink", parent: root, name: Buffer.from("s2"), target: Buffer.from("there") });
  app.run({ op: "mknod", parent: root, name: Buffer.from("n"), mode: 0o020600, umask: 0, rdev: 259 });
  expect(await delta(from)).toEqual([
    "changed mode (mode)",
    "changed owner (owner)",
    "changed xattr (xattrs)",
    "changed back (ctime)",
    "created +s2",
    "created +n",
  ]);
  const request = {
    path: app.path("files"),
    from: { kind: "lsn", lsn: from },
    to: { kind: "now" },
    byPath: false,
  } as const;
  const link = (await entriesOf(changes.shareDelta(request))).find(({ names }) => names[0]?.path.toString() === "s2");
  expect(link).toMatchObject({ target: Buffer.from("there"), after: { mode: 0o120777 } });
  expect(link).not.toHaveProperty("before");
});

test("many extents and names come in several entries, which together are all", async () => {
  app.put(root, "f", "");
  app.write(root, "f", Buffer.alloc(60_000));
  for (let link = 0; link < 600; link++) {
    app.link(root, "f", `link${link}`);
    if (link % 100 === 0) await app.settle();
  }
  const from = now();
  for (let write = 0; write < 2500; write++) {
    app.write(root, "f", "x", BigInt(write * 2));
    if (write % 500 === 0) await app.settle();
  }
  const entries = await entriesOf(
    changes.shareDelta({
      path: app.path("files"),
      from: { kind: "lsn", lsn: from },
      to: { kind: "now" },
      byPath: false,
    }),
  );
  expect(entries.map(({ continues }) => continues)).toEqual([true, true, false]);
  expect(entries.flatMap(({ extents }) => extents)).toHaveLength(2500);
  expect(new Set(entries.flatMap(({ names }) => names.map(({ path }) => path.toString()))).size).toBe(601);
  expect(entries[1]).toMatchObject({ ino: entries[0]?.ino, changes: [] });
});

test("what leaves the machine is durable, and moments are in order", async () => {
  const from = now();
  app.put(root, "f", "1");
  expect(app.app.journal.durableLsn).toBeLessThan(now());
  await delta(from);
  expect(app.app.journal.durableLsn).toBe(now());
  const request = {
    path: app.path("files"),
    from: { kind: "now" },
    to: { kind: "lsn", lsn: from },
    byPath: false,
  } as const;
  await expect(entriesOf(changes.shareDelta(request))).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  await expect(
    entriesOf(changes.shareDelta({ ...request, path: app.path(""), to: { kind: "now" } })),
  ).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  const pages: number[] = [];
  for await (const page of changes.shareDelta({ ...request, to: { kind: "now" } }))
    pages.push(page.entries.length, page.to.lsn);
  expect(pages).toEqual([0, now()]);
});

test("since the beginning, everything is new", async () => {
  app.mkdir(root, "d");
  app.put(root, "d/f", "12");
  expect((await delta(0 as Lsn)).map((line) => line.replace(" ", ":"))).toEqual([
    "created:+",
    "created:+d",
    "created:+d/f 0+2",
  ]);
});
