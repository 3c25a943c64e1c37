import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { BlobStore } from "../../src/blob/blob-store.ts";
import type { OpenBlobsOptions } from "../../src/blob/open-blobs.ts";
import { body, codeOf, entriesOf, namesOf } from "../contract/blob-contract.ts";
import { blobDeps, openTestBlobs } from "../support/open-test-blobs.ts";
import { S3Server } from "../support/s3-server.ts";
import { lacksTools } from "../support/test-tool.ts";
import { ToxicProxy } from "../support/toxic-proxy.ts";

const MIB = 1024 * 1024;

describe.skipIf(lacksTools("versitygw", "toxiproxy"))("a bucket behind a bad network", () => {
  let server: S3Server;
  let proxy: ToxicProxy;
  let bucket: string;
  let bucketCount = 0;
  /** Not through the proxy: what is really there. */
  let direct: BlobStore;
  const opened: BlobStore[] = [];

  beforeAll(async () => {
    server = await S3Server.start();
    proxy = await ToxicProxy.start(server.port);
  });
  afterAll(async () => {
    await proxy?.stop();
    await server?.stop();
  });
  beforeEach(async () => {
    bucketCount += 1;
    bucket = await server.createBucket(`bucket-${bucketCount}`);
    direct = await openTestBlobs(server, bucket);
    opened.push(direct);
  });
  afterEach(async () => {
    await proxy.heal();
    for (const blobs of opened.splice(0)) await blobs.close();
  });

  const open = async (options: Partial<OpenBlobsOptions> = {}): Promise<BlobStore> => {
    const timeouts = { connectMs: 1_000, idleMs: 400, callMs: 20_000 };
    const s3 = { endpoint: proxy.endpoint, timeouts, multipartFromBytes: 8 * MIB, partBytes: 5 * MIB, ...options.s3 };
    const blobs = await openTestBlobs(server, bucket, { ...options, s3 });
    opened.push(blobs);
    return blobs;
  };

  const large = (seed: number): Buffer[] => [Buffer.alloc(12 * MIB, seed), Buffer.from(`end ${seed}`)];

  test("that is slow: everything works", { timeout: 60_000 }, async () => {
    await proxy.add({ type: "latency", attributes: { latency: 60, jitter: 20 } });
    const blobs = await open();
    await blobs.put("small", body("x"));
    await blobs.put("large", large(1));
    expect((await blobs.get("large")).equals(Buffer.concat(large(1)))).toBe(true);
    expect(String(await blobs.get("large", { from: 12 * MIB, length: 5 }))).toBe("end 1");
    expect(await namesOf(blobs.list(""))).toEqual(["large", "small"]);
    await blobs.delete(["small"]);
    expect(await namesOf(direct.list(""))).toEqual(["large"]);
  });

  test("that breaks connections after some data: bodies arrive whole or not at all", { timeout: 60_000 }, async () => {
    await direct.put("large", large(2));
    // Answers are cut after 3 MB, whatever is asked for.
    await proxy.add({ type: "limit_data", attributes: { bytes: 3_000_000 } });
    const impatient = await open({ attemptsMax: 2 });
    expect(await codeOf(impatient.get("large"))).toBe("BLOB_UNREACHABLE");
    expect((await impatient.get("large", { from: 5, length: MIB })).length).toBe(MIB);
    await proxy.heal();
    await proxy.add({ type: "limit_data", attributes: { bytes: 3_000_000 } }, { stream: "upstream" });
    expect(await codeOf(impatient.put("packs/1", [Buffer.alloc(7 * MIB, 1)]))).toBe("BLOB_UNREACHABLE");
    await proxy.heal();
    expect(await namesOf(direct.list(""))).toEqual(["large"]);
  });

  test("that resets connections now and then: all calls succeed, each once", { timeout: 120_000 }, async () => {
    const blobs = await open({ attemptsMax: 30, random: () => 0, timers: hasty });
    await proxy.add({ type: "reset_peer", attributes: { timeout: 5 } }, { toxicity: 0.3 });
    await proxy.add({ type: "limit_data", attributes: { bytes: 400 } }, { toxicity: 0.2 });
    const names = Array.from({ length: 60 }, (_, index) => `packs/${String(index).padStart(2, "0")}`);
    await Promise.all(names.map((name) => blobs.put(name, body(name, " of one writer"))));
    for (const name of names) expect(String(await blobs.get(name))).toBe(`${name} of one writer`);
    expect(await namesOf(blobs.list(""))).toEqual(names);
    await blobs.delete(names.slice(10));
    await proxy.heal();
    expect(await namesOf(direct.list(""))).toEqual(names.slice(0, 10));
  });

  test("that loses the answers of puts: they succeed, and another's blob is never taken for ours", async () => {
    await direct.put("epochs/1", body("another writer"));
    // The request passes, its answer does not.
    await proxy.add({ type: "limit_data", attributes: { bytes: 1 } });
    const blobs = await open({
      timers: { ...hasty, wait: () => proxy.heal() },
    });
    await blobs.put("epochs/2", body("this writer"));
    expect(String(await direct.get("epochs/2"))).toBe("this writer");
    await proxy.add({ type: "limit_data", attributes: { bytes: 1 } });
    expect(await codeOf(blobs.put("epochs/1", body("this writer")))).toBe("BLOB_EXISTS");
    expect(String(await direct.get("epochs/1"))).toBe("another writer");
  });

  test("that swallows data while the connection stays open: BLOB_TIMEOUT, and well again afterwards", async () => {
    const blobs = await open({ attemptsMax: 1 });
    await blobs.put("a", body("x"));
    for (const stream of ["downstream", "upstream"] as const) {
      await proxy.add({ type: "timeout", attributes: { timeout: 0 } }, { stream });
      expect(await codeOf(blobs.get("a"))).toBe("BLOB_TIMEOUT");
      expect(await codeOf(blobs.put("b", large(3)))).toBe("BLOB_TIMEOUT");
      expect(await codeOf(namesOf(blobs.list("")))).toBe("BLOB_TIMEOUT");
      await proxy.heal();
      expect(String(await blobs.get("a"))).toBe("x");
    }
    expect(await namesOf(direct.list(""))).toEqual(["a"]);
  });

  test("that is out for a while: calls wait for it, a listing goes on where it was", { timeout: 60_000 }, async () => {
    const names = Array.from({ length: 1_100 }, (_, index) => `n/${String(index).padStart(4, "0")}`);
    for (let at = 0; at < names.length; at += 20)
      await Promise.all(names.slice(at, at + 20).map((name) => direct.put(name, [])));
    let waits = 0;
    const blobs = await open({
      attemptsMax: 5,
      timers: {
        ...hasty,
        wait: async () => {
          waits += 1;
          if (waits === 3) await proxy.heal();
        },
      },
    });
    const pages = blobs.list("n/");
    const first = (await pages.next()).value;
    await proxy.cut();
    const rest = await entriesOf(pages);
    expect([...(first ?? []), ...rest].map(({ name }) => name)).toEqual(names);
    expect(waits).toBe(3);
    await proxy.cut();
    waits = 10;
    expect(await codeOf(blobs.put("x", body("x")))).toBe("BLOB_UNREACHABLE");
    expect(waits).toBe(14);
  });
});

/** Waits between attempts that are over at once; the other timers are the machine's. */
const hasty = { after: blobDeps.timers.after.bind(blobDeps.timers), wait: async (): Promise<void> => {} };
