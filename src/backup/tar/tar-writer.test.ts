import { extract } from "tar-stream";
import { describe, expect, test } from "vitest";
import type { ExportItem } from "../../domain/admin-reading.ts";
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_IFSOCK } from "../../domain/inode.ts";
import { encodeAcl } from "../../meta/acl.ts";
import { BLOCK_BYTES } from "./blocks.ts";
import { decodeHeader } from "./header-block.ts";
import { archiveOf, entry, file, itemsOf, piecesOf, root } from "./tar-fixture.ts";
import { readTar } from "./tar-reader.ts";
import { tarBytes } from "./tar-writer.ts";

/** Everything an archive says about an entry, as the reader understands it. */
function told(items: readonly ExportItem[]): unknown[] {
  return items
    .filter((item) => item.kind !== "ranges")
    .map((item) => {
      if (item.kind !== "entry") return item;
      const { mode, uid, gid, rdev, size, mtime, atime, ctime } = item.attributes;
      // A further name is whatever the first one is.
      const own =
        item.linkedTo === undefined
          ? { mode, rdev, xattrs: [...item.xattrs].sort((one, other) => one.name.compare(other.name)) }
          : {};
      const { path, target, linkedTo, contentFollows } = item;
      return { path, target, linkedTo, contentFollows, uid, gid, size, mtime, atime, ctime, ...own };
    });
}

async function roundTrip(items: readonly ExportItem[]): Promise<void> {
  const { bytes, notes } = await archiveOf(items);
  expect(notes).toEqual([]);
  expect(bytes.length % BLOCK_BYTES).toBe(0);
  expect(told((await itemsOf(bytes)).items)).toEqual(told(items));
}

describe("an archive says, and is read back with", () => {
  test("every type of file", () =>
    roundTrip(
      [
        root(),
        ...file("file", [[0, "hello"]]),
        ...file("empty", []),
        entry("d", S_IFDIR | 0o1777),
        entry("d/link", S_IFLNK | 0o777, { target: "../file" }),
        entry("fifo", S_IFIFO | 0o600),
        entry("null", S_IFCHR | 0o666, { rdev: 0x103 }),
        entry("disk", S_IFBLK | 0o660, { rdev: 0xfff0_00ff | 0 }),
        entry("d/again", S_IFREG | 0o640, { linkedTo: "file", size: 0n }),
      ].map((item) =>
        item.kind === "entry"
          ? { ...item, attributes: { ...item.attributes, rdev: item.attributes.rdev >>> 0 } }
          : item,
      ),
    ));

  test("modes with every bit, and with none", () =>
    roundTrip([
      root(),
      ...file("all", [[0, "x"]], { mode: S_IFREG | 0o7777 }),
      ...file("none", [], { mode: S_IFREG }),
    ]));

  test("owners beyond what octal digits hold", () =>
    roundTrip([
      root(),
      ...file("a", [], { uid: 0o777777, gid: 0o1000000 }),
      ...file("b", [], { uid: 2 ** 32 - 2, gid: 2 ** 31 }),
    ]));

  test("times before 1970, after 2038, and every nanosecond", () =>
    roundTrip([
      root(),
      ...file("old", [], { mtime: { sec: -2_051_124_955, nsec: 1 }, atime: { sec: -1, nsec: 999_999_999 } }),
      ...file("new", [], { mtime: { sec: 16_725_225_600, nsec: 0 }, ctime: { sec: 2 ** 31, nsec: 5 } }),
    ]));

  test("names of any bytes and any length", () =>
    roundTrip([
      root(),
      ...["new\nline", " leading", "trailing ", "ä€😀", "x".repeat(255), "=", "%41", "\\"].flatMap((name) =>
        file(name, []),
      ),
      ...file(Buffer.from([0xff, 0xfe, 0x80]), [[0, "x"]]),
      ...file(Buffer.from([...Buffer.from("d/"), 0xff]), [[9, "sparse"]]),
      entry("e".repeat(100), S_IFDIR | 0o755),
      ...file(`${`${"y".repeat(255)}/`.repeat(20)}z`, []),
      entry("link", S_IFLNK | 0o777, { target: "t".repeat(4095) }),
      entry("far", S_IFREG | 0o640, { linkedTo: `${`${"y".repeat(255)}/`.repeat(20)}z` }),
    ]));

  test("extended attributes of any bytes, and access lists", () => {
    const xattr = (name: string, value: Buffer) => ({ name: Buffer.from(name, "latin1"), value });
    const list = encodeAcl(
      [0x01, 0x02, 0x04, 0x10, 0x20].map((tag) => ({ tag, permissions: 5, id: tag === 2 ? 77 : 0xffff_ffff })),
    );
    const xattrs = [
      xattr("security.capability", Buffer.from([1, 0, 0, 2, 0xff])),
      xattr("user.\xff=%25\n", Buffer.from([0, 0x0a, 0x3d])),
      xattr("user.empty", Buffer.alloc(0)),
      xattr("user.large", Buffer.alloc(65_536, 0xfe)),
      xattr("system.posix_acl_access", list),
      xattr("system.posix_acl_default", list),
    ];
    return roundTrip([root(), entry("d", S_IFDIR | 0o755, { xattrs })]);
  });

  test("holes at the beginning, between, at the end, and nothing but a hole", () =>
    roundTrip([
      root(),
      ...file("middle", [
        [0, "a"],
        [5, "b"],
        [1_000_000, "c".repeat(70_000)],
      ]),
      ...file("end", [[3, "x"]], { size: 2n ** 62n }),
      ...file("hole", [], { size: 512n }),
      ...file(
        "many",
        Array.from({ length: 3000 }, (_, index): [number, string] => [index * 8192, `${index}`]),
      ),
    ]));

  test("a single file under its name", async () => {
    const { items } = await itemsOf((await archiveOf(file("", [[0, "one"]]))).bytes);
    expect(items[0]).toMatchObject({ kind: "entry", path: Buffer.from("root") });
  });
});

test("the same items make the same bytes, however they are paged", async () => {
  const items = [
    root(),
    ...file("a", [
      [0, "x"],
      [100, "y"],
    ]),
    entry("d", S_IFDIR | 0o700),
  ];
  const { bytes } = await archiveOf(items);
  const all = async function* () {
    yield items;
  };
  const other: Buffer[] = [];
  for await (const piece of tarBytes(all(), { rootName: Buffer.from("r"), note: () => {} })) other.push(piece);
  expect(Buffer.concat(other).equals(bytes)).toBe(true);
});

test("tar-stream reads what is text, as others do", async () => {
  const { bytes } = await archiveOf([
    root(),
    ...file("ä", [[0, "content"]], { uid: 3_000_000 }),
    entry("l", S_IFLNK | 0o777, { target: "ä" }),
    entry("m", S_IFREG, { linkedTo: "ä" }),
  ]);
  const seen: unknown[] = [];
  const reader = extract();
  reader.on("entry", ({ name, type, linkname, pax }, stream, next) => {
    seen.push([type, name, linkname, (pax as Record<string, string>)["uid"]]);
    stream.on("end", () => next());
    stream.resume();
  });
  const ended = new Promise((resolve, reject) => reader.on("finish", () => resolve(undefined)).on("error", reject));
  for await (const piece of piecesOf(bytes)) reader.write(piece);
  reader.end(null);
  await ended;
  expect(seen).toEqual([
    ["directory", "./", null, undefined],
    ["file", "./ä", null, "3000000"],
    ["symlink", "./l", "ä", undefined],
    ["link", "./m", "./ä", undefined],
  ]);
});

test("a file beyond 8 GiB says its size, to readers with and without extended headers", async () => {
  const size = 9n * 1024n ** 3n;
  const [opened] = file("large", [], { size });
  const endless = async function* (): AsyncGenerator<readonly ExportItem[]> {
    if (opened !== undefined) yield [opened, { kind: "ranges", ranges: [{ offset: 0n, length: size }] }];
    for (let offset = 0n; ; offset += 65_536n) yield [{ kind: "data", offset, bytes: Buffer.alloc(65_536, "x") }];
  };
  let start = Buffer.alloc(0);
  for await (const piece of tarBytes(endless(), { rootName: Buffer.from("r"), note: () => {} })) {
    start = Buffer.concat([start, piece]);
    if (start.length > 4096) break;
  }
  const seen: ExportItem[] = [];
  const read = async (): Promise<void> => {
    const options = { note: () => {}, lookup: () => undefined };
    for await (const item of readTar(piecesOf(start), options)) seen.push(item);
  };
  await expect(read()).rejects.toThrow(/cut off inside of ".\/large"/);
  expect(seen[0]).toMatchObject({ attributes: { size } });
  expect(decodeHeader(start.subarray(1024, 1536), "the header").size).toBe(size);
});

test("a socket is left out, and told", async () => {
  const { bytes, notes } = await archiveOf([root(), entry("s", S_IFSOCK | 0o755), ...file("f", [])]);
  expect(notes).toEqual([expect.stringMatching(/^s: a socket/)]);
  expect((await itemsOf(bytes)).items.filter(({ kind }) => kind === "entry")).toHaveLength(2);
});

test("damaged content is zeros as long as it was, and told; what follows is right", async () => {
  const [opened, , , ended] = file("bad", [[0, "0123456789"]]);
  const ranges = {
    kind: "ranges",
    ranges: [
      { offset: 0n, length: 4n },
      { offset: 8n, length: 2n },
    ],
  } as const;
  const items = [opened, ranges, { kind: "data", offset: 0n, bytes: Buffer.from("01") } as const, ended].filter(
    (item) => item !== undefined,
  );
  const broken = items.map((item) =>
    item.kind === "end" ? { ...item, complete: false, message: "a block is gone" } : item,
  );
  const { bytes, notes } = await archiveOf([root(), ...broken, ...file("good", [[0, "fine"]])]);
  expect(notes).toEqual(["bad: a block is gone; the archive has zeros there"]);
  const data = (await itemsOf(bytes)).items.filter((item) => item.kind === "data");
  expect(data.map(({ offset, bytes: content }) => [offset, content.toString("latin1")])).toEqual([
    [0n, "01\0\0"],
    [8n, "\0\0"],
    [0n, "fine"],
  ]);
});

test("a tree is not read much further than the archive is, and no further when its reader goes", async () => {
  let pulled = 0;
  let closed = false;
  const endless = async function* (): AsyncGenerator<readonly ExportItem[]> {
    try {
      yield [root()];
      for (;;) {
        pulled += 1;
        yield file(`f${pulled}`, [[0, Buffer.alloc(65_536)]]);
      }
    } finally {
      closed = true;
    }
  };
  let taken = 0;
  for await (const piece of tarBytes(endless(), { rootName: Buffer.from("r"), note: () => {} })) {
    taken += piece.length;
    expect(pulled * 65_536 - taken).toBeLessThan(4 * 1024 * 1024);
    if (taken > 8 * 1024 * 1024) break;
  }
  expect(closed).toBe(true);
});

test("headers alone wait for the reader too", async () => {
  let pulled = 0;
  const endless = async function* (): AsyncGenerator<readonly ExportItem[]> {
    for (;;) yield Array.from({ length: 100 }, () => entry(`d${pulled++}`, S_IFDIR | 0o755));
  };
  for await (const _ of tarBytes(endless(), { rootName: Buffer.from("r"), note: () => {} })) break;
  expect(pulled).toBeLessThan(10_000);
});

test("a failure of the tree is the archive's failure", async () => {
  const failing = async function* (): AsyncGenerator<readonly ExportItem[]> {
    yield [root(), ...file("a", [[0, "x"]]).slice(0, 2)];
    throw new Error("the service went away");
  };
  const read = async (): Promise<void> => {
    for await (const _ of tarBytes(failing(), { rootName: Buffer.from("r"), note: () => {} }));
  };
  await expect(read()).rejects.toThrow("the service went away");
  await expect(archiveOf([root(), ...file("a", []).slice(0, 1)])).rejects.toThrow("inside of a file");
});
