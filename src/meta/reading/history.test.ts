import { afterEach, beforeEach, expect, test } from "vitest";
import { present } from "../../base/assert.ts";
import type { FileVersion, LogRecord, LogRequest } from "../../domain/admin-reading.ts";
import type { InodeId, Lsn } from "../../domain/ids.ts";
import type { MomentRef } from "../../domain/moment.ts";
import { SERVICE_CONTEXT } from "../open-app.ts";
import { History } from "./history.ts";
import { all, type TestApp, TestApps } from "./test-app.ts";

let apps: TestApps;
let app: TestApp;
let root: InodeId;
let history: History;

beforeEach(async () => {
  // Small segments, so that short logs cross borders.
  apps = await TestApps.open({ segmentBytesMax: 16_384 });
  app = await apps.app("shop");
  root = app.share("files").root;
  history = new History(apps.parts);
});

afterEach(() => apps.close());

const SECOND = 1_000_000_000;

function moment(): MomentRef & { lsn: Lsn } {
  return { kind: "lsn", lsn: app.app.core.lastLsn };
}

function pause(seconds = 10): void {
  apps.clock.step(seconds * SECOND);
}

function log(path: string, options: Partial<LogRequest> = {}): Promise<LogRecord[]> {
  return all(history.log({ path: app.path(path), order: "oldest-first", follow: false, ...options }));
}

function brief(record: LogRecord): string {
  const to = record.newPath === undefined ? "" : ` -> ${record.newPath.toString()}`;
  return `${record.op} ${record.path.toString()}${to}`;
}

async function versions(
  path: string,
  options: { from?: MomentRef; to?: MomentRef; countMax?: number } = {},
): Promise<FileVersion[]> {
  return all(history.history({ path: app.path(path), ...options }));
}

function line(version: FileVersion): string {
  return `${version.absent ? "absent" : version.op} ${version.path.toString()} ${version.attributes.size} x${version.recordCount}`;
}

test("the log tells each record's path as it was then", async () => {
  app.mkdir(root, "a");
  app.put(root, "a/f", "x");
  app.rename(root, "a", "b");
  app.write(root, "b/f", "y", 1n);
  app.rename(root, "b/f", "g");
  app.setattr(root, "g", { mode: 0o600 });
  app.unlink(root, "g");
  const records = await log("files");
  expect(records.map(brief)).toEqual([
    "SHARE_CREATE ",
    "MKDIR a",
    "CREATE a/f",
    "WRITE a/f",
    "RENAME a -> b",
    "WRITE b/f",
    "RENAME b/f -> g",
    "SETATTR g",
    "UNLINK g",
  ]);
  expect(records.every((record) => record.share?.name === "files")).toBe(true);
  expect(records[7]?.details).toEqual([{ name: "mode", value: "0600" }]);
  expect(records[3]).toMatchObject({
    details: [
      { name: "offset", value: 0n },
      { name: "length", value: 1n },
    ],
    actor: { pid: 100 },
  });
});

test("a log of a path has what was about it or below it, by the names of the time", async () => {
  app.mkdir(root, "a");
  app.mkdir(root, "ab");
  app.put(root, "a/f", "x");
  app.put(root, "ab/f", "x");
  app.link(root, "ab/f", "a/hard");
  app.write(root, "ab/f", "y");
  app.rename(root, "a", "c");
  app.put(root, "c/f", "z");
  expect((await log("files/a")).map(brief)).toEqual([
    "MKDIR a",
    "CREATE a/f",
    "WRITE a/f",
    "LINK a/hard",
    "WRITE a/hard",
    "RENAME a -> c",
  ]);
  expect((await log("files/c")).map(brief)).toEqual(["RENAME a -> c", "SETATTR c/f", "WRITE c/f"]);
});

test("newest first is oldest first reversed, over many segments, within limits", async () => {
  for (let index = 0; index < 700; index++) app.create(root, `f${index}`);
  expect(app.app.journal.segments().length).toBeGreaterThan(5);
  const oldest = await log("");
  expect(oldest).toHaveLength(701);
  expect(await log("", { order: "newest-first" })).toEqual([...oldest].reverse());
  expect((await log("", { order: "newest-first", countMax: 3 })).map((record) => record.lsn)).toEqual([701, 700, 699]);
  const some = await log("", { from: { kind: "lsn", lsn: 100 as Lsn }, to: { kind: "lsn", lsn: 105 as Lsn } });
  expect(some.map((record) => record.lsn)).toEqual([101, 102, 103, 104, 105]);
});

test("a followed log delivers records as they come, until it is cancelled", async () => {
  const controller = new AbortController();
  const pages = history.log(
    { path: app.path("files"), order: "oldest-first", follow: true },
    { signal: controller.signal },
  );
  const iterator = pages[Symbol.asyncIterator]();
  expect(present((await iterator.next()).value, "page").map(brief)).toEqual(["SHARE_CREATE "]);
  const next = iterator.next();
  app.create(root, "one");
  expect(present((await next).value, "page").map(brief)).toEqual(["CREATE one"]);
  const waiting = iterator.next();
  const rejected = expect(waiting).rejects.toMatchObject({ code: "CANCELLED" });
  controller.abort();
  await rejected;
});

test("versions join one piece of work, and follow the file across renames", async () => {
  app.put(root, "a", "1");
  app.write(root, "a", "2", 1n);
  pause();
  app.rename(root, "a", "b");
  pause();
  app.mkdir(root, "d");
  app.rename(root, "b", "d/c");
  app.write(root, "d/c", "345");
  const found = await versions("files/d/c");
  expect(found.map(line)).toEqual(["WRITE d/c 3 x2", "RENAME b 2 x1", "WRITE a 2 x3"]);
  expect(found[0]?.until).toBeUndefined();
  expect(found[1]?.until?.lsn).toBe(present(found[0], "version").since.lsn - 1);
  expect(found[2]?.until?.lsn).toBe(found[1]?.since.lsn);
});

test("a temporary file renamed over another continues the history of what it replaced, whichever processes did it", async () => {
  app.put(root, "f", "first");
  pause();
  app.put(root, "f.tmp", "second!");
  app.context = { ...app.context, actor: { ...app.context.actor, pid: 200 } };
  pause(5);
  app.rename(root, "f.tmp", "f");
  pause();
  app.write(root, "f", "x", 0n);
  const found = await versions("files/f");
  expect(found.map(line)).toEqual(["WRITE f 7 x1", "RENAME f 7 x3", "WRITE f 5 x2"]);
  expect(found[2]?.until?.lsn).toBe(found[1]?.since.lsn);
});

test("an editor that moves the old file away and writes a new one continues its history", async () => {
  app.put(root, "f", "old");
  pause();
  app.rename(root, "f", "f~");
  app.put(root, "f", "newer");
  app.unlink(root, "f~");
  expect((await versions("files/f")).map(line)).toEqual(["WRITE f 5 x2", "WRITE f 3 x2"]);
});

test("a deleted file has a history; the time without it is told", async () => {
  app.mkdir(root, "d");
  app.put(root, "d/f", "1");
  pause();
  app.unlink(root, "d/f");
  pause();
  app.put(root, "d/f", "22");
  const back = moment();
  pause();
  app.unlink(root, "d/f");
  app.rmdir(root, "d");
  const found = await versions("files/d/f");
  expect(found.map(line)).toEqual(["absent d/f 2 x1", "WRITE d/f 2 x2", "absent d/f 1 x1", "WRITE d/f 1 x2"]);
  expect(found[0]?.op).toBe("UNLINK");
  expect((await versions("files/d/f", { to: back })).map(line)).toEqual(found.slice(1).map(line));
  expect((await versions("files/d/f", { from: back })).map(line)).toEqual(["absent d/f 2 x1"]);
  expect(await versions("files/d/f", { countMax: 2 })).toHaveLength(2);
  await expect(versions("files/d/nothing")).rejects.toMatchObject({ code: "NOT_FOUND" });
});

test("hard links: the history of a path tells that path", async () => {
  app.put(root, "a", "1");
  pause();
  app.link(root, "a", "b");
  pause();
  app.write(root, "a", "22");
  expect((await versions("files/b")).map(line)).toEqual(["WRITE b 2 x1", "LINK b 1 x1", "WRITE a 1 x2"]);
});

test("history of one file among many changes reads only that file's rows", async () => {
  app.put(root, "wanted", "1");
  for (let index = 0; index < 2000; index++) {
    app.create(root, `other${index}`);
    if (index % 400 === 0) {
      pause();
      app.write(root, "wanted", `${index}`);
      await app.settle();
    }
  }
  const { store } = app.app;
  let rows = 0;
  const range = store.range.bind(store);
  store.range = (asked) => {
    const found = range(asked);
    rows += found.length;
    return found;
  };
  const found = await versions("files/wanted");
  expect(found).toHaveLength(6);
  expect(rows).toBeLessThan(200);
});

test("who made a version is told", async () => {
  app.put(root, "f", "1");
  app.context = SERVICE_CONTEXT;
  app.write(root, "f", "22");
  expect((await versions("files/f")).map((version) => version.actor.label)).toEqual(["service", ""]);
});

test("history begins where what is kept begins, with the version that holds there", async () => {
  app.put(root, "f", "1");
  pause();
  app.rename(root, "f", "g");
  pause();
  app.write(root, "g", "22");
  pause();
  app.create(root, "other");
  const floor = moment();
  pause();
  app.write(root, "g", "333");
  app.app.core.moments.raise(floor.lsn);
  expect((await versions("files/g")).map(line)).toEqual(["WRITE g 3 x1", "WRITE g 2 x1"]);
  expect((await log("files")).map((record) => record.lsn)).toEqual([floor.lsn + 1]);
  await expect(versions("files/g", { to: { kind: "lsn", lsn: 3 as Lsn } })).rejects.toMatchObject({
    code: "OUT_OF_HISTORY",
  });
});
