import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { present } from "../../base/assert.ts";
import { fuseDeviceIo } from "./device.ts";
import { loadLibc } from "./libc.ts";
import { abortMount, findDeadMounts, type MountOptions, mountFuse, unmountFuse } from "./mount.ts";
import { mountAt, readMountTable } from "./mount-table.ts";
import { skipMountTests } from "./testing/privileges.ts";
import { ToyProcess } from "./testing/toy-process.ts";

const skip = skipMountTests();

/** Each takes a second at most; the machine may be busy. */
const TEST_TIMEOUT_MS = 60_000;

describe.skipIf(skip)("a real mount of the toy file system", { timeout: TEST_TIMEOUT_MS }, () => {
  let toy: ToyProcess;
  beforeAll(async () => {
    toy = await ToyProcess.start();
  });
  afterAll(async () => {
    await toy.stop();
  });

  test("files keep their bytes, at any offset and size up to 1 MiB requests", () => {
    const path = toy.path("data");
    const bytes = Buffer.alloc(3 * 1024 * 1024 + 17, 0).map((_, index) => index % 251);
    fs.writeFileSync(path, bytes);
    expect(fs.readFileSync(path).equals(bytes)).toBe(true);
    const fd = fs.openSync(path, "r+");
    fs.writeSync(fd, "hole", 5_000_000);
    fs.ftruncateSync(fd, 5_000_002);
    const tail = Buffer.alloc(100);
    expect(fs.readSync(fd, tail, 0, 100, 4_999_998)).toBe(4);
    expect(tail.subarray(0, 4).toString("latin1")).toBe("\0\0ho");
    fs.closeSync(fd);
  });

  test("O_DIRECT reads and writes work", () => {
    const path = toy.path("direct");
    const fd = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_DIRECT);
    const pages = new Uint8Array(new SharedArrayBuffer(1024 * 1024)).fill(7);
    expect(fs.writeSync(fd, pages, 0, pages.length, 0)).toBe(pages.length);
    expect(fs.readSync(fd, pages, 0, pages.length, 0)).toBe(pages.length);
    fs.closeSync(fd);
    expect(fs.statSync(path).size).toBe(pages.length);
  });

  test("directories list what they hold, thousands of names included", () => {
    fs.mkdirSync(toy.path("many"));
    const names = Array.from({ length: 3000 }, (_, index) => `name-${index}`);
    for (const name of names) fs.writeFileSync(toy.path(`many/${name}`), "");
    expect(fs.readdirSync(toy.path("many")).sort()).toEqual([...names].sort());
    expect(fs.statSync(toy.path("many")).nlink).toBe(2);
    fs.rmSync(toy.path("many"), { recursive: true });
    expect(() => fs.statSync(toy.path("many"))).toThrow(/ENOENT/);
  });

  test("rename replaces, exchanges nothing it should not, and links share an inode", () => {
    fs.writeFileSync(toy.path("first"), "1");
    fs.writeFileSync(toy.path("second"), "2");
    fs.linkSync(toy.path("first"), toy.path("linked"));
    fs.renameSync(toy.path("first"), toy.path("second"));
    expect(fs.readFileSync(toy.path("second"), "utf8")).toBe("1");
    expect(fs.statSync(toy.path("second")).ino).toBe(fs.statSync(toy.path("linked")).ino);
    expect(fs.statSync(toy.path("linked")).nlink).toBe(2);
    fs.unlinkSync(toy.path("linked"));
    expect(fs.statSync(toy.path("second")).nlink).toBe(1);
  });

  test("symbolic links, modes, owners and nanosecond times come back as they were set", () => {
    fs.symlinkSync("some/target", toy.path("symlink"));
    expect(fs.readlinkSync(toy.path("symlink"))).toBe("some/target");
    const path = toy.path("attributes");
    fs.writeFileSync(path, "", { mode: 0o640 });
    fs.chownSync(path, 12, 34);
    execFileSync("touch", ["-d", "1950-01-02 03:04:05.123456789 UTC", path]);
    const stat = fs.statSync(path, { bigint: true });
    expect([stat.mode, stat.uid, stat.gid, stat.mtimeNs]).toEqual([0o100640n, 12n, 34n, -631_054_554_876_543_211n]);
  });

  test("extended attributes are kept, in all sizes of buffer", () => {
    const libc = present(loadLibc(), "libc");
    const path = toy.path("xattr");
    fs.writeFileSync(path, "");
    const value = Buffer.alloc(2000, "v");
    expect(libc.setxattr(path, "user.color", value, value.length, 0)).toBe(0);
    expect(libc.getxattr(path, "user.color", Buffer.alloc(0), 0)).toBe(2000);
    const got = Buffer.alloc(4096);
    expect(libc.getxattr(path, "user.color", got, got.length)).toBe(2000);
    expect(got.subarray(0, 2000).equals(value)).toBe(true);
    expect(libc.getxattr(path, "user.color", got, 10)).toBe(-1);
    expect(libc.errno()).toBe(34);
  });

  test("a shared mapping writes through to the file", () => {
    const libc = present(loadLibc(), "libc");
    const path = toy.path("mapped");
    fs.writeFileSync(path, Buffer.alloc(8192));
    const fd = fs.openSync(path, "r+");
    const address = libc.mmap(null, 8192, 3, 1, fd, 0);
    Buffer.from(libc.view(address, 8192)).write("through the mapping", 4096);
    fs.fsyncSync(fd);
    fs.closeSync(fd);
    expect(execFileSync("tail", ["-c", "+4097", path]).subarray(0, 19).toString()).toBe("through the mapping");
    libc.munmap(address, 8192);
  });

  test("the mount table shows the type and the source", () => {
    expect(mountAt(readMountTable(), fs.realpathSync(toy.target))).toMatchObject({
      fileSystem: "fuse.tidemark",
      source: "toy",
    });
  });
});

describe.skipIf(skip)("mounting", { timeout: TEST_TIMEOUT_MS }, () => {
  const io = fuseDeviceIo();
  const device = { io, nonBlocking: true };
  let folder: string;
  const options = (target: string): MountOptions => ({
    ...{ target, source: "test", readOnly: false, suid: false, dev: false, locks: "kernel" },
  });
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "tidemark-mount-"));
  });
  afterEach(async () => {
    await unmountFuse(folder, { lazy: true });
    rmSync(folder, { recursive: true });
  });

  test("names what is wrong with the target", async () => {
    await expect(mountFuse(options(join(folder, "absent")), device)).rejects.toMatchObject({ code: "NOT_FOUND" });
    fs.writeFileSync(join(folder, "file"), "");
    await expect(mountFuse(options(join(folder, "file")), device)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(mountFuse(options(join(folder, "file", "below")), device)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    await expect(mountFuse(options("/proc"), device)).rejects.toMatchObject({ code: "ALREADY_EXISTS" });
  });

  test("a directory that has files can be mounted over, and shows them again afterwards", async () => {
    fs.writeFileSync(join(folder, "below"), "");
    const mounted = await mountFuse(options(folder), device);
    expect(mounted.negotiated.major).toBe(7);
    expect(mounted.deviceMinor).toBe(mountAt(readMountTable(), mounted.target)?.deviceMinor);
    await unmountFuse(mounted.target, { lazy: false });
    fs.closeSync(mounted.fd);
    expect(fs.readdirSync(folder)).toEqual(["below"]);
    await unmountFuse(mounted.target, { lazy: false });
  });

  test("refuses a target inside a mount of ours, without waiting for that mount", async () => {
    const toy = await ToyProcess.start();
    try {
      fs.mkdirSync(toy.path("inside"));
      await expect(mountFuse(options(toy.path("inside")), device)).rejects.toMatchObject({
        code: "FAILED_PRECONDITION",
      });
      await expect(mountFuse(options(toy.target), device)).rejects.toMatchObject({ code: "ALREADY_EXISTS" });
    } finally {
      await toy.stop();
    }
  });

  test("a mount point left dead by a crash is found and mounted over", async () => {
    const crashed = await mountFuse(options(folder), device);
    fs.closeSync(crashed.fd);
    expect(() => fs.statSync(folder)).toThrow(/ENOTCONN/);
    expect((await findDeadMounts((entry) => entry.target === crashed.target)).map(({ target }) => target)).toEqual([
      crashed.target,
    ]);
    const mounted = await mountFuse(options(folder), device);
    expect(readMountTable().filter(({ target }) => target === crashed.target)).toHaveLength(1);
    fs.closeSync(mounted.fd);
  });

  test("an aborted connection ends for its server and for its users", async () => {
    const mounted = await mountFuse(options(folder), device);
    await abortMount(mounted);
    const frame = Buffer.alloc(2 * 1024 * 1024);
    expect([-19, -103]).toContain(io.read(mounted.fd, frame));
    fs.closeSync(mounted.fd);
  });
});
