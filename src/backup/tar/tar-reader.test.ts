import { describe, expect, test } from "vitest";
import type { ExportItem } from "../../domain/admin-reading.ts";
import { S_IFDIR } from "../../domain/inode.ts";
import { encodePaxRecord } from "./pax.ts";
import { archiveOf, END, entry, file, itemsOf, member, root } from "./tar-fixture.ts";

/** What a test says of items: the path and type or link of entries, the data of files. */
function shown(items: readonly ExportItem[]): string[] {
  return items.map((item) => {
    switch (item.kind) {
      case "entry":
        return item.linkedTo === undefined
          ? `${item.path} ${(item.attributes.mode >> 12).toString(8)} ${item.attributes.size}`
          : `${item.path} is ${item.linkedTo}`;
      case "data":
        return `${item.offset}: ${item.bytes.length > 20 ? item.bytes.length : item.bytes}`;
      default:
        return item.kind;
    }
  });
}

const read = async (...parts: readonly Buffer[]): Promise<string[]> =>
  shown((await itemsOf(Buffer.concat(parts))).items);

const pax = (records: readonly (readonly [string, string | Buffer])[], type = "x"): Buffer =>
  member("PaxHeader", { type, content: Buffer.concat(records.map(([key, value]) => encodePaxRecord(key, value))) });

describe("the archives of others are read", () => {
  test("ustar, with its prefix; a slash at the end makes a directory; old headers without a mark", async () => {
    const prefixed = member("name", { patch: (block) => block.write("some/where", 345, "latin1") });
    const old = { magic: "\0\0\0\0\0\0\0\0" };
    expect(await read(prefixed, member("d/"), member("v7", { ...old, content: "x", type: "\0" }), END)).toEqual([
      "some/where/name 10 0",
      "end",
      "d 4 0",
      "v7 10 1",
      "0: x",
      "end",
    ]);
  });

  test("GNU's long names and link targets, and base-256 numbers", async () => {
    const long = `./${"n".repeat(200)}`;
    const gnu = { magic: "ustar  \0" };
    const patch = (block: Buffer): void => {
      block.write("800000000000000000000001", 124, "hex");
      block.write("ffffffffffffffffffffffff", 136, "hex");
      block.write("80000000ee6b2800", 108, "hex");
    };
    const parts = [
      member("././@LongLink", { ...gnu, type: "L", content: `${long}\0` }),
      member("cut", { ...gnu, content: "x", patch }),
      member("././@LongLink", { ...gnu, type: "K", content: `${long}\0` }),
      member("hard", { ...gnu, type: "1", linkName: "cut" }),
    ];
    const { items } = await itemsOf(Buffer.concat([...parts, END]));
    expect(shown(items)).toEqual([`${"n".repeat(200)} 10 1`, "0: x", "end", `hard is ${"n".repeat(200)}`]);
    expect(items[0]).toMatchObject({ attributes: { uid: 4_000_000_000, mtime: { sec: -1, nsec: 0 } } });
  });

  test("what an extended header says for all members holds until a member says otherwise", async () => {
    const { items } = await itemsOf(
      Buffer.concat([
        pax(
          [
            ["uid", "7"],
            ["mtime", "5.5"],
          ],
          "g",
        ),
        member("a"),
        pax([["uid", "8"]]),
        member("b"),
        pax([["uid", ""]]),
        member("c"),
        END,
      ]),
    );
    const owners = items.filter((item) => item.kind === "entry").map(({ attributes }) => attributes.uid);
    expect(owners).toEqual([7, 8, 0]);
    expect(items[0]).toMatchObject({ attributes: { mtime: { sec: 5, nsec: 500_000_000 } } });
  });

  test("libarchive's attributes, and access lists with names that are not known", async () => {
    const list = "user::rwx\nuser:who:r--\ngroup::r--\nmask::r--\nother::---";
    const header = pax([
      ["LIBARCHIVE.xattr.user.a%3Db", Buffer.from([0, 255]).toString("base64")],
      ["SCHILY.acl.access", list],
    ]);
    const { items, notes } = await itemsOf(Buffer.concat([header, member("f"), END]));
    expect(items[0]).toMatchObject({ xattrs: [{ name: Buffer.from("user.a=b"), value: Buffer.from([0, 255]) }] });
    expect(notes).toEqual(['f: access list left out: this machine knows no user "who"']);
  });

  test("a hard link that comes with its content again, and types nobody knows", async () => {
    const parts = [pax([["size", "3"]]), member("l", { type: "1", linkName: "./f", content: "abc" })];
    const { items, notes } = await itemsOf(
      Buffer.concat([...parts, member("odd", { type: "Z", content: "zzz" }), member("f"), END]),
    );
    expect(shown(items)).toEqual(["l is f", "f 10 0", "end"]);
    expect(notes).toEqual([expect.stringMatching(/^odd: .*"Z"/)]);
  });

  test("sparse files in GNU's four formats", async () => {
    const content = `${"a".repeat(512)}${"b".repeat(100)}`;
    const octal = (value: number): string => `${value.toString(8).padStart(11, "0")}\0`;
    const old = member("s", {
      type: "S",
      magic: "ustar  \0",
      content,
      patch: (block) => {
        for (const [index, [offset, length]] of [
          [512, 512],
          [4096, 100],
          [5000, 0],
        ].entries())
          block.write(octal(offset ?? 0) + octal(length ?? 0), 386 + 24 * index, "latin1");
        block.write(octal(5000), 483, "latin1");
      },
    });
    const size = ["GNU.sparse.size", "5000"] as const;
    const zero = pax([
      size,
      ["GNU.sparse.numblocks", "2"],
      ["GNU.sparse.offset", "512"],
      ["GNU.sparse.numbytes", "512"],
      ["GNU.sparse.offset", "4096"],
      ["GNU.sparse.numbytes", "100"],
    ]);
    const listed = pax([size, ["GNU.sparse.name", "s"], ["GNU.sparse.map", "512,512,4096,100,5000,0"]]);
    const mapped = pax([
      ["GNU.sparse.major", "1"],
      ["GNU.sparse.minor", "0"],
      ["GNU.sparse.name", "s"],
      ["GNU.sparse.realsize", "5000"],
    ]);
    const map = Buffer.alloc(512);
    map.write("3\n512\n512\n4096\n100\n5000\n0\n");
    const expected = ["s 10 5000", "512: 512", "4096: 100", "end"];
    expect(await read(old, END)).toEqual(expected);
    expect(await read(zero, member("s", { content }), END)).toEqual(expected);
    expect(await read(listed, member("GNUSparseFile.1/s", { content }), END)).toEqual(expected);
    const whole = Buffer.concat([map, Buffer.from(content)]);
    expect(await read(mapped, member("GNUSparseFile.1/s", { content: whole }), END)).toEqual(expected);
  });

  test("an old sparse header goes on in further blocks", async () => {
    const octal = (value: number): string => `${value.toString(8).padStart(11, "0")}\0`;
    const ranges = Array.from({ length: 30 }, (_, index) => octal(index * 1024) + octal(1));
    const more = Buffer.alloc(1024);
    more.write(ranges.slice(4, 25).join(""), 0, "latin1");
    more[504] = 1;
    more.write(ranges.slice(25).join(""), 512, "latin1");
    const header = member("s", {
      type: "S",
      size: 30,
      magic: "ustar  \0",
      patch: (block) => {
        block.write(ranges.slice(0, 4).join(""), 386, "latin1");
        block[482] = 1;
        block.write(octal(30_000), 483, "latin1");
      },
    });
    const items = await read(header, more, Buffer.alloc(512, "x"), END);
    expect(items).toHaveLength(32);
    expect(items[30]).toBe(`${29 * 1024}: x`);
  });

  test("names mean what lies below, however they are written", async () => {
    const names = ["./a", "b//c/", "././d/./e", "./"].map((name) => member(name, { type: "5" }));
    expect(await read(...names, END)).toEqual(["a 4 0", "b/c 4 0", "d/e 4 0", " 4 0"]);
  });

  test("what follows the end mark is nothing", async () => {
    expect(await read(member("a"), END, Buffer.from("whatever"))).toHaveLength(2);
    expect(await read(member("a"), Buffer.alloc(512))).toHaveLength(2);
  });
});

describe("is refused, naming the member,", () => {
  test.each([
    ["an absolute name", [member("/etc/passwd")], /"\/etc\/passwd" is absolute/],
    ["a name that leads out", [member("a/../../b")], /"a\/..\/..\/b" leads out/],
    ["such a name in an extended header", [pax([["path", "../x"]]), member("ok")], /"..\/x" leads out/],
    ["such a name of a sparse file", [pax([["GNU.sparse.name", "/x"]]), member("ok")], /"\/x" is absolute/],
    ["a NUL in a name", [pax([["path", "a\0b"]]), member("ok")], /NUL/],
    [
      "a hard link that leads out",
      [member("l", { type: "1", linkName: "../x" })],
      /"l" is a hard link whose target "..\/x" leads out/,
    ],
    ["an absolute hard link", [member("l", { type: "1", linkName: "/etc/shadow" })], /"l" is a hard link .* absolute/],
    ["a hard link to the root", [member("l", { type: "1", linkName: "./" })], /"l" is a hard link to the place/],
    ["a file in the root's place", [member("./", { type: "2", linkName: "x" })], /"\.\/" is the place itself/],
    ["an empty name", [member("")], /is empty/],
    ["a name without end", [member("L", { type: "L", content: "a/".repeat(5000) }), member("x")], /deeper than/],
  ])("%s", async (_, parts, message) => {
    await expect(read(...parts, END)).rejects.toMatchObject({
      code: "TAR_REFUSED",
      message: expect.stringMatching(message),
    });
  });
});

describe("damage is told, naming the place:", () => {
  const number = (at: number, text: string) => ({ patch: (block: Buffer) => block.write(text, at, "latin1") });

  test.each([
    ["nothing at all", [], /nothing to read/],
    ["no end mark", [member("a")], /after "a": its end mark is missing/],
    ["a cut header", [member("a"), member("b").subarray(0, 100)], /inside of a header/],
    [
      "a cut content",
      [member("big", { content: "x".repeat(2000) }).subarray(0, 1024)],
      /inside of "big": at least 1488 bytes/,
    ],
    ["a cut extended header", [pax([["path", "x".repeat(600)]]).subarray(0, 1000)], /end mark is missing/],
    ["a checksum", [member("a"), Buffer.alloc(512, "x"), END], /header at byte 512 \(after "a"\).*checksum/],
    ["a size that is no number", [member("a", number(124, "12x")), END], /size is no number/],
    ["a negative size", [member("a", { patch: (block) => block.fill(0xff, 124, 136) }), END], /size is -1/],
    ["a size beyond all", [pax([["size", "99999999999999999999"]]), member("a"), END], /"a" is damaged: its size/],
    ["a huge size", [pax([["size", "9223372036854775807"]]), member("a"), END], /inside of "a"/],
    ["an owner nobody has", [pax([["uid", "4294967295"]]), member("a"), END], /"a" is damaged: its uid is 4294967295/],
    ["a time that is none", [pax([["mtime", "soon"]]), member("a"), END], /its mtime is "soon"/],
    ["an extended header", [member("p", { type: "x", content: "99 a=b\n" }), member("a"), END], /records do not fit/],
    ["zeros in the middle", [member("a"), Buffer.alloc(512), member("b"), END], /after zeros/],
    ["an extended header of nothing", [pax([["uid", "1"]]), END], /end mark is missing/],
    ["a link without a target", [member("l", { type: "2" }), END], /"l" is a symbolic link without/],
    [
      "a map beyond the size",
      [
        pax([
          ["GNU.sparse.size", "10"],
          ["GNU.sparse.map", "8,3"],
        ]),
        member("s", { content: "abc" }),
        END,
      ],
      /"s" is damaged: its map/,
    ],
    [
      "a map that goes back",
      [
        pax([
          ["GNU.sparse.size", "10"],
          ["GNU.sparse.map", "4,2,0,1"],
        ]),
        member("s", { content: "abc" }),
        END,
      ],
      /its map/,
    ],
    [
      "a map of other data",
      [
        pax([
          ["GNU.sparse.size", "10"],
          ["GNU.sparse.map", "4,2"],
        ]),
        member("s", { content: "abc" }),
        END,
      ],
      /does not fit its size/,
    ],
  ])("%s", async (_, parts, message) => {
    await expect(read(...parts)).rejects.toMatchObject({
      code: "TAR_DAMAGED",
      message: expect.stringMatching(message),
    });
  });

  test.each([
    ["a compressed archive", [Buffer.concat([Buffer.from("1f8b0800", "hex"), Buffer.alloc(600)])], /gzip -dc/],
    ["another volume", [member("m", { type: "M" }), END], /volumes/],
    ["a header without end", [member("p", { type: "x", size: 2 ** 33 - 1 }), END], /more than/],
    ["an unknown sparse format", [pax([["SCHILY.realsize", "10"]]), member("s"), END], /not known/],
    [
      "a device that can't be",
      [member("c", { type: "3", patch: (block) => block.write("7777777", 329) }), END],
      /Linux can't have/,
    ],
  ])("%s", async (_, parts, message) => {
    await expect(read(...parts)).rejects.toMatchObject({
      code: "TAR_UNSUPPORTED",
      message: expect.stringMatching(message),
    });
  });

  test("wherever an archive is cut, it is told, and what came before was right", async () => {
    const whole = (
      await archiveOf([
        root(),
        ...file("a", [
          [0, "x".repeat(600)],
          [5000, "y"],
        ]),
        entry("d", S_IFDIR),
      ])
    ).bytes;
    const all = shown((await itemsOf(whole)).items);
    for (let length = 0; length <= whole.length - 1024; length += 37) {
      await expect(itemsOf(whole.subarray(0, length), 4096)).rejects.toMatchObject({ code: "TAR_DAMAGED" });
    }
    expect(shown((await itemsOf(whole, 1)).items)).toEqual(all);
  });
});
