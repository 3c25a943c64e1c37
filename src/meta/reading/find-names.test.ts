import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { FoundName } from "../../domain/admin-reading.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { InodeId } from "../../domain/ids.ts";
import { History } from "./history.ts";
import { all, type TestApp, TestApps } from "./test-app.ts";

let apps: TestApps;
let app: TestApp;
let root: InodeId;
let history: History;

beforeEach(async () => {
  apps = await TestApps.open();
  app = await apps.app("shop");
  root = app.share("files").root;
  history = new History(apps.parts);
});

afterEach(() => apps.close());

async function find(pattern: string, options: { place?: string; deletedOnly?: boolean } = {}): Promise<FoundName[]> {
  const { place = "", deletedOnly = false } = options;
  return all(history.find({ path: app.path(place), pattern: Buffer.from(pattern), deletedOnly }));
}

const brief = (found: readonly FoundName[]): string[] =>
  found.map(({ path, until }) => `${path}${until === undefined ? "" : ` (gone at ${until.lsn})`}`).sort();

describe("finding names over the whole history", () => {
  test("tells what is there and what was, by the path it had at the end", async () => {
    app.mkdir(root, "a");
    app.put(root, "a/x.env", "one");
    app.put(root, "keep.env", "two");
    app.rename(root, "a", "b");
    app.unlink(root, "b/x.env");
    const gone = app.app.core.lastLsn;
    app.rmdir(root, "b");
    expect(brief(await find("*.env"))).toEqual([`b/x.env (gone at ${gone})`, "keep.env"]);
    expect(brief(await find("*.env", { deletedOnly: true }))).toEqual([`b/x.env (gone at ${gone})`]);
    expect(await find("nothing*")).toEqual([]);
  });

  test("a file that is written beside and renamed over is one name, since it first was there", async () => {
    app.put(root, "note", "1");
    const [first] = await find("note");
    for (const text of ["2", "3"]) {
      app.put(root, "note.tmp", text);
      app.rename(root, "note.tmp", "note");
    }
    const [found, ...more] = await find("note");
    expect(more).toEqual([]);
    expect(found?.since).toEqual(first?.since);
    expect(found?.until).toBeUndefined();
    app.unlink(root, "note");
    const [gone, ...others] = await find("note");
    expect(others).toEqual([]);
    expect(gone?.since).toEqual(first?.since);
    expect(gone?.until?.lsn).toBe(app.app.core.lastLsn);
    expect(gone?.attributes.size).toBe(1n);
  });

  test("a name that came back is found once for each time it was there", async () => {
    app.put(root, "note", "1");
    app.unlink(root, "note");
    app.put(root, "note", "2");
    expect(await find("note")).toHaveLength(2);
    expect(await find("note", { deletedOnly: true })).toHaveLength(1);
  });

  test("finds in one share or in all, also those that were applied already", async () => {
    const other = app.share("other").root;
    app.put(root, "x", "1");
    app.put(other, "x", "1");
    await app.settle();
    expect((await find("x")).map(({ share }) => share.name).sort()).toEqual(["files", "other"]);
    expect((await find("x", { place: "other" })).map(({ share }) => share.name)).toEqual(["other"]);
  });

  test("goes through more names than are read at a time", async () => {
    for (let number = 0; number < 600; number++) {
      app.create(root, `f${number}`);
      if (number % 2 === 0) app.unlink(root, `f${number}`);
      if (number % 200 === 0) await app.settle();
    }
    expect(await find("f*")).toHaveLength(600);
    expect(await find("f*", { deletedOnly: true })).toHaveLength(300);
  });

  test("a path inside a share and a pattern that is none are refused", async () => {
    await expect(find("x", { place: "files/a" })).rejects.toThrow(TidemarkError);
    await expect(find("a/b")).rejects.toThrow(TidemarkError);
  });
});
