import { afterEach, beforeEach, expect, test } from "vitest";
import type { ExportItem } from "../../domain/admin-reading.ts";
import type { InodeId, Lsn } from "../../domain/ids.ts";
import { LIVE } from "../../domain/ids.ts";
import { S_IFLNK, S_IFMT } from "../../domain/inode.ts";
import type { MomentRef } from "../../domain/moment.ts";
import { directoryNames } from "./directory-names.ts";
import { Reading } from "./reading.ts";
import { all, type TestApp, TestApps } from "./test-app.ts";
import { Work } from "./work.ts";

let apps: TestApps;
let app: TestApp;
let root: InodeId;
let reading: Reading;

beforeEach(async () => {
  apps = await TestApps.open();
  app = await apps.app("shop");
  root = app.share("files").root;
  reading = new Reading(apps.parts);
});

afterEach(() => apps.close());

const NOW: MomentRef = { kind: "now" };

function moment(): MomentRef & { lsn: Lsn } {
  return { kind: "lsn", lsn: app.app.core.lastLsn };
}

async function content(path: string, at: MomentRef, range: { offset?: bigint; length?: bigint } = {}): Promise<Buffer> {
  const pieces: Buffer[] = [];
  const request = {
    path: app.path(path),
    at,
    offset: range.offset ?? 0n,
    ...(range.length === undefined ? {} : { length: range.length }),
  };
  for await (const piece of reading.read(request)) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

async function names(path: string, at: MomentRef): Promise<string[]> {
  return (await all(reading.list({ path: app.path(path), at }))).map((entry) => entry.name.toString("latin1"));
}

test("a file reads as it was, under the path it had", async () => {
  app.mkdir(root, "a");
  app.put(root, "a/b.txt", "one");
  const first = moment();
  app.put(root, "a/b.txt", "second");
  app.rename(root, "a", "z");
  const second = moment();
  app.unlink(root, "z/b.txt");
  expect((await content("files/a/b.txt", first)).toString()).toBe("one");
  expect((await content("files/z/b.txt", second)).toString()).toBe("second");
  expect((await content("files/z/b.txt", second, { offset: 2n, length: 3n })).toString()).toBe("con");
  await expect(content("files/z/b.txt", first)).rejects.toMatchObject({ code: "NOT_FOUND" });
  await expect(content("files/z/b.txt", NOW)).rejects.toMatchObject({ code: "NOT_FOUND" });
  expect((await reading.stat({ path: app.path("files/a/b.txt"), at: first })).attributes.size).toBe(3n);
});

test("holes read as zeros and are left out of an export", async () => {
  app.create(root, "sparse");
  app.write(root, "sparse", "tail", 3_000_000n);
  app.setattr(root, "sparse", { size: 4_000_000n });
  const bytes = await content("files/sparse", NOW);
  expect(bytes.length).toBe(4_000_000);
  expect(bytes.indexOf("tail")).toBe(3_000_000);
  expect(bytes.subarray(0, 3_000_000).every((byte) => byte === 0)).toBe(true);
  const items = await all(reading.exportTree({ path: app.path("files/sparse"), at: NOW, content: true }));
  expect(items.map((item) => item.kind)).toEqual(["entry", "data", "end"]);
  expect(items[1]).toMatchObject({ offset: 3_000_000n, bytes: Buffer.from("tail") });
});

test("an export tells the ranges that have data before the data, neighbours joined, where that is asked for", async () => {
  app.create(root, "sparse");
  app.write(root, "sparse", "tail", 3_000_000n);
  app.write(root, "sparse", "head", 10n);
  app.write(root, "sparse", "er", 14n);
  app.setattr(root, "sparse", { size: 4_000_000n });
  const request = { path: app.path("files/sparse"), at: NOW, content: true, ranges: true };
  const items = await all(reading.exportTree(request));
  expect(items.map((item) => item.kind)).toEqual(["entry", "ranges", "data", "data", "end"]);
  const ranges = [
    { offset: 10n, length: 6n },
    { offset: 3_000_000n, length: 4n },
  ];
  expect(items[1]).toEqual({ kind: "ranges", ranges });
  expect((await all(reading.exportTree({ ...request, content: false }))).map((item) => item.kind)).toEqual(["entry"]);
});

test("a directory lists bytewise by name as it was, whatever came and went", async () => {
  app.mkdir(root, "d");
  const odd = ["b", "a", "B", "ä", "\xff\xfe", "a b", "-", "\n"];
  for (const name of odd) app.create(root, `d/${name}`);
  const then = moment();
  for (const name of odd.slice(0, 4)) app.unlink(root, `d/${name}`);
  app.create(root, "d/b");
  app.create(root, "d/later");
  const sorted = [...odd].sort((left, right) =>
    Buffer.compare(Buffer.from(left, "latin1"), Buffer.from(right, "latin1")),
  );
  expect(await names("files/d", then)).toEqual(sorted);
  expect(await names("files/d", NOW)).toHaveLength(6);
  expect(await names("files/d/later", NOW)).toEqual(["later"]);
  expect(await names("", then)).toEqual(["files"]);
  await expect(names("other", then)).rejects.toMatchObject({ code: "NOT_FOUND" });
});

test("names that die while a directory is being listed are listed once", async () => {
  app.mkdir(root, "d");
  for (let index = 0; index < 1500; index++) app.create(root, `d/${index}`);
  const directory = app.app.core.inode(app.at(root, "d").ino);
  const at = app.app.core.lastLsn;
  const seen: string[] = [];
  let next = 0;
  for await (const batch of directoryNames(app.app.core, directory, at, new Work(apps.parts))) {
    seen.push(...batch.map(({ name }) => name.toString()));
    for (; next < 1500 && next < seen.length + 200; next++) app.unlink(root, `d/${next}`);
    app.create(root, `d/new${seen.length}`);
  }
  expect(new Set(seen).size).toBe(1500);
  expect(seen).toHaveLength(1500);
});

test("a directory with more dead names than are held lists exactly, also where one name died a thousand times", async () => {
  app.app.core.deadLists.namesMax = 20_000;
  const directory = app.mkdir(root, "d").ino;
  const make = (name: string): void => {
    app.run({
      op: "create",
      parent: directory,
      name: Buffer.from(name),
      mode: 0o644,
      umask: 0,
      exclusive: true,
      truncate: false,
    });
  };
  const remove = (name: string): void => {
    app.run({ op: "unlink", parent: directory, name: Buffer.from(name) });
  };
  for (let index = 0; index < 700; index++) {
    make("lock");
    remove("lock");
  }
  make("lock");
  for (let index = 0; index < 21_000; index++) {
    make(`spool${index}`);
    if (index % 1000 === 0) await app.settle();
  }
  const withLock = app.app.core.lastLsn;
  remove("lock");
  const without = app.app.core.lastLsn;
  for (let index = 0; index < 20_990; index++) {
    remove(`spool${index}`);
    if (index % 30 === 0) make("lock");
    if (index % 30 === 1) remove("lock");
    if (index % 1000 === 0) await app.settle();
  }
  for (const [at, count] of [
    [withLock, 21_001],
    [without, 21_000],
    [app.app.core.lastLsn, 10],
  ] as const) {
    const row = app.app.core.inodeAt(directory, at);
    const seen: string[] = [];
    for await (const batch of directoryNames(app.app.core, row, at, new Work(apps.parts)))
      seen.push(...batch.map(({ name }) => name.toString()));
    expect(seen).toHaveLength(count);
    expect(new Set(seen).size).toBe(count);
    expect(seen.includes("lock")).toBe(at === withLock);
  }
}, 60_000);

test("an export has every kind of file, links once with content, then by their first name", async () => {
  app.mkdir(root, "t");
  app.mkdir(root, "t/sub");
  app.put(root, "t/file", "content");
  app.link(root, "t/file", "t/sub/other");
  app.run({ op: "symlink", parent: app.at(root, "t").ino, name: Buffer.from("link"), target: Buffer.from("../x") });
  app.run({ op: "mknod", parent: app.at(root, "t").ino, name: Buffer.from("fifo"), mode: 0o010644, umask: 0, rdev: 0 });
  app.run({
    op: "setxattr",
    ino: app.at(root, "t/file").ino,
    name: Buffer.from("user.k"),
    value: Buffer.from("v"),
    flags: 0,
    killSgid: false,
  });
  const then = moment();
  app.unlink(root, "t/file");
  app.unlink(root, "t/sub/other");
  const items = await all(reading.exportTree({ path: app.path("files/t"), at: then, content: true }));
  const entries = items.filter((item): item is ExportItem & { kind: "entry" } => item.kind === "entry");
  expect(entries[0]?.path.length).toBe(0);
  expect(entries.map((entry) => entry.path.toString()).sort()).toEqual([
    "",
    "fifo",
    "file",
    "link",
    "sub",
    "sub/other",
  ]);
  const files = entries.filter((entry) => entry.attributes.nlink === 2 && entry.path.toString().match(/file|other/));
  expect(files.map((entry) => entry.contentFollows).sort()).toEqual([false, true]);
  expect(files.find((entry) => !entry.contentFollows)?.linkedTo).toEqual(
    files.find((entry) => entry.contentFollows)?.path,
  );
  expect(files[0]?.xattrs).toEqual([{ name: Buffer.from("user.k"), value: Buffer.from("v") }]);
  expect(entries.find((entry) => (entry.attributes.mode & S_IFMT) === S_IFLNK)?.target.toString()).toBe("../x");
  expect(items.filter((item) => item.kind === "end")).toEqual([{ kind: "end", complete: true }]);
});

test("a call ends with CANCELLED when its signal is aborted", async () => {
  for (let index = 0; index < 3000; index++) app.create(root, `f${index}`);
  const controller = new AbortController();
  const pages = reading.list({ path: app.path("files"), at: NOW }, { signal: controller.signal });
  const read = async (): Promise<void> => {
    for await (const _page of pages) controller.abort();
  };
  await expect(read()).rejects.toMatchObject({ code: "CANCELLED" });
});

test("nothing is read before LSN 1", async () => {
  await expect(reading.stat({ path: app.path("files"), at: { kind: "lsn", lsn: 0 as Lsn } })).rejects.toMatchObject({
    code: "NOT_FOUND",
  });
  expect(app.app.core.findInodeAt(root, LIVE)).toBeDefined();
});
