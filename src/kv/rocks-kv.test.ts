import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type KvFixture, kvContract } from "../../test/contract/kv-contract.ts";
import { KV_SHARES_MAX } from "./kv-store.ts";
import { openSharedRocksKv, RocksKv } from "./rocks-kv.ts";

// Threads are started, on machines that do other things too.
vi.setConfig({ testTimeout: 30_000 });

async function rocksFixture(): Promise<Omit<KvFixture, "open"> & { open(): Promise<RocksKv> }> {
  const folder = await mkdtemp(join(tmpdir(), "tidemark-kv-"));
  return {
    // The least memory, so that write buffers are flushed and tables compacted in short tests too.
    open: () => RocksKv.open({ directory: join(folder, "kv"), missing: "create", memoryBytesMax: 16 * 1024 * 1024 }),
    dispose: () => rm(folder, { recursive: true }),
  };
}

kvContract("RocksKv", rocksFixture);

let fixture: Awaited<ReturnType<typeof rocksFixture>>;
let kv: RocksKv;

beforeEach(async () => {
  fixture = await rocksFixture();
  kv = await fixture.open();
});

afterEach(async () => {
  await kv.close();
  await fixture.dispose();
});

test("a share that was closed makes room for another", async () => {
  for (let round = 0; round < 3 * KV_SHARES_MAX; round += 1) {
    const shared = openSharedRocksKv(kv.share().handle);
    expect(shared.getSync(Buffer.from("a"))).toBeUndefined();
    await shared.close();
    expect(() => shared.getSync(Buffer.from("a"))).toThrow(expect.objectContaining({ code: "KV_CLOSED" }));
    // The news of the closed side comes in a later turn.
    for (let turn = 0; turn < 10; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  }
});

test("more shares at a time than KV_SHARES_MAX are refused", () => {
  for (let count = 0; count < KV_SHARES_MAX; count += 1) kv.share();
  expect(() => kv.share()).toThrow("KV_SHARES_MAX");
});

test("a handle that is none, or of another process, is refused before the native code sees it", () => {
  expect(() => openSharedRocksKv(undefined)).toThrow("not the handle");
  expect(() => openSharedRocksKv({ database: 1n })).toThrow("not the handle");
  const { handle } = kv.share();
  expect(() => openSharedRocksKv({ ...(handle as object), processId: process.pid + 1 })).toThrow("another process");
});

test("what is read from a shared store does not hold back its closing once it was read", async () => {
  const shared = openSharedRocksKv(kv.share().handle);
  await shared.batch([{ type: "put", key: Buffer.from("a"), value: Buffer.alloc(100_000, "v") }]);
  const value = shared.getSync(Buffer.from("a"));
  const [row] = kv.rangeSync({ limit: 1 });
  await kv.close();
  expect(value?.equals(Buffer.alloc(100_000, "v"))).toBe(true);
  expect(row?.value.equals(Buffer.alloc(100_000, "v"))).toBe(true);
  await expect(shared.batch([])).rejects.toMatchObject({ code: "KV_CLOSED" });
});
