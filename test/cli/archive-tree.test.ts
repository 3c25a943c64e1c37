import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { encodePaxRecord } from "../../src/backup/tar/pax.ts";
import { TarError } from "../../src/backup/tar/tar-error.ts";
import { archiveOf, END, entry, file, member, piecesOf, root, sealHeader } from "../../src/backup/tar/tar-fixture.ts";
import { readTar } from "../../src/backup/tar/tar-reader.ts";
import { ArchiveTree } from "../../src/cli/outside/archive-tree.ts";
import { closeFolder, openRoot } from "../../src/cli/outside/folder-walk.ts";
import { nativeFiles } from "../../src/cli/outside/native-files.ts";
import { Shortfalls } from "../../src/cli/outside/shortfalls.ts";
import { S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG } from "../../src/domain/inode.ts";

const native = nativeFiles();
const me = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };

let folder: string;
let out: string;

/** What stands beside the target, where nothing may ever change. */
const OUTSIDE = "precious";

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tidemark-archive-"));
  out = join(folder, "out");
  mkdirSync(out);
  mkdirSync(join(folder, "outside"));
  writeFileSync(join(folder, "outside/file"), OUTSIDE);
});

afterEach(() => {
  expect(readdirSync(folder).sort()).toEqual(["out", "outside"]);
  expect(readdirSync(join(folder, "outside"))).toEqual(["file"]);
  expect(readFileSync(join(folder, "outside/file"), "utf8")).toBe(OUTSIDE);
  expect(lstatSync(join(folder, "outside/file")).nlink).toBe(1);
  rmSync(folder, { recursive: true, force: true });
});

/** Unpacks an archive; answers what could not be made. */
async function unpack(bytes: Buffer): Promise<{ shortfalls: Shortfalls; tree: ArchiveTree }> {
  const shortfalls = new Shortfalls();
  const target = openRoot(out);
  const tree = new ArchiveTree({ native, shortfalls, user: me }, target);
  const note = (path: Buffer, reason: string): void => shortfalls.add({ path, part: "file", reason });
  try {
    for await (const item of readTar(piecesOf(bytes, 4096), { note, lookup: () => undefined })) tree.accept(item);
    tree.finish();
  } catch (error) {
    tree.abandon();
    throw error;
  } finally {
    closeFolder(target);
  }
  return { shortfalls, tree };
}

const unpackParts = (...parts: readonly Buffer[]) => unpack(Buffer.concat([...parts, END]));
const at = (path: string): string => join(out, path);
const refused = (message: RegExp) => ({ code: "TAR_REFUSED", message: expect.stringMatching(message) });

const MINE = { uid: me.uid, gid: me.gid };
const TIME_NS = 1_600_000_000_123_456_789n;

describe("an archive is unpacked", () => {
  test("with directories, files, links, FIFOs, modes and times", async () => {
    const { bytes } = await archiveOf([
      { ...root(), attributes: { ...root().attributes, ...MINE, mode: S_IFDIR | 0o750 } },
      entry("d", S_IFDIR | 0o500, MINE),
      ...file("d/file", [[0, "hello"]], MINE),
      entry("d/link", S_IFLNK | 0o777, { ...MINE, target: "file" }),
      entry("hard", S_IFREG | 0o640, { ...MINE, linkedTo: "d/file" }),
      entry("fifo", S_IFIFO | 0o600, MINE),
    ]);
    const { shortfalls, tree } = await unpack(bytes);
    expect(shortfalls.listed).toEqual([]);
    expect(tree.fileCounts).toEqual({ files: 1, directories: 2, others: 2, links: 1 });
    expect(readFileSync(at("hard"), "utf8")).toBe("hello");
    expect(lstatSync(at("hard")).ino).toBe(lstatSync(at("d/file")).ino);
    expect(readlinkSync(at("d/link"))).toBe("file");
    expect(lstatSync(at("fifo")).isFIFO()).toBe(true);
    for (const path of ["", "d", "d/file", "d/link", "fifo"])
      expect(lstatSync(at(path), { bigint: true }).mtimeNs).toBe(TIME_NS);
    expect(lstatSync(out).mode & 0o7777).toBe(0o750);
    expect(lstatSync(at("d")).mode & 0o7777).toBe(0o500);
    chmodSync(at("d"), 0o700);
  });

  test("with holes", async () => {
    const size = 64 * 1024 * 1024;
    await unpack((await archiveOf([root(), ...file("s", [[size / 2, "x"]], { ...MINE, size: BigInt(size) })])).bytes);
    const { size: found, blocks } = lstatSync(at("s"));
    expect(found).toBe(size);
    expect(blocks * 512).toBeLessThan(1024 * 1024);
    expect(readFileSync(at("s"))[size / 2]).toBe(0x78);
  });

  test("without entries for its directories, and in any order", async () => {
    const content = "x";
    await unpackParts(member("a/b/one", { content }), member("c/two", { content }), member("a/b/three", { content }));
    expect(readdirSync(at("a/b")).sort()).toEqual(["one", "three"]);
    expect(readdirSync(at("c"))).toEqual(["two"]);
  });

  test("and a directory that it comes back to keeps its times", async () => {
    const directory = member("d", { type: "5" });
    await unpackParts(directory, member("d/one"), member("e", { type: "5" }), member("d/two"), member("f"));
    expect(lstatSync(at("d")).mtimeMs).toBe(0o14000000000 * 1000);
    expect(readdirSync(at("d"))).toHaveLength(2);
  });

  test("and a member that comes again replaces the one before", async () => {
    await unpackParts(
      member("a", { content: "old" }),
      member("b", { type: "1", linkName: "a" }),
      member("a", { content: "new" }),
      member("l", { type: "2", linkName: "x" }),
      member("l", { type: "2", linkName: "y" }),
      member("a2", { type: "5" }),
      member("a2", { content: "file" }),
    );
    expect(readFileSync(at("a"), "utf8")).toBe("new");
    expect(readFileSync(at("b"), "utf8")).toBe("old");
    expect(readlinkSync(at("l"))).toBe("y");
    expect(readFileSync(at("a2"), "utf8")).toBe("file");
  });

  test("deeper than a path of the system can name", async () => {
    const name = "d".repeat(200);
    const path = Array.from({ length: 40 }, () => name).join("/");
    const long = member("PaxHeader", { type: "x", content: encodePaxRecord("path", `${path}/file`) });
    const { shortfalls } = await unpackParts(long, member("cut", { content: "deep" }));
    expect(shortfalls.listed).toEqual([]);
  });

  test("and what can't be made is listed, while the rest is", async () => {
    mkdirSync(at("full/of"), { recursive: true });
    writeFileSync(at("plain"), "x");
    const { shortfalls } = await unpackParts(
      member("full", { content: "x" }),
      member("plain/below", { content: "x" }),
      member("l", { type: "1", linkName: "missing" }),
      member("good", { content: "good" }),
    );
    expect(shortfalls.listed.map(({ path, part }) => `${path} ${part}`)).toEqual([
      "full file",
      "plain/below file",
      "l file",
    ]);
    expect(readFileSync(at("good"), "utf8")).toBe("good");
  });

  test("and a file that is not whole does not stay", async () => {
    const cut = Buffer.concat([member("a", { content: "whole" }), member("b", { content: "x".repeat(2000) })]);
    await expect(unpack(cut.subarray(0, 2048))).rejects.toMatchObject({ code: "TAR_DAMAGED" });
    expect(readdirSync(out)).toEqual(["a"]);
  });
});

describe("nothing outside of the target is touched by", () => {
  const link = (target: string) => member("way", { type: "2", linkName: target });

  test.each([["../outside"], ["ABSOLUTE"], ["."], ["d"]])("a file below a symbolic link to %s", async (to) => {
    const target = to === "ABSOLUTE" ? join(folder, "outside") : to;
    const archive = unpackParts(member("d", { type: "5" }), link(target), member("way/file", { content: "bad" }));
    await expect(archive).rejects.toMatchObject(refused(/"way" is a symbolic link/));
  });

  test("a file below a symbolic link that was there before", async () => {
    symlinkSync("../outside", at("way"));
    await expect(unpackParts(member("way/file", { content: "bad" }))).rejects.toMatchObject(refused(/"way"/));
  });

  test("a file through a link deeper down, or through a chain of them", async () => {
    const chain = [
      member("a/one", { type: "2", linkName: "../../outside" }),
      member("two", { type: "2", linkName: "a/one" }),
    ];
    await expect(unpackParts(...chain, member("two/file"))).rejects.toMatchObject(refused(/"two"/));
    rmSync(at("two"));
    await expect(unpackParts(...chain, member("a/one/file"))).rejects.toMatchObject(refused(/"a\/one"/));
  });

  test("a file of the same name as a symbolic link: the link is replaced", async () => {
    await unpackParts(link("../outside/file"), member("way", { content: "mine" }));
    expect(readFileSync(at("way"), "utf8")).toBe("mine");
  });

  test("a directory of the same name as a symbolic link", async () => {
    await unpackParts(link("../outside"), member("way", { type: "5" }), member("way/file", { content: "mine" }));
    expect(readFileSync(at("way/file"), "utf8")).toBe("mine");
  });

  test("a hard link through a symbolic link, and one to a symbolic link", async () => {
    await expect(
      unpackParts(link("../outside"), member("h", { type: "1", linkName: "way/file" })),
    ).rejects.toMatchObject(refused(/"way" is a symbolic link/));
    await unpackParts(
      member("way", { type: "2", linkName: "../outside/file" }),
      member("h", { type: "1", linkName: "way" }),
    );
    expect(lstatSync(at("h")).isSymbolicLink()).toBe(true);
    await unpackParts(member("h", { content: "mine" }));
    expect(lstatSync(at("h")).isFile()).toBe(true);
  });

  test("the modes and times of a symbolic link", async () => {
    const before = lstatSync(join(folder, "outside/file"), { bigint: true });
    await unpackParts(
      member("way", { type: "2", linkName: "../outside/file", patch: (block) => block.write("0007777", 100) }),
    );
    const after = lstatSync(join(folder, "outside/file"), { bigint: true });
    expect([after.mode, after.mtimeNs, after.ctimeNs]).toEqual([before.mode, before.mtimeNs, before.ctimeNs]);
  });

  test("a hard link that was there before: its file is left, the name is another's then", async () => {
    writeFileSync(at("a"), "old");
    linkSync(at("a"), at("b"));
    await unpackParts(member("b", { content: "new" }));
    expect(readFileSync(at("a"), "utf8")).toBe("old");
  });
});

function isOutsideLeft(): boolean {
  const names = [...readdirSync(folder), ...readdirSync(join(folder, "outside"))].sort().join();
  return names === "file,out,outside" && readFileSync(join(folder, "outside/file"), "utf8") === OUTSIDE;
}

/** Mulberry32: a small generator with a seed. */
function randomOf(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

const SEED = Number(process.env["SEED"] ?? Date.now() % 2 ** 32);
const ROUNDS = Number(process.env["FUZZ_ROUNDS"] ?? 600);

/** Names of hostile archives: mostly ones that are allowed, so that the archive goes on to what they are for. */
const NAMES = ["way", "way", "way/file", "way/file", "way/new", "d//way/file", "d/way", "d", "f", "\xff", "./"];
const TARGETS = [
  "../outside",
  "../outside",
  "..",
  "way",
  "d",
  "../outside/file",
  "/absent/file",
  "d/way/file",
  "way/file",
];
const LEADING_OUT = ["../outside/file", "/absent/file", "..", "d/../../outside/x", ""];
const KEYS = ["path", "linkpath", "size", "GNU.sparse.name", "GNU.sparse.realsize", "GNU.sparse.map", "mtime", "uid"];

function hostileArchive(random: (below: number) => number): Buffer {
  const one = (of: readonly string[]): string => of[random(of.length)] ?? "";
  const parts: Buffer[] = [];
  for (let count = random(16) + 1; count > 0; count -= 1) {
    const name = random(40) === 0 ? one(LEADING_OUT) : one(NAMES);
    if (random(6) === 0) {
      const values = [name, one(TARGETS), String(random(3000)), "0,1,5,2", "1.5"];
      parts.push(member("x", { type: "x", content: encodePaxRecord(one(KEYS), one(values)) }));
    }
    const type = "0001222256SLKgVD"[random(16)] ?? "0";
    parts.push(member(name, { type, linkName: one(TARGETS), content: "y".repeat(random(3) * 400) }));
  }
  return Buffer.concat([...parts, END]);
}

/** Changes some bytes; half of the time headers are given checksums that fit again, so that the change is seen. */
function mutated(bytes: Buffer, random: (below: number) => number): Buffer {
  const copy = Buffer.from(bytes);
  for (let count = random(6); count > 0; count -= 1) {
    const place = random(copy.length);
    copy[place] = random(4) === 0 ? 0xff : random(256);
    if (random(2) === 0) sealHeader(copy.subarray(place - (place % 512), place - (place % 512) + 512));
  }
  return random(4) === 0 ? copy.subarray(0, random(copy.length)) : copy;
}

test(`archives made and changed at random end well or with a TarError, and touch nothing outside (SEED=${SEED})`, {
  timeout: 120_000,
}, async () => {
  const random = randomOf(SEED);
  const { bytes: good } = await archiveOf([
    root(),
    entry("d", S_IFDIR | 0o755, MINE),
    ...file(
      "d/s",
      [
        [700, "abc"],
        [9000, "x".repeat(600)],
      ],
      { ...MINE, size: 10_000n },
    ),
    entry("way", S_IFLNK | 0o777, { ...MINE, target: "../outside" }),
    entry("hard", S_IFREG | 0o640, { ...MINE, linkedTo: "d/s" }),
    ...file(Buffer.from([0xff]), [[0, "text"]], {
      ...MINE,
      xattrs: [{ name: Buffer.from("user.a"), value: Buffer.from([0, 1]) }],
    }),
  ]);
  const ends = { well: 0, refused: 0 };
  for (let round = 0; round < ROUNDS; round += 1) {
    const archive =
      random(2) === 0
        ? mutated(good, random)
        : random(2) === 0
          ? hostileArchive(random)
          : mutated(hostileArchive(random), random);
    try {
      await unpack(archive);
      ends.well += 1;
    } catch (error) {
      if (!(error instanceof TarError)) throw new Error(`SEED=${SEED} round ${round}`, { cause: error });
      ends.refused += 1;
    }
    if (!isOutsideLeft()) throw new Error(`SEED=${SEED} round ${round}: outside was written`);
    chmodSync(out, 0o700);
    rmSync(out, { recursive: true, force: true });
    mkdirSync(out);
  }
  expect(Math.min(ends.well, ends.refused)).toBeGreaterThan(ROUNDS / 20);
  expect(existsSync(join(folder, "outside/x"))).toBe(false);
});
