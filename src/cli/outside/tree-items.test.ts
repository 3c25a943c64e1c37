import { expect, test } from "vitest";
import { ItemPacker, unpackItems } from "./tree-items.ts";
import type { TreeItem } from "./tree-writer.ts";

const ENTRY: TreeItem = {
  kind: "entry",
  path: Buffer.from([0x66, 0xff, 0x2f, 0x61]),
  target: Buffer.from("to"),
  xattrs: [
    { name: Buffer.from("user.a"), value: Buffer.from([0, 255]) },
    { name: Buffer.from("user.empty"), value: Buffer.alloc(0) },
  ],
  attributes: {
    mode: 0o106755,
    uid: 2 ** 32 - 2,
    gid: 5678,
    rdev: 259,
    size: 2n ** 62n,
    atime: { sec: -1, nsec: 999_999_999 },
    mtime: { sec: 2 ** 40, nsec: 1 },
  },
  contentFollows: true,
};

const ITEMS: readonly TreeItem[] = [
  ENTRY,
  { kind: "data", offset: 2n ** 61n, bytes: Buffer.from("content") },
  { kind: "end", complete: true },
  { ...ENTRY, path: Buffer.alloc(0), target: Buffer.alloc(0), xattrs: [], contentFollows: false },
  { ...ENTRY, contentFollows: false, linkedTo: Buffer.from("a/first") },
  { kind: "end", complete: false, message: "segment 3 is gone — ünlesbar" },
];

test("items come back as they were", () => {
  const packer = new ItemPacker();
  const memory = Buffer.from(new SharedArrayBuffer(4096));
  packer.begin(memory);
  for (const item of ITEMS) expect(packer.add(item)).toBe(true);
  expect(ITEMS.reduce((sum, item) => sum + packer.bytesOf(item), 0)).toBe(packer.used);
  expect([...unpackItems(memory.subarray(0, packer.used))]).toEqual(ITEMS);
});

test("an item for which there is no room is not begun", () => {
  const packer = new ItemPacker();
  const memory = Buffer.alloc(packer.bytesOf(ENTRY) + 3);
  packer.begin(memory);
  expect(packer.add(ENTRY)).toBe(true);
  expect(packer.add({ kind: "data", offset: 0n, bytes: Buffer.alloc(0) })).toBe(false);
  expect([...unpackItems(memory.subarray(0, packer.used))]).toEqual([ENTRY]);
});

test("an entry outlives the memory that it came in", () => {
  const packer = new ItemPacker();
  const memory = Buffer.alloc(1024);
  packer.begin(memory);
  packer.add(ENTRY);
  const [entry] = unpackItems(memory.subarray(0, packer.used));
  memory.fill(0);
  expect(entry).toEqual(ENTRY);
});
