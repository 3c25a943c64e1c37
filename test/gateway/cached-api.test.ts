import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { SystemClock } from "../../src/base/clock.ts";
import { MemoryLog } from "../../src/base/log.ts";
import { FsError } from "../../src/domain/errors.ts";
import { type AppId, type InodeId, LIVE, type Lsn } from "../../src/domain/ids.ts";
import type { MetadataApi, Request } from "../../src/domain/metadata-api.ts";
import { CachedApi } from "../../src/gateway/cache/cached-api.ts";
import { ReadCache } from "../../src/gateway/cache/read-cache.ts";
import type { Harness } from "../model/harness.ts";
import { ManualClock } from "../model/manual-clock.ts";
import { openEngine } from "../model/open-engine.ts";
import { Random } from "../model/random.ts";
import { LaterApi } from "./vfs-driver.ts";

const BLOCK = 64 * 1024;
const BLOCKS = 8;
const APP = "0123456789abcdef0123456789abcdef" as AppId;

let folder: string;
let inner: Harness;
let cache: ReadCache;
let asked: Request[];
/** Called before a request gets to the engine. */
let before: (request: Request) => void | Promise<void>;
let api: CachedApi;
let ino: InodeId;

beforeEach(async () => {
  if (openEngine === undefined) throw new Error("no engine");
  folder = mkdtempSync(path.join(tmpdir(), "tidemark-cached-"));
  inner = await openEngine({ clock: new ManualClock() });
  cache = await ReadCache.open({
    folder,
    app: APP,
    bytesMax: 64 * 1024 * 1024,
    clock: new SystemClock(),
    log: new MemoryLog(),
  });
  asked = [];
  before = () => {};
  const later = new LaterApi(inner.api);
  const counting: MetadataApi = {
    execute: (request, context) => {
      asked.push(request);
      return Promise.resolve(before(request)).then(() => later.execute(request, context)) as never;
    },
    subscribe: (listener) => later.subscribe(listener),
    close: () => later.close(),
  };
  api = new CachedApi(counting, cache);
  const made = await inner.api.execute(
    {
      op: "create",
      parent: inner.root,
      name: Buffer.from("f"),
      mode: 0o100644,
      umask: 0,
      exclusive: true,
      truncate: false,
    },
    inner.context(),
  );
  ino = made.ino;
});
afterEach(async () => {
  await cache.close();
  await inner.close();
  rmSync(folder, { recursive: true });
});

/** A block that holds one byte, over and over. */
async function write(block: number, value: number): Promise<void> {
  const data = Buffer.alloc(BLOCK, value);
  await inner.api.execute(
    { op: "write", ino, offset: BigInt(block * BLOCK), data, killPrivileges: false },
    inner.context(),
  );
}

/** Bytes that were read through the cache. */
async function read(options: { offset?: number; length?: number; at?: Lsn } = {}): Promise<Buffer> {
  const { offset = 0, length = BLOCKS * BLOCK, at = LIVE } = options;
  return Buffer.concat(await api.execute({ op: "read", ino, offset: BigInt(offset), length, at }, inner.context()));
}

/** Everything is durable, and kept. */
async function settle(): Promise<void> {
  await inner.settle();
  // The check that comes after an answer.
  await new Promise((resolve) => setImmediate(() => setImmediate(() => setImmediate(resolve))));
  await cache.settled();
}

const fetched = (): number => asked.reduce((sum, request) => sum + (request.op === "read" ? request.length : 0), 0);

test("what was read once is not fetched again, nor are holes", async () => {
  for (const block of [0, 1, 2, 5]) await write(block, block + 1);
  await settle();
  const first = await read();
  expect([...new Set(first.subarray(0, BLOCK))]).toEqual([1]);
  expect(first.length).toBe(6 * BLOCK);
  await settle();
  asked = [];
  expect((await read()).equals(first)).toBe(true);
  expect(
    (await read({ offset: BLOCK / 2, length: 2 * BLOCK })).equals(first.subarray(BLOCK / 2, BLOCK / 2 + 2 * BLOCK)),
  ).toBe(true);
  expect((await read({ offset: 5.5 * BLOCK })).equals(first.subarray(5.5 * BLOCK))).toBe(true);
  expect((await read({ offset: 6 * BLOCK })).length).toBe(0);
  expect(fetched()).toBe(0);
});

test("after a change only what changed is fetched", async () => {
  for (let block = 0; block < BLOCKS; block++) await write(block, 1);
  await settle();
  await read();
  await settle();
  await write(3, 2);
  await settle();
  asked = [];
  const bytes = await read();
  expect([bytes[3 * BLOCK - 1], bytes[3 * BLOCK], bytes[4 * BLOCK]]).toEqual([1, 2, 1]);
  expect(fetched()).toBe(BLOCK);
  await settle();
  asked = [];
  await read();
  expect(fetched()).toBe(0);
});

test("small reads go straight to the service", async () => {
  await write(0, 1);
  await settle();
  await read({ length: 4096 });
  expect(asked.map(({ op }) => op)).toEqual(["read"]);
});

test("what is not durable is not kept: its place may come to mean other bytes", async () => {
  await write(0, 1);
  await read();
  await cache.settled();
  expect(cache.bytes).toBe(0);
  expect(asked.map(({ op }) => op)).toEqual(["getattr", "map", "read"]);
});

test("a moment of the past is kept without asking whether it has changed", async () => {
  await write(0, 1);
  await settle();
  const at = inner.lastLsn();
  await write(0, 2);
  await settle();
  expect((await read({ at }))[0]).toBe(1);
  await settle();
  expect(asked.map(({ op }) => op)).toEqual(["map", "read"]);
  asked = [];
  expect((await read({ at }))[0]).toBe(1);
  expect(asked.map(({ op }) => op)).toEqual(["map"]);
});

test("a change between the question where and the question what puts nothing wrong into the cache", async () => {
  await write(0, 1);
  await settle();
  const at = inner.lastLsn();
  before = async (request) => {
    if (request.op !== "read") return;
    before = () => {};
    await write(0, 2);
  };
  expect((await read())[0]).toBe(2);
  await settle();
  expect((await read({ at }))[0]).toBe(1);
  expect((await read())[0]).toBe(2);
});

test("a change while only a part is fetched: the read is of one state", async () => {
  for (let block = 0; block < 4; block++) await write(block, 1);
  await settle();
  await read({ length: 2 * BLOCK });
  await settle();
  before = async (request) => {
    if (request.op !== "read") return;
    before = () => {};
    for (let block = 0; block < 4; block++) await write(block, 2);
  };
  const bytes = await read();
  expect([...new Set(bytes)]).toEqual([2]);
});

test("a file that shrinks meanwhile is read as it is then", async () => {
  for (let block = 0; block < 4; block++) await write(block, 1);
  await settle();
  await read({ length: BLOCK });
  await settle();
  before = async (request) => {
    if (request.op !== "read") return;
    before = () => {};
    await inner.api.execute({ op: "setattr", ino, set: { size: BigInt(BLOCK) } }, inner.context());
  };
  expect((await read()).length).toBe(BLOCK);
});

test("errors of the service are the caller's, also when only the question where fails", async () => {
  await write(0, 1);
  await settle();
  before = (request) => {
    if (request.op === "map") throw FsError.of("ENOSYS");
  };
  expect((await read())[0]).toBe(1);
  before = (request) => {
    if (request.op === "read") throw FsError.of("EACCES");
  };
  await expect(read()).rejects.toMatchObject({ code: "EACCES" });
});

test("readers and writers at once, over and over: every read is of a state the file was in, and the cache never lies", async () => {
  const seed = Number(process.env["SEED"] ?? "") || 20261121;
  const random = new Random(seed);
  for (let block = 0; block < BLOCKS; block++) await write(block, 0);
  const states: number[][] = [new Array<number>(BLOCKS).fill(0)];
  const change = async (): Promise<void> => {
    const block = random.below(BLOCKS);
    const value = states.length % 256;
    await write(block, value);
    states.push((states.at(-1) ?? []).map((each, index) => (index === block ? value : each)));
  };
  for (let round = 0; round < 60; round++) {
    if (random.below(2) === 0) await settle();
    before = async () => {
      if (random.below(8) === 0) await change();
    };
    const from = states.length - 1;
    const reads = await Promise.all(Array.from({ length: 1 + random.below(3) }, () => read()));
    before = () => {};
    for (const bytes of reads) {
      const blocks = Array.from({ length: BLOCKS }, (_, block) => {
        const values = new Set(bytes.subarray(block * BLOCK, (block + 1) * BLOCK));
        expect(values.size, `seed ${seed}`).toBe(1);
        return [...values][0];
      });
      const possible = states.slice(from).map((state) => state.join());
      expect(possible, `seed ${seed}, round ${round}`).toContain(blocks.join());
    }
  }
  await settle();
  for (let round = 0; round < 3; round++) {
    const bytes = await read();
    expect(Array.from({ length: BLOCKS }, (_, block) => bytes[block * BLOCK])).toEqual(states.at(-1));
    await settle();
  }
  expect(cache.counts.hitBytes).toBeGreaterThan(BLOCK * BLOCKS);
});
