import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { MemoryLog } from "../base/log.ts";
import type { S3Blobs } from "./s3-blobs.ts";
import { hangUp, ScriptedS3, s3Fault, s3Xml, silence } from "./testing/scripted-s3.ts";

const EMPTY_LIST = s3Xml("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>");
const FAST = { connectMs: 2_000, idleMs: 150, callMs: 60_000 };

let server: ScriptedS3;
let blobs: S3Blobs;

beforeEach(async () => {
  server = await ScriptedS3.start();
  blobs = server.open();
});
afterEach(async () => {
  await blobs.close();
  await server[Symbol.asyncDispose]();
});

async function list(store: S3Blobs): Promise<void> {
  for await (const _ of store.list("")) break;
}

describe("what a store says is said in our words", () => {
  test.each([
    [404, "NoSuchKey", "BLOB_MISSING", false, /"a" is not in bucket/],
    [404, "NoSuchBucket", "BLOB_BUCKET_MISSING", false, /no bucket "the-bucket": make it/],
    [403, "AccessDenied", "BLOB_DENIED", false, /s3:GetObject/],
    [403, "InvalidAccessKeyId", "BLOB_DENIED", false, /access key id/],
    [403, "SignatureDoesNotMatch", "BLOB_DENIED", false, /secret access key/],
    [400, "ExpiredToken", "BLOB_DENIED", false, /get a new one/],
    [400, "AuthorizationHeaderMalformed", "BLOB_WRONG_REGION", false, /not in region "us-east-1"/],
    [503, "SlowDown", "BLOB_UNREACHABLE", true, /slow down/],
    [503, "ServiceUnavailable", "BLOB_UNREACHABLE", true, /overloaded/],
    [500, "InternalError", "BLOB_UNREACHABLE", true, /internal error/],
    [502, "SomethingNew", "BLOB_UNREACHABLE", true, /SomethingNew/],
    [400, "RequestTimeout", "BLOB_UNREACHABLE", true, /in vain/],
    [400, "BadDigest", "BLOB_DAMAGED", true, /changed on their way/],
    [507, "Whatever", "BLOB_NO_SPACE", false, /no room/],
    [403, "QuotaExceeded", "BLOB_NO_SPACE", false, /quota/],
    [400, "SomethingNew", "BLOB_IO", false, /SomethingNew: because/],
  ])("%i %s is %s", async (status, code, expected, retryable, words) => {
    server.answer = () => s3Fault(status, code);
    const error = await blobs.get("a").catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: expected, retryable });
    expect(String(error)).toMatch(words);
    expect(String(error)).toContain('Could not read "a" of s3://the-bucket/pre at http://');
  });

  test("a refused condition is BLOB_EXISTS, a conflict of two may pass", async () => {
    server.answer = () => s3Fault(412, "PreconditionFailed");
    await expect(blobs.put("a", [])).rejects.toMatchObject({ code: "BLOB_EXISTS" });
    server.answer = () => s3Fault(409, "ConditionalRequestConflict");
    await expect(blobs.put("a", [])).rejects.toMatchObject({ code: "BLOB_UNREACHABLE", retryable: true });
  });

  test("the region that the store names is named", async () => {
    server.answer = () => ({
      ...s3Fault(301, "PermanentRedirect"),
      status: 301,
      headers: { "x-amz-bucket-region": "eu-north-1", "content-type": "application/xml" },
    });
    await expect(blobs.get("a")).rejects.toMatchObject({
      code: "BLOB_WRONG_REGION",
      message: expect.stringContaining('is in region "eu-north-1", not "us-east-1"'),
    });
  });

  test("locks in a bucket without them are BLOB_UNSUPPORTED, a locked blob is BLOB_LOCKED", async () => {
    server.answer = () => s3Fault(400, "InvalidRequest", "Bucket is missing Object Lock Configuration");
    const locking = blobs.put("a", [], { lockUntilMs: 1e12 });
    await expect(locking).rejects.toMatchObject({ code: "BLOB_UNSUPPORTED" });
    server.answer = () => s3Fault(403, "AccessDenied", "Access Denied because object protected by object lock.");
    await expect(blobs.delete(["a"])).rejects.toMatchObject({ code: "BLOB_LOCKED" });
  });

  test("keys are never part of a message or its cause, whatever the store repeats", async () => {
    server.answer = () => s3Fault(400, "Odd", "you sent the-secret-key and the-token");
    const error = await blobs.get("a").catch((reason: unknown) => reason);
    const { cause } = error as Error;
    for (const each of [error, cause]) expect(String(each)).not.toMatch(/the-secret-key|the-token/);
    expect(String(error)).toContain("[secret]");
  });

  test("what is no S3 at all is said", async () => {
    server.answer = () => ({ status: 200, headers: { "content-type": "text/html" }, body: "<html><p>hi</html>" });
    await expect(list(blobs)).rejects.toMatchObject({ code: "BLOB_IO" });
  });
});

describe("answers without a body (HEAD)", () => {
  test("a refusal asks a listing for its reason", async () => {
    server.answer = ({ method }) => (method === "HEAD" ? { status: 403 } : s3Fault(403, "InvalidAccessKeyId"));
    await expect(blobs.stat("a")).rejects.toThrow(/access key id/);
    server.answer = ({ method }) => (method === "HEAD" ? { status: 400 } : s3Fault(400, "ExpiredToken"));
    await expect(blobs.timeMs()).rejects.toThrow(/expired/);
  });

  test("an absence is believed once the bucket was seen, and not before", async () => {
    server.answer = ({ method }) => (method === "HEAD" ? { status: 404 } : s3Fault(404, "NoSuchBucket"));
    await expect(blobs.stat("a")).rejects.toMatchObject({ code: "BLOB_BUCKET_MISSING" });
    server.answer = ({ method }) => (method === "HEAD" ? { status: 404 } : EMPTY_LIST);
    expect(await blobs.stat("a")).toBeUndefined();
    expect(await blobs.stat("b")).toBeUndefined();
    expect(server.requests.map(({ method }) => method)).toEqual(["HEAD", "GET", "HEAD", "GET", "HEAD"]);
  });

  test("the time is that of the Date header", async () => {
    server.answer = () => ({ status: 200, headers: { date: "Sun, 06 Nov 1994 08:49:37 GMT" } });
    expect(await blobs.timeMs()).toBe(Date.UTC(1994, 10, 6, 8, 49, 37));
  });
});

describe("a clock that is hours off", () => {
  const serverMs = Math.floor((Date.now() + 5 * 3_600_000) / 1000) * 1000;
  const date = new Date(serverMs).toUTCString();

  test("is taken from the store's refusal, warned of, and the call repeated once", async () => {
    const log = new MemoryLog();
    const skewed = server.open({}, { log });
    server.answer = (_, index) =>
      index === 0
        ? { ...s3Fault(403, "RequestTimeTooSkewed"), status: 403, headers: { date, "content-type": "application/xml" } }
        : { status: 200, headers: { date, "content-length": "1" }, body: "x" };
    expect(String(await skewed.get("a"))).toBe("x");
    const stamp = String(server.requests[1]?.headers["x-amz-date"]);
    expect(stamp.slice(0, 11)).toBe(new Date(serverMs).toISOString().replaceAll("-", "").slice(0, 11));
    expect(log.at("warn")).toHaveLength(1);
  });

  test("that stays refused is BLOB_CLOCK_SKEW", async () => {
    server.answer = () => s3Fault(403, "RequestTimeTooSkewed");
    await expect(blobs.get("a")).rejects.toMatchObject({ code: "BLOB_CLOCK_SKEW", message: /set the clock/ });
    expect(server.requests).toHaveLength(2);
  });
});

describe("connections that fail", () => {
  test("broken off before or in an answer: BLOB_UNREACHABLE, never a part of it", async () => {
    server.answer = () => hangUp;
    await expect(blobs.get("a")).rejects.toMatchObject({ code: "BLOB_UNREACHABLE", retryable: true });
    server.answer = () => (response) => {
      response.writeHead(200, { "content-length": "10" });
      response.write("01234", () => response.destroy());
    };
    await expect(blobs.get("a")).rejects.toMatchObject({ code: "BLOB_UNREACHABLE", retryable: true });
  });

  test("silent ones, at once or half-way through a body, end as BLOB_TIMEOUT", async () => {
    const impatient = server.open({ timeouts: FAST });
    server.answer = () => silence;
    await expect(impatient.get("a")).rejects.toMatchObject({ code: "BLOB_TIMEOUT", retryable: true });
    await expect(impatient.put("a", [Buffer.alloc(100)])).rejects.toMatchObject({ code: "BLOB_TIMEOUT" });
    server.answer = () => (response) => {
      response.writeHead(200, { "content-length": "10" });
      response.write("01234");
    };
    await expect(impatient.get("a")).rejects.toMatchObject({ code: "BLOB_TIMEOUT" });
    await impatient.close();
  });

  test("one that trickles on for ever ends when the whole call is over time", async () => {
    const timed = server.open({ timeouts: { ...FAST, idleMs: 30_000, callMs: 200 } });
    server.answer = () => (response) => {
      response.writeHead(206, { "content-length": "1000", "content-range": "bytes 0-999/1000" });
      const timer = setInterval(() => response.write("x"), 10);
      response.on("close", () => clearInterval(timer));
    };
    await expect(timed.get("a", { length: 1000 })).rejects.toMatchObject({ code: "BLOB_TIMEOUT", retryable: true });
    await expect(list(timed)).rejects.toMatchObject({ code: "BLOB_TIMEOUT" });
    await timed.close();
  });

  test("a caller's signal and close end a call that waits", async () => {
    const arrived = Promise.withResolvers<void>();
    server.answer = () => {
      arrived.resolve();
      return silence;
    };
    const controller = new AbortController();
    const getting = blobs.get("a", { signal: controller.signal });
    const other = blobs.stat("b");
    await arrived.promise;
    controller.abort();
    await expect(getting).rejects.toMatchObject({ code: "BLOB_ABORTED" });
    await blobs.close();
    await expect(other).rejects.toMatchObject({ code: "BLOB_ABORTED" });
  });

  test("nobody there, no such host, TLS where there is none: each says so", async () => {
    const at = (endpoint: string): S3Blobs => server.open({ endpoint });
    await expect(at("http://127.0.0.1:1").get("a")).rejects.toMatchObject({
      code: "BLOB_UNREACHABLE",
      message: /refuses the connection/,
    });
    await expect(at("http://no-such-host.invalid").get("a")).rejects.toMatchObject({
      code: "BLOB_UNREACHABLE",
      message: /host name|looked up/,
    });
    await expect(at(`https://${server.host}`).get("a")).rejects.toMatchObject({
      code: "BLOB_DENIED",
      message: /does not speak TLS/,
    });
  });
});
