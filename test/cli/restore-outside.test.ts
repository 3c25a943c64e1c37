import { execFileSync } from "node:child_process";
import {
  chmodSync,
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
import { EXIT_CODES } from "../../src/cli/exit-codes.ts";
import type { ExportItem, FileAttributes, Xattr } from "../../src/domain/admin-reading.ts";
import { TidemarkError } from "../../src/domain/errors.ts";
import { inodeId } from "../../src/domain/ids.ts";
import { S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_IFSOCK } from "../../src/domain/inode.ts";
import * as sample from "../contract/admin-samples.ts";
import { FakeAdminApi } from "../contract/fake-admin-api.ts";
import { isMissing } from "../support/requirements.ts";
import { cli } from "./harness.ts";

const missingRoot = isMissing("root");
const missingSetfacl = isMissing("setfacl");
const me = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };

let folder: string;
let api: FakeAdminApi;
let nextIno: number;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tidemark-outside-"));
  api = new FakeAdminApi();
  nextIno = 1;
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** The sample moment is ambiguous, which is said. */
const NO_COMPLAINT = expect.stringMatching(/^(note: the clock .*\n)?$/);

const TIME = { sec: 1_600_000_000, nsec: 123_456_789 };

function attributes(mode: number, more: Partial<FileAttributes> = {}): FileAttributes {
  const ino = inodeId(nextIno++);
  return {
    ...sample.ATTRIBUTES,
    ...me,
    ino,
    nlink: 1,
    rdev: 0,
    size: 0n,
    allocatedBytes: 0n,
    atime: TIME,
    mtime: TIME,
    mode,
    ...more,
  };
}

type Entry = Extract<ExportItem, { kind: "entry" }>;

function entry(
  path: string | Buffer,
  mode: number,
  more: Partial<FileAttributes> & { target?: string; xattrs?: Xattr[]; linkedTo?: string } = {},
): Entry {
  const { target = "", xattrs = [], linkedTo, ...rest } = more;
  return {
    kind: "entry",
    path: Buffer.from(path),
    attributes: attributes(mode, rest),
    target: Buffer.from(target),
    xattrs,
    contentFollows: false,
    ...(linkedTo === undefined ? {} : { linkedTo: Buffer.from(linkedTo) }),
  };
}

/** A regular file with data at offsets. */
function file(
  path: string | Buffer,
  data: readonly [number, string][],
  more: Parameters<typeof entry>[2] = {},
): ExportItem[] {
  const end = data.reduce((size, [offset, text]) => Math.max(size, offset + text.length), 0);
  const opened: Entry = { ...entry(path, S_IFREG | 0o640, { size: BigInt(end), ...more }), contentFollows: true };
  const pieces = data.map(
    ([offset, text]): ExportItem => ({ kind: "data", offset: BigInt(offset), bytes: Buffer.from(text) }),
  );
  return [opened, ...pieces, { kind: "end", complete: true }];
}

const root = (mode = 0o755): ExportItem => entry("", S_IFDIR | mode);

/** Both passes see these items, the first only entries. */
async function restore(
  items: readonly ExportItem[],
  { args = [], target = "out", failure }: { args?: string[]; target?: string; failure?: Error } = {},
) {
  api.stream = async function* () {
    const seen = api.calls.at(-1)?.request as { content: boolean };
    const shown = seen.content ? items : items.filter(({ kind }) => kind === "entry");
    // Odd pages, so that a file's items are torn apart.
    for (let at = 0; at < shown.length; at += 3) yield shown.slice(at, at + 3);
    if (seen.content && failure !== undefined) throw failure;
  };
  return cli(["restore", "shop/uploads", "--at", "lsn:1", "--to", join(folder, target), ...args], { api });
}

const out = (path = ""): string => join(folder, "out", path);

describe("restore to a path of this machine", () => {
  test("writes bytes, modes and nanosecond times", async () => {
    const result = await restore([root(0o750), ...file("a.txt", [[0, "hello"]])]);
    expect(result).toMatchObject({ code: 0, stderr: NO_COMPLAINT });
    expect(readFileSync(out("a.txt"), "utf8")).toBe("hello");
    const stat = lstatSync(out("a.txt"), { bigint: true });
    expect(stat.mode).toBe(BigInt(S_IFREG | 0o640));
    expect(stat.mtimeNs).toBe(1_600_000_000_123_456_789n);
    const directory = lstatSync(out(), { bigint: true });
    expect(directory.mode).toBe(BigInt(S_IFDIR | 0o750));
    expect(directory.mtimeNs).toBe(1_600_000_000_123_456_789n);
  });

  test("reads both times at one journal position", async () => {
    await restore([root()]);
    expect(api.calls.map(({ method }) => method)).toEqual(["resolveMoment", "exportTree", "exportTree"]);
    const at = { kind: "lsn", lsn: sample.RESOLVED.lsn };
    expect(api.calls.map(({ request }) => (request as { at: unknown }).at).slice(1)).toEqual([at, at]);
  });

  test("restores a single file under the name given", async () => {
    expect((await restore(file("", [[0, "one"]]))).code).toBe(0);
    expect(readFileSync(out(), "utf8")).toBe("one");
  });

  test("leaves holes as holes, also at the end", async () => {
    const size = 64 * 1024 * 1024;
    await restore([root(), ...file("sparse", [[size / 2, "x"]], { size: BigInt(size) })]);
    const stat = lstatSync(out("sparse"));
    expect(stat.size).toBe(size);
    expect(stat.blocks * 512).toBeLessThan(1024 * 1024);
    const content = readFileSync(out("sparse"));
    expect(content[size / 2]).toBe(0x78);
    expect(content.filter((byte) => byte !== 0)).toHaveLength(1);
  });

  test("writes more than is handed over at a time, in the order in which it comes", async () => {
    const text = (index: number): string => String.fromCharCode(0x61 + index).repeat(700_000 + index);
    const items = Array.from({ length: 12 }, (_, index) => file(`f${index}`, [[0, text(index)]])).flat();
    const xattrs = Array.from({ length: 40 }, (_, index) => ({
      name: Buffer.from(`nonsense.${index}`),
      value: Buffer.alloc(60_000, index),
    }));
    const result = await restore([root(), ...items, ...file("last", [[0, "x"]], { xattrs })]);
    expect(result.code).toBe(EXIT_CODES.INCOMPLETE.code);
    expect(result.stderr).toContain("40 things could not be restored");
    for (let index = 0; index < 12; index++) expect(readFileSync(out(`f${index}`), "utf8")).toBe(text(index));
    expect(readFileSync(out("last"), "utf8")).toBe("x");
  });

  test.skipIf(missingSetfacl)("gives files no ACL of the directory that the target is in", async () => {
    execFileSync("setfacl", ["-d", "-m", "u:12345:rwx", folder]);
    const items = [root(), entry("d", S_IFDIR | 0o755), ...file("d/a", [[0, "x"]]), entry("p", S_IFIFO | 0o640)];
    expect(await restore(items)).toMatchObject({ code: 0, stderr: NO_COMPLAINT });
    for (const path of ["", "d", "d/a", "p"]) {
      const acl = execFileSync("getfacl", ["--omit-header", out(path)], { encoding: "utf8", stdio: "pipe" });
      expect(acl).not.toContain("12345");
    }
    expect(lstatSync(out("d/a")).mode & 0o777).toBe(0o640);
  });

  test("keeps hard links among the restored files", async () => {
    const items = [
      root(),
      entry("d", S_IFDIR | 0o755),
      ...file("d/a", [[0, "linked"]], { nlink: 2 }),
      entry("z", S_IFREG | 0o640, { nlink: 2, linkedTo: "d/a" }),
    ];
    expect((await restore(items)).code).toBe(0);
    expect(lstatSync(out("z")).ino).toBe(lstatSync(out("d/a")).ino);
    expect(lstatSync(out("z")).nlink).toBe(2);
  });

  test("restores names of any bytes", async () => {
    const name = Buffer.from([0x66, 0xff, 0x0a, 0x5c]);
    await restore([root(), ...file(name, [[0, "x"]])]);
    expect(readdirSync(Buffer.from(out()), { encoding: "buffer" })).toEqual([name]);
  });

  test("restores symbolic links with their own times, FIFOs and sockets", async () => {
    const items = [
      root(),
      entry("l", S_IFLNK | 0o777, { target: "/nowhere/at all" }),
      entry("p", S_IFIFO | 0o600),
      entry("s", S_IFSOCK | 0o755),
    ];
    expect(await restore(items)).toMatchObject({ code: 0, stderr: NO_COMPLAINT });
    expect(readlinkSync(out("l"))).toBe("/nowhere/at all");
    expect(lstatSync(out("l"), { bigint: true }).mtimeNs).toBe(1_600_000_000_123_456_789n);
    expect(lstatSync(out("p")).mode).toBe(S_IFIFO | 0o600);
    expect(lstatSync(out("s")).mode).toBe(S_IFSOCK | 0o755);
  });

  test("fills a directory that nobody may write", async () => {
    const items = [root(), entry("locked", S_IFDIR | 0o555), ...file("locked/a", [[0, "x"]])];
    expect((await restore(items)).code).toBe(0);
    expect(lstatSync(out("locked")).mode & 0o777).toBe(0o555);
    expect(readFileSync(out("locked/a"), "utf8")).toBe("x");
    // So that it can be cleaned up without root.
    chmodSync(out("locked"), 0o755);
  });

  test.skipIf(missingRoot)("as root restores owners, set-id bits, device nodes and attributes", async () => {
    const xattrs = [{ name: Buffer.from("trusted.key"), value: Buffer.from([0, 255]) }];
    const items = [
      root(),
      ...file("a", [[0, "x"]], { mode: S_IFREG | 0o6755, uid: 1234, gid: 5678, xattrs }),
      entry("null", S_IFCHR | 0o666, { rdev: (1 << 8) | 3 }),
    ];
    expect(await restore(items)).toMatchObject({ code: 0, stderr: NO_COMPLAINT });
    expect(lstatSync(out("a"))).toMatchObject({ uid: 1234, gid: 5678, mode: S_IFREG | 0o6755 });
    expect(lstatSync(out("null")).rdev).toBe((1 << 8) | 3);
    expect(getXattr(out("a"), "trusted.key")).toEqual(Buffer.from([0, 255]));
  });
});

/** Through another program than the one under test. */
function getXattr(path: string, name: string): Buffer {
  const script = "import os,sys; sys.stdout.buffer.write(os.getxattr(sys.argv[1], sys.argv[2], follow_symlinks=False))";
  return execFileSync("python3", ["-c", script, path, name]);
}

describe("what is there already", () => {
  test("is not written into", async () => {
    mkdirSync(out());
    writeFileSync(out("mine"), "precious");
    const result = await restore([root(), ...file("mine", [[0, "new"]])]);
    expect(result.code).toBe(EXIT_CODES.CONFLICT.code);
    expect(result.stderr).toContain("is there already");
    expect(readFileSync(out("mine"), "utf8")).toBe("precious");
  });

  test("may be an empty directory", async () => {
    mkdirSync(out());
    expect((await restore([root(), ...file("a", [[0, "x"]])])).code).toBe(0);
  });

  test("is replaced with --force, name by name, after a question", async () => {
    mkdirSync(out("d"), { recursive: true });
    writeFileSync(out("mine"), "old");
    writeFileSync(out("other"), "stays");
    const items = [root(), entry("d", S_IFDIR | 0o755), ...file("mine", [[0, "new"]])];
    expect((await restore(items, { args: ["--force"] })).code).toBe(EXIT_CODES.NOT_CONFIRMED.code);
    expect(readFileSync(out("mine"), "utf8")).toBe("old");
    expect((await restore(items, { args: ["--force", "--yes"] })).code).toBe(0);
    expect(readFileSync(out("mine"), "utf8")).toBe("new");
    expect(readFileSync(out("other"), "utf8")).toBe("stays");
  });

  test("a file does not go into a directory that is there: it is to be named", async () => {
    mkdirSync(out());
    const result = await restore(file("", [[0, "x"]]));
    expect(result).toMatchObject({ code: EXIT_CODES.CONFLICT.code, stderr: expect.stringContaining("is a directory") });
    expect(readdirSync(out())).toEqual([]);
  });

  test("does not lead out of the target: a symbolic link in a directory's place is replaced", async () => {
    mkdirSync(join(folder, "elsewhere"));
    mkdirSync(out());
    symlinkSync(join(folder, "elsewhere"), out("d"));
    const items = [root(), entry("d", S_IFDIR | 0o755), ...file("d/a", [[0, "x"]])];
    expect((await restore(items, { args: ["--force", "--yes"] })).code).toBe(0);
    expect(readdirSync(join(folder, "elsewhere"))).toEqual([]);
    expect(lstatSync(out("d")).isDirectory()).toBe(true);
  });

  test("a full directory in a file's place stays, and is listed", async () => {
    mkdirSync(out("a/b"), { recursive: true });
    const result = await restore([root(), ...file("a", [[0, "x"]]), ...file("c", [[0, "y"]])], {
      args: ["--force", "--yes"],
    });
    expect(result.code).toBe(EXIT_CODES.INCOMPLETE.code);
    expect(result.stderr).toContain("a: file: ENOTEMPTY");
    expect(readFileSync(out("c"), "utf8")).toBe("y");
  });
});

describe("what can't be restored", () => {
  test("when the stream breaks, what came is there, and the failure is told", async () => {
    const failure = new TidemarkError("UNAVAILABLE", "the service went away");
    const result = await restore([root(), ...file("a", [[0, "x"]]), ...file("b", [[0, "y"]]).slice(0, 2)], { failure });
    expect(result.code).toBe(EXIT_CODES.UNREACHABLE.code);
    expect(result.stderr).toContain("the service went away");
    expect(result.stderr).toContain("is incomplete");
    expect(readFileSync(out("a"), "utf8")).toBe("x");
  });

  test("damaged content is listed by file, the rest is restored", async () => {
    const damaged = file("bad", [[0, "ab"]]).slice(0, -1);
    const items: ExportItem[] = [
      root(),
      ...damaged,
      { kind: "end", complete: false, message: "segment 3 is gone" },
      ...file("good", [[0, "x"]]),
    ];
    const result = await restore(items);
    expect(result.code).toBe(EXIT_CODES.INCOMPLETE.code);
    expect(result.stderr).toContain("bad: content: segment 3 is gone");
    expect(readFileSync(out("good"), "utf8")).toBe("x");
  });

  test("with --json is a list of its own", async () => {
    const xattrs = [{ name: Buffer.from("nonsense.name"), value: Buffer.from("x") }];
    const result = await restore([root(), ...file("a", [[0, "x"]], { xattrs })], { args: ["--json"] });
    expect(result.code).toBe(EXIT_CODES.INCOMPLETE.code);
    const last = JSON.parse(result.stdout.trimEnd().split("\n").at(-1) ?? "");
    expect(last).toMatchObject({ event: "done", files: 1, directories: 1, shortfallCount: 1 });
    expect(last.shortfalls[0]).toMatchObject({ path: "a", part: "xattr" });
  });

  test("is told beforehand: times of change and birth", async () => {
    const result = await restore([root()], { args: ["--dry-run"] });
    expect(result.stdout).toContain("ctime");
    expect(api.calls).toHaveLength(2);
    expect(readdirSync(folder)).toEqual([]);
  });

  test("a name too long for the file system does not stop the others", async () => {
    const deep = Array.from({ length: 20 }, () => "n".repeat(250)).join("/");
    const directories = deep
      .split("/")
      .map((_, index, parts) => entry(parts.slice(0, index + 1).join("/"), S_IFDIR | 0o755));
    const result = await restore([root(), ...directories, ...file("z", [[0, "x"]])]);
    expect(result.code).toBe(EXIT_CODES.INCOMPLETE.code);
    expect(result.stderr).toContain("ENAMETOOLONG");
    expect(result.stderr.split("\n").filter((line) => line.includes("ENAMETOOLONG"))).toHaveLength(1);
    expect(readFileSync(out("z"), "utf8")).toBe("x");
  });

  test("without its parent directory nothing is begun", async () => {
    const result = await restore([root()], { target: "no/such/place" });
    expect(result.code).toBe(EXIT_CODES.NOT_FOUND.code);
    expect(api.calls).toEqual([]);
  });
});
