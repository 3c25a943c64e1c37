import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { DirectoryBlobs } from "../../src/blob/directory-blobs.ts";
import { body, codeOf, entriesOf, namesOf } from "../contract/blob-contract.ts";
import { LoopDisk, SHUTDOWN_LOG_WRITTEN, SHUTDOWN_NOTHING_WRITTEN, skipWithoutLoop } from "../crash/loop-disk.ts";
import { isMissing } from "../support/requirements.ts";

const KIB = Buffer.alloc(1024, "k");
const kibibytes = (count: number): Buffer[] => Array.from({ length: count }, () => KIB);

describe.skipIf(isMissing("root"))("a folder of blobs on a small disk", () => {
  let folder: string;

  const mount = (...options: readonly string[]): void => {
    const { status, stderr } = spawnSync("mount", [...options, folder], { encoding: "utf8" });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  };

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "tidemark-small-"));
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs");
  });
  afterEach(() => {
    spawnSync("umount", [folder]);
    rmSync(folder, { recursive: true });
  });

  test("a full disk is BLOB_NO_SPACE, leaves nothing behind, and small blobs and deletes go on", async () => {
    const blobs = await DirectoryBlobs.open(folder, { create: false });
    await blobs.put("packs/1", kibibytes(700));
    expect(await codeOf(blobs.put("packs/2", kibibytes(700)))).toBe("BLOB_NO_SPACE");
    expect(readdirSync(join(folder, ".partial"))).toEqual([]);
    expect(await namesOf(blobs.list(""))).toEqual(["packs/1"]);
    await blobs.put("packs/3", kibibytes(100));
    expect((await blobs.get("packs/3")).length).toBe(100 * 1024);
    await blobs.delete(["packs/1"]);
    await blobs.put("packs/2", kibibytes(700));
    expect((await entriesOf(blobs.list(""))).map(({ bytes }) => bytes)).toEqual([700 * 1024, 100 * 1024]);
  });

  test("a disk that became read-only is still read; writing is BLOB_DENIED", async () => {
    const blobs = await DirectoryBlobs.open(folder, { create: false });
    await blobs.put("a", body("x"));
    mount("-o", "remount,ro");
    expect(await codeOf(blobs.put("b", body("x")))).toBe("BLOB_DENIED");
    expect(await codeOf(blobs.delete(["a"]))).toBe("BLOB_DENIED");
    const again = await DirectoryBlobs.open(folder, { create: false });
    expect(String(await again.get("a"))).toBe("x");
    expect(await namesOf(again.list(""))).toEqual(["a"]);
  });

  test("an unmounted disk is an error of every call, and its mount point stays empty", async () => {
    const blobs = await DirectoryBlobs.open(folder, { create: false });
    await blobs.put("a", body("x"));
    expect(spawnSync("umount", [folder]).status).toBe(0);
    expect(await codeOf(blobs.put("b", body("x")))).toBe("BLOB_BUCKET_MISSING");
    expect(await codeOf(namesOf(blobs.list("")))).toBe("BLOB_BUCKET_MISSING");
    expect(await codeOf(blobs.get("a"))).toBe("BLOB_BUCKET_MISSING");
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe.skipIf(isMissing("root") || skipWithoutLoop())("a folder of blobs on a disk that loses power", () => {
  test.each([
    ["with", SHUTDOWN_LOG_WRITTEN],
    ["without", SHUTDOWN_NOTHING_WRITTEN],
  ])("keeps every blob that was put, whole, %s the disk's own log", { timeout: 120_000 }, async (_, mode) => {
    using disk = new LoopDisk(64 * 1024 * 1024);
    const folder = join(disk.mountPoint, "backup/store");
    const acknowledged: string[] = [];
    for (let round = 0; round < 4; round += 1) {
      const blobs = await DirectoryBlobs.open(folder, { create: true });
      const writers = Array.from({ length: 4 }, async (_writer, writer) => {
        for (let index = 0; ; index += 1) {
          const name = `apps/${round}/packs/${writer}${index}/${writer}`;
          const done = await codeOf(blobs.put(name, [Buffer.from(name), ...kibibytes(index % 40)]));
          if (done !== "no error") return;
          acknowledged.push(name);
          if (acknowledged.length === (round + 1) * 40) disk.cutPower(mode);
        }
      });
      await Promise.all(writers);
      await blobs.close();
      await disk.restore();
    }
    const blobs = await DirectoryBlobs.open(folder, { create: false });
    const listed = await entriesOf(blobs.list(""));
    // One that was under way may be there; then it is whole too.
    expect(listed.map(({ name }) => name)).toEqual(expect.arrayContaining(acknowledged));
    for (const { name, bytes } of listed) {
      const index = Number(/packs\/\d(\d+)/.exec(name)?.[1]);
      expect(bytes).toBe(name.length + (index % 40) * 1024);
      expect((await blobs.get(name)).subarray(0, name.length).toString()).toBe(name);
    }
  });
});
