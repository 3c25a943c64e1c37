import { PutObjectCommand } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { BlobStore } from "../../src/blob/blob-store.ts";
import { body, codeOf, entriesOf, namesOf } from "../contract/blob-contract.ts";
import { openTestBlobs } from "../support/open-test-blobs.ts";
import { S3Server } from "../support/s3-server.ts";
import { lacksTools } from "../support/test-tool.ts";

describe.skipIf(lacksTools("versitygw"))("a versioned bucket, read as it was", () => {
  let server: S3Server;
  let bucket: string;
  let bucketCount = 0;
  let blobs: BlobStore;

  beforeAll(async () => {
    server = await S3Server.start();
  });
  afterAll(async () => server?.stop());
  beforeEach(async () => {
    bucketCount += 1;
    bucket = await server.createBucket(`bucket-${bucketCount}`, "locks");
    blobs = await openTestBlobs(server, `${bucket}/ours`);
    return () => blobs.close();
  });

  const at = (atVersionTimeMs: number): Promise<BlobStore> =>
    openTestBlobs(server, `${bucket}/ours`, { s3: { atVersionTimeMs } });

  /**
   * A time of the store's clock which what was done is before, and what will be done behind. Versions have a resolution of a second, and the test server's Date is up to a second old.
   */
  const quietMoment = async (): Promise<number> => {
    const nowMs = await blobs.timeMs();
    await expect.poll(() => blobs.timeMs(), { interval: 100, timeout: 10_000 }).toBeGreaterThanOrEqual(nowMs + 3_000);
    return nowMs + 2_000;
  };

  const overwrite = (name: string, text: string): Promise<unknown> =>
    server.client.send(new PutObjectCommand({ Bucket: bucket, Key: `ours/${name}`, Body: text }));

  test("deletes and overwrites of later hide nothing", { timeout: 60_000 }, async () => {
    for (const name of ["a/1", "a/2", "b"]) await blobs.put(name, body(`first ${name}`));
    const beforeMs = await quietMoment();
    await blobs.delete(["a/1", "b"]);
    await overwrite("a/2", "ransom");
    await blobs.put("c", body("new"));
    const afterMs = await quietMoment();

    const before = await at(beforeMs);
    expect(await entriesOf(before.list(""))).toMatchObject([
      { name: "a/1", bytes: 9 },
      { name: "a/2", bytes: 9 },
      { name: "b", bytes: 7 },
    ]);
    expect(await namesOf(before.list("a/", { after: "a/1" }))).toEqual(["a/2"]);
    expect(String(await before.get("a/1"))).toBe("first a/1");
    expect(String(await before.get("a/2", { from: 2, length: 5 }))).toBe("rst a");
    expect((await before.stat("b"))?.bytes).toBe(7);
    expect(await codeOf(before.get("c"))).toBe("BLOB_MISSING");

    // Without a listing before, each name is looked up by itself.
    const fresh = await at(beforeMs);
    expect(String(await fresh.get("b"))).toBe("first b");
    expect(await fresh.stat("c")).toBeUndefined();
    expect(await codeOf(fresh.get("a"))).toBe("BLOB_MISSING");

    const after = await at(afterMs);
    expect(await namesOf(after.list(""))).toEqual(["a/2", "c"]);
    expect(String(await after.get("a/2"))).toBe("ransom");
    expect(await after.stat("b")).toBeUndefined();

    const earlier = await at(beforeMs - 3_600_000);
    expect(await namesOf(earlier.list(""))).toEqual([]);
    for (const view of [before, fresh, after, earlier]) await view.close();
  });

  test("is for reading only, and says so", async () => {
    await blobs.put("a", body("x"));
    const view = await at(await blobs.timeMs());
    expect(view.capabilities).toEqual({ createOnly: false, objectLock: false });
    expect(view.description).toContain(" as of 20");
    expect(await codeOf(view.put("b", body("x")))).toBe("BLOB_UNSUPPORTED");
    expect(await codeOf(view.delete(["a"]))).toBe("BLOB_UNSUPPORTED");
    expect(await codeOf(view.extendLock("a", 1))).toBe("BLOB_UNSUPPORTED");
    expect(Math.abs((await view.timeMs()) - (await blobs.timeMs()))).toBeLessThan(60_000);
    await view.close();
    expect(await codeOf(view.get("a"))).toBe("BLOB_ABORTED");
  });

  test("more versions than a page has are all seen", { timeout: 120_000 }, async () => {
    const names = Array.from({ length: 300 }, (_, index) => `n/${String(index).padStart(4, "0")}`);
    for (let at = 0; at < names.length; at += 20)
      await Promise.all(names.slice(at, at + 20).map((name) => blobs.put(name, body(name))));
    const beforeMs = await quietMoment();
    for (let round = 0; round < 3; round += 1)
      for (let at = 0; at < names.length; at += 20)
        await Promise.all(names.slice(at, at + 20).map((name) => overwrite(name, `round ${round}`)));
    await blobs.delete(names);
    const view = await at(beforeMs);
    expect(await namesOf(view.list(""))).toEqual(names);
    expect(await namesOf(view.list("", { after: "n/0149" }))).toEqual(names.slice(150));
    expect(String(await view.get("n/0299"))).toBe("n/0299");
    await view.close();
  });
});
