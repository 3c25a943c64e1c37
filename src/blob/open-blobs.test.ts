import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { SystemClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { BlobCounters } from "./counting-blobs.ts";
import { type OpenBlobsOptions, openBlobs, type S3OpenOptions } from "./open-blobs.ts";
import { ScriptedS3, s3Fault } from "./testing/scripted-s3.ts";

let folder: string;
const waits: number[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tidemark-open-"));
  waits.length = 0;
});
afterEach(async () => rm(folder, { recursive: true }));

const context: OpenBlobsOptions = {
  create: false,
  environment: {},
  clock: new SystemClock(),
  timers: {
    after: () => () => {},
    wait: async (delayMs) => {
      waits.push(delayMs);
    },
  },
  random: () => 1,
  log: silentLog,
};
const credentials = { accessKeyId: "key-id", secretAccessKey: "the-secret-key" };

describe("a folder", () => {
  test("is opened by path, by URL and below a base, and made only when told", async () => {
    const path = join(folder, "store");
    await expect(openBlobs(path, context)).rejects.toMatchObject({ code: "BLOB_BUCKET_MISSING" });
    const made = await openBlobs(path, { ...context, create: true });
    await made.put("a", [Buffer.from("x")]);
    for (const address of [path, `file://${path}`, "store", "./store"]) {
      const blobs = await openBlobs(address, { ...context, baseFolder: folder });
      expect(blobs.description).toBe(path);
      expect(String(await blobs.get("a"))).toBe("x");
    }
    await expect(openBlobs("store", context)).rejects.toMatchObject({ code: "BLOB_INVALID" });
  });

  test("has no versions to look at", async () => {
    const opening = openBlobs(folder, { ...context, s3: { atVersionTimeMs: 1 } });
    await expect(opening).rejects.toMatchObject({ code: "BLOB_UNSUPPORTED" });
  });
});

describe("a bucket", () => {
  const open = (s3: S3OpenOptions, environment = {}) =>
    openBlobs("s3://bucket/pre", { ...context, environment, s3: { credentials, ...s3 } });

  test.each([
    ["ftp://host", /https:\/\/host/],
    ["host:9000", /https:\/\/host/],
    ["https://key:the-secret-key@host", /options of their own/],
    ["https://host/bucket", /has a path/],
    ["https://host/?x=1", /has a path/],
  ])("refuses the endpoint %s, without repeating it", async (endpoint, words) => {
    const error = await open({ endpoint }).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: "BLOB_INVALID" });
    expect(String(error)).toMatch(words);
    expect(String(error)).not.toContain("the-secret-key");
  });

  test("needs credentials, and a region where there is no endpoint", async () => {
    await expect(openBlobs("s3://bucket", context)).rejects.toMatchObject({ code: "BLOB_DENIED" });
    await expect(open({})).rejects.toMatchObject({ code: "BLOB_INVALID", message: /region/ });
    await expect(open({ region: "not a region" })).rejects.toMatchObject({ code: "BLOB_INVALID" });
    expect((await open({}, { AWS_REGION: "eu-central-1" })).description).toBe("s3://bucket/pre");
    expect((await open({ endpoint: "http://host:1/" })).description).toBe("s3://bucket/pre at http://host:1");
    const view = await open({ endpoint: "http://host:1", atVersionTimeMs: 0 });
    expect(view.description).toBe("s3://bucket/pre at http://host:1 as of 1970-01-01T00:00:00.000Z");
  });

  test("is asked nothing by opening; calls are repeated, counted and kept within a rate", async () => {
    await using server = await ScriptedS3.start();
    const counters = new BlobCounters();
    const blobs = await openBlobs("s3://bucket/pre", {
      ...context,
      counters,
      attemptsMax: 3,
      downloadBytesPerSecond: 1_000_000,
      s3: { credentials, endpoint: `http://${server.host}` },
    });
    expect(server.requests).toEqual([]);
    server.answer = (_, index) =>
      index < 2 ? s3Fault(503, "SlowDown") : { status: 200, headers: { "content-length": "3" }, body: "abc" };
    expect(String(await blobs.get("a"))).toBe("abc");
    expect(counters).toMatchObject({ gets: 3, failures: 2, downloadedBytes: 3 });
    expect(counters.calls).toBe(3);
    expect(waits).toEqual([250, 500]);
    server.answer = () => s3Fault(503, "SlowDown");
    await expect(blobs.get("a")).rejects.toMatchObject({ code: "BLOB_UNREACHABLE" });
    expect(counters.gets).toBe(6);
    await blobs.close();
  });
});
