import { readdirSync } from "node:fs";
import { join } from "node:path";
import { ListMultipartUploadsCommand, PutObjectCommand } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { S3OpenOptions } from "../../src/blob/open-blobs.ts";
import { type BlobFixture, blobContract, body, codeOf, entriesOf, namesOf } from "../contract/blob-contract.ts";
import { openTestBlobs } from "../support/open-test-blobs.ts";
import { S3Server } from "../support/s3-server.ts";
import { lacksTools } from "../support/test-tool.ts";

const MIB = 1024 * 1024;
const IN_PARTS: S3OpenOptions = { multipartFromBytes: 8 * MIB, partBytes: 5 * MIB };

describe.skipIf(lacksTools("versitygw"))("a store in a bucket of a real S3 server", () => {
  let server: S3Server;
  let bucketCount = 0;

  beforeAll(async () => {
    server = await S3Server.start();
  });
  afterAll(async () => server?.stop());

  const nextBucket = (kind: "plain" | "versioned" | "locks" = "plain"): Promise<string> => {
    bucketCount += 1;
    return server.createBucket(`bucket-${bucketCount}`, kind);
  };

  const fixture = async (kind: "plain" | "locks", s3: S3OpenOptions = {}): Promise<BlobFixture> => {
    const bucket = await nextBucket(kind);
    return {
      capabilities: { createOnly: true, objectLock: true },
      locks: kind === "locks",
      hidesLocked: true,
      burnsNames: kind === "locks",
      largeBytes: 17 * MIB,
      open: () => openTestBlobs(server, `${bucket}/some/prefix`, { s3 }),
      dispose: async () => {},
    };
  };

  blobContract("S3Blobs in a plain bucket", () => fixture("plain"));
  blobContract("S3Blobs with locks and parts", () => fixture("locks", IN_PARTS));

  describe("that is not as it was said to be", () => {
    const attempt = async (place: string, s3: S3OpenOptions): Promise<Record<string, unknown>[]> => {
      const blobs = await openTestBlobs(server, place, { s3, attemptsMax: 1 });
      const calls = [
        () => blobs.put("a", body("x")),
        () => blobs.get("a"),
        () => blobs.stat("a"),
        () => namesOf(blobs.list("")),
        () => blobs.delete(["a", "b"]),
        () => blobs.timeMs(),
      ];
      const errors = await Promise.all(
        calls.map((call) =>
          call().then(
            () => ({ code: "none" }),
            (error) => error,
          ),
        ),
      );
      await blobs.close();
      for (const { message } of errors) expect(message).not.toMatch(/wrong-secret|test-secret-key-value/);
      return errors;
    };

    test("a wrong secret, an unknown key: BLOB_DENIED by every call, and why", async () => {
      const bucket = await nextBucket();
      const { accessKeyId } = server.credentials;
      for (const error of await attempt(bucket, { credentials: { accessKeyId, secretAccessKey: "wrong-secret" } }))
        expect(error).toMatchObject({ code: "BLOB_DENIED", message: /secret access key/ });
      const unknown = { accessKeyId: "nobody", secretAccessKey: "wrong-secret" };
      for (const error of await attempt(bucket, { credentials: unknown }))
        expect(error).toMatchObject({ code: "BLOB_DENIED", message: /access key id/ });
    });

    test("a missing bucket: BLOB_BUCKET_MISSING by every call", async () => {
      for (const error of await attempt("no-such-bucket", {}))
        expect(error).toMatchObject({ code: "BLOB_BUCKET_MISSING", message: /"no-such-bucket": make it/ });
    });

    test("a wrong region: BLOB_WRONG_REGION by every call", async () => {
      for (const error of await attempt(await nextBucket(), { region: "eu-west-7" }))
        expect(error).toMatchObject({ code: "BLOB_WRONG_REGION", message: /eu-west-7/ });
    });

    test("TLS where there is none: BLOB_DENIED, and what to do", async () => {
      const endpoint = server.endpoint.replace("http:", "https:");
      for (const error of await attempt(await nextBucket(), { endpoint }))
        expect(error).toMatchObject({ code: "BLOB_DENIED", message: /does not speak TLS there: http/ });
    });
  });

  test("objects of others beside ours, and below our prefix, are not listed", async () => {
    const bucket = await nextBucket();
    const blobs = await openTestBlobs(server, `${bucket}/ours`);
    await blobs.put("a/b", body("x"));
    for (const Key of ["theirs/a", "oursx", "ours/a/.hidden", "ours/a/with blank", "ours/ä"])
      await server.client.send(new PutObjectCommand({ Bucket: bucket, Key, Body: "x" }));
    expect(await namesOf(blobs.list(""))).toEqual(["a/b"]);
    await blobs.close();
  });

  test("an upload in parts that its caller ends leaves no object and no parts", async () => {
    const bucket = await nextBucket();
    const blobs = await openTestBlobs(server, bucket, { s3: IN_PARTS });
    const controller = new AbortController();
    const putting = codeOf(blobs.put("packs/1", [Buffer.alloc(40 * MIB)], { signal: controller.signal }));
    await expect
      .poll(() => readdirSync(join(server.folder, bucket), { recursive: true }).length, { interval: 5 })
      .toBeGreaterThan(1);
    controller.abort();
    expect(await putting).toBe("BLOB_ABORTED");
    expect(await namesOf(blobs.list(""))).toEqual([]);
    const { Uploads } = await server.client.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
    expect(Uploads ?? []).toEqual([]);
    await blobs.close();
  });

  test("a server that was killed and started again has every blob that was put, and the store goes on", async () => {
    const bucket = await nextBucket();
    const blobs = await openTestBlobs(server, bucket);
    await blobs.put("a", body("before"));
    await server.kill();
    const putting = blobs.put("b", body("while it was away"));
    await server.restart();
    await putting;
    expect(await entriesOf(blobs.list(""))).toMatchObject([
      { name: "a", bytes: 6 },
      { name: "b", bytes: 17 },
    ]);
    await blobs.close();
  });

  test("a server that is frozen is given up after the idle time, and used again when it goes on", async () => {
    const bucket = await nextBucket();
    const timeouts = { connectMs: 300, idleMs: 300, callMs: 5_000 };
    const blobs = await openTestBlobs(server, bucket, { s3: { timeouts }, attemptsMax: 1 });
    await blobs.put("a", body("x"));
    await server.process.freeze();
    expect(await codeOf(blobs.get("a"))).toBe("BLOB_TIMEOUT");
    expect(await codeOf(blobs.put("b", [Buffer.alloc(20 * MIB)]))).toBe("BLOB_TIMEOUT");
    server.process.thaw();
    expect(String(await blobs.get("a"))).toBe("x");
    await blobs.close();
  });

  test("TLS with an authority that is named; without, or without TLS, the error says which", async () => {
    const secure = await S3Server.start({ tls: true });
    try {
      const bucket = await secure.createBucket("secure");
      const blobs = await openTestBlobs(secure, bucket, { s3: IN_PARTS });
      // Small, large and in parts.
      for (const bytes of [1, 5 * MIB, 12 * MIB]) {
        await blobs.put(`of-${bytes}`, [Buffer.alloc(bytes, 7)]);
        expect((await blobs.get(`of-${bytes}`)).equals(Buffer.alloc(bytes, 7))).toBe(true);
      }
      await blobs.close();
      const doubtful = await openTestBlobs(secure, bucket, { s3: { certificateAuthorities: undefined } });
      const denied = await doubtful.get("of-1").catch((error: unknown) => error);
      expect(denied).toMatchObject({ code: "BLOB_DENIED", message: /signed by itself: name its authority/ });
      await doubtful.close();
      const plain = await openTestBlobs(secure, bucket, {
        s3: { endpoint: secure.endpoint.replace("https", "http") },
        attemptsMax: 1,
      });
      expect(await codeOf(plain.get("of-1"))).toMatch(/BLOB_UNREACHABLE|BLOB_IO/);
      await plain.close();
    } finally {
      await secure.stop();
    }
  });
});
