import { expect, test } from "vitest";
import type { ExportItem } from "../../domain/admin-reading.ts";
import { checkedTree } from "./checked-tree.ts";

const DIRECTORY = 0o040755;
const FILE = 0o100644;
const SYMLINK = 0o120777;
const TIME = { sec: 1, nsec: 0 };

function entry(
  path: string,
  mode: number,
  { nlink = 1, linkedTo }: { nlink?: number; linkedTo?: string } = {},
): ExportItem {
  const times = { atime: TIME, mtime: TIME, ctime: TIME, btime: TIME };
  const attributes = { ino: 1 as never, mode, uid: 0, gid: 0, nlink, rdev: 0, size: 0n, allocatedBytes: 0n, ...times };
  const further = linkedTo === undefined ? {} : { linkedTo: Buffer.from(linkedTo) };
  return {
    kind: "entry",
    path: Buffer.from(path),
    attributes,
    target: Buffer.alloc(0),
    xattrs: [],
    contentFollows: false,
    ...further,
  };
}

async function passes(...items: ExportItem[]): Promise<boolean> {
  const pages = (async function* () {
    for (const item of items) yield [item];
  })();
  const passed: ExportItem[] = [];
  try {
    for await (const page of checkedTree(pages)) passed.push(...page);
  } catch (error) {
    expect(error).toMatchObject({ code: "DATA_DAMAGED" });
    expect(passed).toEqual(items.slice(0, -1));
    return false;
  }
  expect(passed).toEqual(items);
  return true;
}

const ROOT = entry("", DIRECTORY);

test("a tree depth first, and one file alone, pass as they are", async () => {
  const linked = { nlink: 2 };
  expect(
    await passes(
      ROOT,
      entry("a", DIRECTORY),
      entry("a/f", FILE, linked),
      entry("b", FILE),
      entry("c", DIRECTORY),
      entry("c/l", FILE, { ...linked, linkedTo: "a/f" }),
    ),
  ).toBe(true);
  expect(await passes(entry("", FILE))).toBe(true);
});

test("no name leads out of the tree, or through a link or file of it", async () => {
  for (const path of ["..", ".", "../evil", "/etc/x", "a/../../x", "a//b", "a/", "x\0y", "not/there", ""])
    expect([path, await passes(ROOT, entry("a", DIRECTORY), entry(path, FILE))]).toEqual([path, false]);
  expect(await passes(ROOT, entry("link", SYMLINK), entry("link/evil", FILE))).toBe(false);
  expect(await passes(ROOT, entry("a", DIRECTORY), entry("b", DIRECTORY), entry("a/late", FILE))).toBe(false);
  expect(await passes(entry("", FILE), entry("x", FILE))).toBe(false);
  expect(await passes(entry("x", DIRECTORY))).toBe(false);
});

test("a further name is one of a file that came before", async () => {
  const further = (linkedTo: string): ExportItem => entry("l", FILE, { nlink: 2, linkedTo });
  expect(await passes(ROOT, entry("f", FILE, { nlink: 2 }), further("../../x"))).toBe(false);
  expect(await passes(ROOT, entry("f", FILE), further("f"))).toBe(false);
  expect(await passes(ROOT, entry("d", DIRECTORY, { nlink: 2 }), further("d"))).toBe(false);
});
