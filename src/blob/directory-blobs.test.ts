import {
  link,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { BlobStore } from "./blob-store.ts";
import { DirectoryBlobs } from "./directory-blobs.ts";

// Passes on; a test may make link(2) fail as a file system without hard links does.
vi.mock("node:fs/promises", async (original) => {
  const actual = await original<typeof import("node:fs/promises")>();
  return { ...actual, link: vi.fn(actual.link) };
});

let base: string;
let root: string;

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), "tidemark-directory-"));
  root = join(base, "store");
});
afterEach(async () => {
  vi.mocked(link).mockReset();
  const actual = await vi.importActual<typeof import("node:fs/promises")>("node:fs/promises");
  vi.mocked(link).mockImplementation(actual.link);
  await rm(base, { recursive: true });
});

const body = (text: string): Buffer[] => [Buffer.from(text)];
const openStore = (): Promise<DirectoryBlobs> => DirectoryBlobs.open(root, { create: true });
const partials = (): Promise<string[]> => readdir(join(root, ".partial"));
const modeOf = async (path: string): Promise<string> => ((await stat(path)).mode & 0o777).toString(8);

async function namesOf(blobs: BlobStore, prefix = ""): Promise<string[]> {
  const names: string[] = [];
  for await (const page of blobs.list(prefix)) names.push(...page.map(({ name }) => name));
  return names;
}

test("a blob is a file of its bytes, for its owner only, and nothing else is left", async () => {
  const blobs = await openStore();
  await blobs.put("apps/1f/packs/0a/7c", body("bytes"));
  expect(await readFile(join(root, "apps/1f/packs/0a/7c"), "utf8")).toBe("bytes");
  expect((await stat(join(root, "apps/1f/packs/0a/7c"))).nlink).toBe(1);
  expect(await modeOf(join(root, "apps/1f/packs/0a/7c"))).toBe("600");
  for (const folder of ["", "apps", "apps/1f", "apps/1f/packs", ".partial"])
    expect(await modeOf(join(root, folder))).toBe("700");
  expect(await partials()).toEqual([]);
  expect((await readdir(root)).sort()).toEqual([".partial", "apps"]);
});

test("opening makes a folder only when told, and never in place of a file", async () => {
  await expect(DirectoryBlobs.open(root, { create: false })).rejects.toMatchObject({ code: "BLOB_BUCKET_MISSING" });
  await openStore();
  await DirectoryBlobs.open(root, { create: false });
  await writeFile(join(base, "file"), "x");
  for (const path of [join(base, "file"), join(base, "file/below")])
    for (const create of [true, false])
      await expect(DirectoryBlobs.open(path, { create })).rejects.toMatchObject({
        code: expect.stringMatching(/BLOB_INVALID|BLOB_BUCKET_MISSING/),
      });
});

test("a put that fails or is refused leaves nothing behind", async () => {
  const blobs = await openStore();
  await blobs.put("a", body("x"));
  await expect(blobs.put("a", body("y"))).rejects.toMatchObject({ code: "BLOB_EXISTS" });
  await expect(blobs.put("a/b", body("y"))).rejects.toMatchObject({ code: "BLOB_INVALID" });
  const controller = new AbortController();
  const putting = blobs.put("b", body("y"), { signal: controller.signal });
  controller.abort();
  await expect(putting).rejects.toMatchObject({ code: "BLOB_ABORTED" });
  vi.mocked(link).mockRejectedValueOnce(Object.assign(new Error("i/o error"), { code: "EIO" }));
  await expect(blobs.put("c", body("y"))).rejects.toMatchObject({ code: "BLOB_IO" });
  expect(await partials()).toEqual([]);
  expect(await namesOf(blobs)).toEqual(["a"]);
});

test("what dead writers left is never listed, and removed by the next writer once it is old", async () => {
  const first = await openStore();
  await first.put("a", body("x"));
  const hoursAgo = (await first.timeMs()) / 1000 - 2 * 3600;
  await writeFile(join(root, ".partial/old"), "half a blob");
  await utimes(join(root, ".partial/old"), hoursAgo, hoursAgo);
  await writeFile(join(root, ".partial/young"), "another's");
  const second = await openStore();
  expect(await namesOf(second)).toEqual(["a"]);
  expect((await partials()).sort()).toEqual(["old", "young"]);
  await second.put("b", body("x"));
  expect(await partials()).toEqual(["young"]);
});

test("a folder that was unmounted or replaced is an error, not an empty store, and nothing is written to what is in its place", async () => {
  const blobs = await openStore();
  await blobs.put("a", body("x"));
  await rename(root, join(base, "elsewhere"));
  for (const isReplaced of [false, true]) {
    if (isReplaced) await mkdir(root);
    const calls = [
      (): Promise<unknown> => blobs.put("b", body("x")),
      (): Promise<unknown> => blobs.get("a"),
      (): Promise<unknown> => blobs.stat("a"),
      (): Promise<unknown> => blobs.delete(["a"]),
      (): Promise<unknown> => blobs.timeMs(),
      (): Promise<unknown> => namesOf(blobs),
    ];
    for (const call of calls) await expect(call()).rejects.toMatchObject({ code: "BLOB_BUCKET_MISSING" });
  }
  expect(await readdir(root)).toEqual([]);
  await rm(root, { recursive: true });
  await rename(join(base, "elsewhere"), root);
  expect(await namesOf(blobs)).toEqual(["a"]);
});

test("what others keep in the folder is left alone; what can't be told is an error of the listing", async () => {
  const blobs = await openStore();
  await blobs.put("a/b", body("x"));
  await mkdir(join(root, "lost+found"));
  await mkdir(join(root, ".snapshots"));
  await writeFile(join(root, "a/my notes.txt"), "x");
  await symlink(join(base, "nowhere"), join(root, "a/.link"));
  expect(await namesOf(blobs)).toEqual(["a/b"]);
  await symlink(join(base, "nowhere"), join(root, "a/c"));
  await expect(namesOf(blobs)).rejects.toMatchObject({ code: "BLOB_IO", message: expect.stringContaining("a/c") });
});

test("a folder that somebody removed is made again", async () => {
  const blobs = await openStore();
  await blobs.put("a/b/1", body("x"));
  await rm(join(root, "a"), { recursive: true });
  await rm(join(root, ".partial"), { recursive: true });
  await blobs.put("a/b/2", body("y"));
  expect(await namesOf(blobs)).toEqual(["a/b/2"]);
});

test("a link whose answer was lost counts, as over NFS", async () => {
  const blobs = await openStore();
  const actual = await vi.importActual<typeof import("node:fs/promises")>("node:fs/promises");
  vi.mocked(link).mockImplementationOnce(async (from, to) => {
    await actual.link(from, to);
    throw Object.assign(new Error("exists"), { code: "EEXIST" });
  });
  await blobs.put("a", body("x"));
  expect(String(await blobs.get("a"))).toBe("x");
  await expect(blobs.put("a", body("y"))).rejects.toMatchObject({ code: "BLOB_EXISTS" });
  expect(await partials()).toEqual([]);
});

test("where there are no hard links a name is looked for first, and the store says that this is all it can", async () => {
  const blobs = await openStore();
  expect(blobs.capabilities.createOnly).toBe(true);
  vi.mocked(link).mockRejectedValue(Object.assign(new Error("not permitted"), { code: "EPERM" }));
  await blobs.put("a/b", body("x"));
  expect(blobs.capabilities.createOnly).toBe(false);
  await expect(blobs.put("a/b", body("y"))).rejects.toMatchObject({ code: "BLOB_EXISTS" });
  expect(String(await blobs.get("a/b"))).toBe("x");
  expect(await partials()).toEqual([]);
});

test("a file that is cut short is an error, and so is a folder read as a blob", async () => {
  const blobs = await openStore();
  await blobs.put("a/b", body("0123456789"));
  await writeFile(join(root, "a/b"), "0123");
  await expect(blobs.get("a/b", { from: 2, length: 5 })).rejects.toMatchObject({ code: "BLOB_DAMAGED" });
  await expect(blobs.get("a")).rejects.toMatchObject({ code: "BLOB_MISSING" });
});
