import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { MemoryLog } from "../base/log.ts";
import type { BlobEntry } from "./blob-store.ts";
import type { S3Blobs } from "./s3-blobs.ts";
import { type S3Answer, type S3Request, ScriptedS3, s3Fault, s3Xml, silence } from "./testing/scripted-s3.ts";

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

const OK: S3Answer = { status: 200, headers: { etag: '"1"' } };
const methods = (): string[] => server.requests.map(({ method }) => method);

/** A page of a listing. */
function page(keys: readonly string[], more: { token?: string; truncated?: boolean } = {}): S3Answer {
  const contents = keys.map(
    (key) =>
      `<Contents><Key>${key}</Key><Size>1</Size><LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents>`,
  );
  const { token, truncated = token !== undefined } = more;
  const next = token === undefined ? "" : `<NextContinuationToken>${token}</NextContinuationToken>`;
  return s3Xml(
    `<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>${truncated}</IsTruncated>${next}${contents.join("")}</ListBucketResult>`,
  );
}

async function entriesOf(prefix = ""): Promise<BlobEntry[]> {
  const entries: BlobEntry[] = [];
  for await (const some of blobs.list(prefix)) entries.push(...some);
  return entries;
}

describe("listing", () => {
  test("follows tokens, over empty pages too, decodes keys and leaves out what is not ours", async () => {
    const pages = [
      page(["pre/a", "pre/b%2Fc"], { token: "t1" }),
      page([], { token: "t2" }),
      page(["pre/d", "pre/e+e", "pre/f%2F..%2Fg", "pre/h"]),
    ];
    server.answer = (_, index) => pages[index] ?? s3Fault(500, "InternalError");
    const entries = await entriesOf();
    expect(entries.map(({ name }) => name)).toEqual(["a", "b/c", "d", "h"]);
    expect(entries[0]).toEqual({ name: "a", bytes: 1, modifiedMs: Date.UTC(2026, 0, 2, 3, 4, 5) });
    expect(server.requests.map(({ query }) => query.get("continuation-token"))).toEqual([null, "t1", "t2"]);
    expect(server.requests.map(({ query }) => query.get("prefix"))).toEqual(["pre/", "pre/", "pre/"]);
  });

  test.each([
    ["names out of order", [page(["pre/b", "pre/a"])]],
    ["a name twice", [page(["pre/a", "pre/a"])]],
    ["a page that begins before the last one ended", [page(["pre/b"], { token: "t" }), page(["pre/a"])]],
    ["the same page again", [page(["pre/a"], { token: "t" }), page(["pre/a"], { token: "u" })]],
    ["more, but no token", [page(["pre/a"], { truncated: true })]],
    ["the same token for ever", [page(["pre/a"], { token: "t" }), page(["pre/b"], { token: "t" })]],
    ["names outside of the prefix", [page(["other/a"])]],
    ["a key that can't be decoded", [page(["pre/%zz"])]],
    [
      "an object without a size",
      [
        s3Xml(
          "<ListBucketResult><Contents><Key>pre/a</Key></Contents><IsTruncated>false</IsTruncated></ListBucketResult>",
        ),
      ],
    ],
  ])("%s is BLOB_IO, not a list that is short", async (_, pages) => {
    server.answer = (_request, index) => pages[index] ?? page([]);
    await expect(entriesOf()).rejects.toMatchObject({ code: "BLOB_IO", retryable: false });
  });

  test("a page that fails half-way throws, after what came before", async () => {
    server.answer = (_, index) => (index === 0 ? page(["pre/a"], { token: "t" }) : s3Fault(403, "AccessDenied"));
    const pages = blobs.list("");
    expect((await pages.next()).value?.[0]?.name).toBe("a");
    await expect(pages.next()).rejects.toMatchObject({ code: "BLOB_DENIED" });
  });
});

describe("reading", () => {
  const answer = (status: number, headers: Record<string, string>, body: string): S3Answer => ({
    status,
    headers: { "content-length": String(body.length), ...headers },
    body,
  });

  test("asks for a range, and takes only that one", async () => {
    server.answer = () => answer(206, { "content-range": "bytes 2-4/10" }, "234");
    expect(String(await blobs.get("a", { from: 2, length: 3 }))).toBe("234");
    expect(server.requests[0]?.headers["range"]).toBe("bytes=2-4");
    expect(server.requests[0]?.path).toBe("/the-bucket/pre/a");
  });

  test.each([
    ["another part", answer(206, { "content-range": "bytes 3-5/10" }, "345"), "BLOB_IO"],
    ["the whole instead", answer(200, {}, "0123456789"), "BLOB_IO"],
    ["fewer bytes, as there are no more", answer(206, { "content-range": "bytes 2-3/4" }, "23"), "BLOB_DAMAGED"],
  ])("%s is an error", async (_, given, code) => {
    server.answer = () => given;
    await expect(blobs.get("a", { from: 2, length: 3 })).rejects.toMatchObject({ code });
  });

  test("more bytes than announced, or than the reader takes, are BLOB_DAMAGED before they are read", async () => {
    server.answer = () => answer(200, { "content-length": "900000000" }, "");
    await expect(blobs.get("a", { bytesMax: 1000 })).rejects.toMatchObject({ code: "BLOB_DAMAGED" });
  });

  test("an answer that doesn't say its length is an error", async () => {
    server.answer = () => (response) => {
      response.writeHead(200);
      response.end("abc");
    };
    await expect(blobs.get("a")).rejects.toMatchObject({ code: "BLOB_IO" });
  });
});

describe("putting", () => {
  test("carries the condition, the lock, a checksum and the body once", async () => {
    server.answer = () => OK;
    await blobs.put("a", [Buffer.from("ab"), Buffer.from("c")], { lockUntilMs: Date.UTC(2030, 0, 1) });
    const [request] = server.requests;
    expect(request?.headers).toMatchObject({
      "if-none-match": "*",
      "x-amz-object-lock-mode": "COMPLIANCE",
      "x-amz-object-lock-retain-until-date": "2030-01-01T00:00:00Z",
      "x-amz-checksum-crc32": "NSRBwg==",
      "content-length": "3",
    });
    expect(String(request?.body)).toBe("abc");
  });

  test("settings choose the kind of lock and leave out the checksum", async () => {
    server.answer = () => OK;
    await server.open({ lockMode: "governance", checksums: false }).put("a", [], { lockUntilMs: 1e12 });
    expect(server.requests[0]?.headers["x-amz-object-lock-mode"]).toBe("GOVERNANCE");
    expect(server.requests[0]?.headers["x-amz-checksum-crc32"]).toBeUndefined();
  });

  describe("where it isn't known whether the store keeps the condition", () => {
    const taken = new Set<string>();
    const warnings = new MemoryLog();
    let keeps: "keeps" | "ignores" | "refuses";
    let asking: S3Blobs;

    beforeEach(() => {
      taken.clear();
      warnings.lines.length = 0;
      asking = server.open({ conditionalPuts: "auto" }, { log: warnings });
      server.answer = ({ method, path, headers }) => {
        if (method === "GET") return page([]);
        const there = { status: 200, headers: { "content-length": "1", "last-modified": new Date(0).toUTCString() } };
        if (method === "HEAD") return taken.has(path) ? there : { status: 404 };
        if (headers["if-none-match"] !== undefined && keeps === "refuses") return s3Fault(501, "NotImplemented");
        if (headers["if-none-match"] !== undefined && keeps === "keeps" && taken.has(path))
          return s3Fault(412, "PreconditionFailed");
        taken.add(path);
        return OK;
      };
    });

    test("one that keeps it proves so by the first small put, and is trusted from then on", async () => {
      keeps = "keeps";
      await asking.put("large", [Buffer.alloc(100_000)]);
      await asking.put("a", [Buffer.from("x")]);
      await asking.put("b", [Buffer.from("x")]);
      // HEAD of an absent name in a bucket that wasn't seen yet asks once more (GET).
      expect(methods()).toEqual(["HEAD", "GET", "PUT", "HEAD", "PUT", "PUT", "PUT"]);
      await expect(asking.put("a", [Buffer.from("y")])).rejects.toMatchObject({ code: "BLOB_EXISTS" });
      expect(asking.capabilities.createOnly).toBe(true);
      expect(warnings.lines).toEqual([]);
    });

    test.each(["ignores", "refuses"] as const)("one that %s it is found out, and looked at first", async (how) => {
      keeps = how;
      await asking.put("a", [Buffer.from("x")]);
      expect(asking.capabilities.createOnly).toBe(false);
      expect(warnings.at("warn")).toHaveLength(1);
      server.requests.length = 0;
      await expect(asking.put("a", [Buffer.from("y")])).rejects.toMatchObject({ code: "BLOB_EXISTS" });
      await asking.put("b", [Buffer.from("y")]);
      expect(methods()).toEqual(["HEAD", "HEAD", "PUT"]);
      expect(server.requests.at(-1)?.headers["if-none-match"]).toBeUndefined();
    });

    test("one that fails while it is asked is asked again by the next put", async () => {
      keeps = "keeps";
      const answer = server.answer;
      const isSecondPut = ({ method }: { method: string }): boolean =>
        method === "PUT" && methods().filter((each) => each === "PUT").length === 2;
      server.answer = (request, index) =>
        isSecondPut(request) ? s3Fault(500, "InternalError") : answer(request, index);
      await asking.put("a", []);
      await asking.put("b", []);
      await asking.put("c", []);
      expect(methods().join(" ")).toBe("HEAD GET PUT PUT HEAD PUT PUT PUT");
    });

    test("one that is said to have none is always looked at first", async () => {
      keeps = "ignores";
      const careful = server.open({ conditionalPuts: "no" });
      expect(careful.capabilities.createOnly).toBe(false);
      await careful.put("a", []);
      await expect(careful.put("a", [])).rejects.toMatchObject({ code: "BLOB_EXISTS" });
      expect(methods()).toEqual(["HEAD", "GET", "PUT", "HEAD"]);
    });
  });
});

describe("putting in parts", () => {
  const MIB = 1024 * 1024;
  const body = [Buffer.alloc(7 * MIB, "a"), Buffer.alloc(6 * MIB, "b")];
  const open = (): S3Blobs => server.open({ multipartFromBytes: 8 * MIB, partBytes: 5 * MIB });
  type Step = "time" | "uploads" | "begin" | "part" | "complete" | "drop" | "parts";

  const stepOf = ({ method, query }: S3Request): Step => {
    if (method === "HEAD") return "time";
    if (query.has("uploads")) return method === "GET" ? "uploads" : "begin";
    return ({ PUT: "part", POST: "complete", DELETE: "drop", GET: "parts" } as const)[method] ?? "time";
  };
  const steps = (): Step[] => server.requests.map(stepOf);
  const requestsOf = (step: Step): S3Request[] => server.requests.filter((request) => stepOf(request) === step);

  /** Answers as a store does, but for the steps that a test says something else of. */
  const answerWith = (others: Partial<Record<Step, (request: S3Request) => S3Answer>>): void => {
    const usual: Record<Step, S3Answer> = {
      time: { status: 200, headers: { date: "Sat, 03 Jan 2026 00:00:00 GMT" } },
      uploads: s3Xml("<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>"),
      begin: s3Xml("<InitiateMultipartUploadResult><UploadId>up-1</UploadId></InitiateMultipartUploadResult>"),
      part: OK,
      complete: s3Xml("<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"),
      drop: { status: 204 },
      parts: s3Fault(404, "NoSuchUpload"),
    };
    server.answer = (request) => others[stepOf(request)]?.(request) ?? usual[stepOf(request)];
  };

  test("parts are the body, in order, put together under the condition", async () => {
    answerWith({});
    await open().put("a", body, { lockUntilMs: 1e12 });
    const numberOf = ({ query }: S3Request): number => Number(query.get("partNumber"));
    const parts = requestsOf("part").sort((left, right) => numberOf(left) - numberOf(right));
    expect(parts.map(({ body: part }) => part.length)).toEqual([5 * MIB, 5 * MIB, 3 * MIB]);
    expect(Buffer.concat(parts.map(({ body: part }) => part)).equals(Buffer.concat(body))).toBe(true);
    expect(requestsOf("begin")[0]?.headers["x-amz-object-lock-mode"]).toBe("COMPLIANCE");
    const [complete] = requestsOf("complete");
    expect(complete?.headers["if-none-match"]).toBe("*");
    expect(String(complete?.body)).toMatch(/<PartNumber>1<.*<PartNumber>2<.*<PartNumber>3</s);
    expect(steps().at(-1)).toBe("complete");
  });

  test("a part that fails is sent again; one that keeps failing ends the upload, whose parts are dropped", async () => {
    let failures = 2;
    answerWith({
      part: ({ query }) => (query.get("partNumber") === "2" && failures-- > 0 ? s3Fault(500, "InternalError") : OK),
    });
    await open().put("a", body);
    expect(requestsOf("drop")).toEqual([]);
    failures = 100;
    await expect(open().put("b", body)).rejects.toMatchObject({ code: "BLOB_UNREACHABLE", retryable: true });
    expect(requestsOf("drop")[0]).toMatchObject({ path: "/the-bucket/pre/b" });
    expect(requestsOf("drop")[0]?.query.get("uploadId")).toBe("up-1");
    expect(requestsOf("complete")).toHaveLength(1);
  });

  test("an upload is dropped until the store knows it no more, as a part may come late", async () => {
    let late = 2;
    answerWith({
      complete: () => s3Fault(400, "InvalidPart"),
      parts: () => (late-- > 0 ? s3Xml("<ListPartsResult/>") : s3Fault(404, "NoSuchUpload")),
    });
    await expect(open().put("a", body)).rejects.toMatchObject({ code: "BLOB_IO" });
    expect(steps().slice(-6)).toEqual(["drop", "parts", "drop", "parts", "drop", "parts"]);
  });

  test.each(["begin", "part"] as const)("an upload that its caller ends at its %s is dropped", async (step) => {
    const controller = new AbortController();
    const ended = Promise.withResolvers<void>();
    answerWith({
      part: () => silence,
      [step]: () => {
        controller.abort();
        ended.resolve();
        return step === "part"
          ? silence
          : s3Xml("<InitiateMultipartUploadResult><UploadId>up-1</UploadId></InitiateMultipartUploadResult>");
      },
    });
    const putting = open().put("a", body, { signal: controller.signal });
    await expect(putting).rejects.toMatchObject({ code: "BLOB_ABORTED" });
    await ended.promise;
    expect(requestsOf("complete")).toEqual([]);
    expect(requestsOf("drop")).toHaveLength(1);
  });

  test("a refusal at the end is that of a put, also in an answer that began as a success", async () => {
    let last = s3Fault(412, "PreconditionFailed");
    answerWith({ complete: () => last });
    await expect(open().put("a", body)).rejects.toMatchObject({ code: "BLOB_EXISTS" });
    last = s3Fault(200, "InternalError");
    await expect(open().put("a", body)).rejects.toMatchObject({ code: "BLOB_UNREACHABLE", retryable: true });
    expect(requestsOf("drop")).toHaveLength(2);
  });

  test("what dead writers left for more than a day is dropped, once, and only that", async () => {
    const upload = (key: string, initiated: string): string =>
      `<Upload><Key>pre/${key}</Key><UploadId>of-${key}</UploadId><Initiated>${initiated}</Initiated></Upload>`;
    const uploads = upload("old", "2026-01-01T23:59:00.000Z") + upload("young", "2026-01-02T00:01:00.000Z");
    answerWith({
      uploads: () => s3Xml(`<ListMultipartUploadsResult>${uploads}</ListMultipartUploadsResult>`),
    });
    const blobs = open();
    await blobs.put("a", body);
    await blobs.put("b", body);
    expect(requestsOf("uploads").map(({ query }) => query.get("prefix"))).toEqual(["pre/"]);
    expect(requestsOf("drop").map(({ query }) => query.get("uploadId"))).toEqual(["of-old"]);
  });

  test("a store that does not list uploads takes them all the same", async () => {
    answerWith({ uploads: () => s3Fault(501, "NotImplemented") });
    await open().put("a", body);
    expect(steps().at(-1)).toBe("complete");
  });
});

describe("deleting and locking", () => {
  test("one of many that can't be deleted is an error; one that isn't there is none", async () => {
    const result = (code: string): S3Answer =>
      s3Xml(`<DeleteResult><Error><Key>pre/a</Key><Code>${code}</Code><Message>m</Message></Error></DeleteResult>`);
    server.answer = () => result("AccessDenied");
    await expect(blobs.delete(["a", "b"])).rejects.toMatchObject({
      code: "BLOB_DENIED",
      message: /"pre\/a", one of 2/,
    });
    server.answer = () => result("NoSuchKey");
    await blobs.delete(["a", "b"]);
  });

  test("many go in requests of a thousand; a store without those gets single ones", async () => {
    const names = Array.from({ length: 1001 }, (_, index) => `n${index}`);
    server.answer = ({ method }) => (method === "POST" ? s3Xml("<DeleteResult/>") : { status: 204 });
    await blobs.delete(names);
    expect(methods()).toEqual(["POST", "DELETE"]);
    server.requests.length = 0;
    server.answer = ({ method }) => (method === "POST" ? s3Fault(501, "NotImplemented") : { status: 204 });
    await blobs.delete(["a", "b"]);
    await blobs.delete(["c", "d"]);
    expect(methods()).toEqual(["POST", "DELETE", "DELETE", "DELETE", "DELETE"]);
  });

  test("a lock that lasts long enough is left alone", async () => {
    server.answer = ({ method }) =>
      method === "HEAD"
        ? {
            status: 200,
            headers: {
              "content-length": "1",
              "last-modified": new Date(0).toUTCString(),
              "x-amz-object-lock-retain-until-date": "2030-01-01T00:00:00Z",
            },
          }
        : OK;
    await blobs.extendLock("a", Date.UTC(2029, 0, 1));
    expect(methods()).toEqual(["HEAD"]);
    await blobs.extendLock("a", Date.UTC(2031, 0, 1));
    expect(methods()).toEqual(["HEAD", "HEAD", "PUT"]);
    expect(String(server.requests[2]?.body)).toContain("2031-01-01T00:00:00Z");
  });
});
