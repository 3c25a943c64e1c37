/**
 * What every key-value store must do. A store runs it in two lines: `kvContract("MyKv", () => myFixture())`.
 * Random tests print their seed when they fail and take another from the variable SEED.
 */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { KvEntry, KvOperation, KvRange, KvStore } from "../../src/kv/kv-store.ts";
import { KV_READ_ROWS_MAX } from "../../src/kv/kv-store.ts";
import { describeClosing } from "./kv-closing-contract.ts";
import { KvModel } from "./kv-model.ts";
import { describeThreads } from "./kv-threads-contract.ts";

/** One store under test. `open` opens the same store again after it was closed. */
export interface KvFixture {
  open(): Promise<KvStore>;
  dispose(): Promise<void>;
}

const bytes = (text: string): Buffer => Buffer.from(text, "latin1");
const put = (key: string, value: string): KvOperation => ({ type: "put", key: bytes(key), value: bytes(value) });
const del = (key: string): KvOperation => ({ type: "del", key: bytes(key) });
const keysOf = (entries: readonly KvEntry[]): string[] => entries.map((entry) => entry.key.toString("latin1"));
const range = (
  kv: KvStore,
  bounds: Partial<Record<"gte" | "gt" | "lt" | "lte", string>>,
  rest: Partial<KvRange> = {},
): string[] => {
  const converted = Object.fromEntries(Object.entries(bounds).map(([name, bound]) => [name, bytes(bound)]));
  return keysOf(kv.rangeSync({ limit: 100, ...converted, ...rest }));
};

/** A generator of numbers in [0, below), the same for the same seed (mulberry32). */
function randomOf(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

export function kvContract(name: string, makeFixture: () => Promise<KvFixture>): void {
  describe(`${name} keeps the contract of KvStore`, () => {
    let fixture: KvFixture;
    let kv: KvStore;

    beforeEach(async () => {
      fixture = await makeFixture();
      kv = await fixture.open();
    });

    afterEach(async () => {
      await kv.close();
      await fixture.dispose();
    });

    describeRows(() => kv);
    describeRanges(() => kv);
    describeModel(() => kv);
    const reopen = async (): Promise<KvStore> => {
      kv = await fixture.open();
      return kv;
    };
    describeThreads(() => kv, reopen);
    describeClosing(() => kv, reopen);
  });
}

function describeRows(store: () => KvStore): void {
  test("an absent key is undefined, alone and among others", async () => {
    const kv = store();
    await kv.batch([put("b", "2")]);
    expect(kv.getSync(bytes("a"))).toBeUndefined();
    expect(kv.getManySync([bytes("a"), bytes("b"), bytes("c"), bytes("b")])).toEqual([
      undefined,
      bytes("2"),
      undefined,
      bytes("2"),
    ]);
    expect(kv.getManySync([])).toEqual([]);
  });

  test("a batch puts and deletes, and its later operations win", async () => {
    const kv = store();
    await kv.batch([put("a", "1"), put("b", "1"), put("c", "1")]);
    await kv.batch([del("a"), put("b", "2"), put("c", "2"), del("c"), put("d", "2"), del("absent")]);
    expect(kv.getManySync(["a", "b", "c", "d"].map(bytes))).toEqual([undefined, bytes("2"), undefined, bytes("2")]);
    await kv.batch([]);
    expect(range(kv, {})).toEqual(["b", "d"]);
  });

  test("a batch is visible as soon as batch() has returned its promise's result", async () => {
    const kv = store();
    for (let round = 0; round < 100; round += 1) {
      await kv.batch([put("k", `${round}`)]);
      expect(kv.getSync(bytes("k"))).toEqual(bytes(`${round}`));
    }
  });

  test("a batch with an impossible operation changes nothing", async () => {
    const kv = store();
    await expect(kv.batch([put("a", "1"), put("", "empty key")])).rejects.toThrow("key is empty");
    await expect(kv.batch([del("a"), put("x".repeat(4097), "")])).rejects.toThrow("KV_KEY_BYTES_MAX");
    expect(range(kv, {})).toEqual([]);
  });

  test("values may be empty, and are not absent then", async () => {
    const kv = store();
    await kv.batch([put("empty", "")]);
    expect(kv.getSync(bytes("empty"))).toEqual(Buffer.alloc(0));
    expect(kv.getManySync([bytes("empty")])).toEqual([Buffer.alloc(0)]);
    expect(kv.rangeSync({ limit: 1 })).toEqual([{ key: bytes("empty"), value: Buffer.alloc(0) }]);
  });

  test("a value of 16 MiB and a key of 4 KiB come back as they were", async () => {
    const kv = store();
    const key = Buffer.alloc(4096, 0xfe);
    const value = Buffer.alloc(16 * 1024 * 1024);
    for (let offset = 0; offset < value.length; offset += 4)
      value.writeUInt32LE(Math.imul(offset, 2654435761) >>> 0, offset);
    await kv.batch([{ type: "put", key, value }]);
    expect(kv.getSync(key)?.equals(value)).toBe(true);
  });

  test("buffers passed in may be reused, buffers passed out may be changed", async () => {
    const kv = store();
    const key = bytes("key");
    const value = bytes("value");
    const done = kv.batch([{ type: "put", key, value }]);
    key.fill(0);
    value.fill(0);
    await done;
    kv.getSync(bytes("key"))?.fill(1);
    kv.rangeSync({ limit: 1 })[0]?.value.fill(2);
    expect(kv.getSync(bytes("key"))).toEqual(bytes("value"));
  });

  test("plain Uint8Arrays and views into larger arrays are keys and values like buffers", async () => {
    const kv = store();
    const arena = new Uint8Array([9, 9, 1, 2, 3, 9, 9]);
    await kv.batch([{ type: "put", key: arena.subarray(2, 4), value: arena.subarray(4, 5) }]);
    expect(kv.getSync(new Uint8Array([1, 2]))).toEqual(Buffer.from([3]));
    expect(kv.rangeSync({ gte: arena.subarray(2, 3), lt: arena.subarray(3, 4), limit: 9 })).toHaveLength(1);
  });

  test("deleteRange removes from gte up to, not including, lt", async () => {
    const kv = store();
    await kv.batch(["a", "b", "b\0", "bz", "c", "d"].map((key) => put(key, "1")));
    await kv.deleteRange({ gte: bytes("b"), lt: bytes("c") });
    expect(range(kv, {})).toEqual(["a", "c", "d"]);
    await kv.batch([put("b", "again")]);
    await kv.deleteRange({ gte: bytes("c"), lt: bytes("c") });
    await kv.deleteRange({ gte: bytes("d"), lt: bytes("a") });
    expect(range(kv, {})).toEqual(["a", "b", "c", "d"]);
  });

  test("sync succeeds with and without rows, and changes nothing", async () => {
    const kv = store();
    await kv.sync();
    await kv.batch([put("a", "1")]);
    await kv.sync();
    await kv.sync();
    expect(range(kv, {})).toEqual(["a"]);
  });

  test("statistics are numbers that grow with the rows", async () => {
    const kv = store();
    const before = kv.statistics();
    await kv.batch(Array.from({ length: 1000 }, (_, index) => put(`k${index}`, "v".repeat(100))));
    const after = kv.statistics();
    expect(after.rowCountEstimate - before.rowCountEstimate).toBe(1000);
    expect(after.memoryBytes).toBeGreaterThan(before.memoryBytes + 50_000);
    expect(after.writesStopped).toBe(false);
  });
}

function describeRanges(store: () => KvStore): void {
  test("keys are in the order of their unsigned bytes, a prefix first", async () => {
    const kv = store();
    const keys = [
      "\0",
      "\0\0",
      "\0\xff",
      "a",
      "a\0",
      "a\0b",
      "aa",
      "\x7f",
      "\x80",
      "\xfe\xff",
      "\xff",
      "\xff\0",
      "\xff\xff\xff",
    ];
    await kv.batch([...keys].reverse().map((key) => put(key, key)));
    expect(range(kv, {})).toEqual(keys);
    expect(range(kv, {}, { reverse: true })).toEqual([...keys].reverse());
  });

  test("each bound includes or excludes its key, both ways, whether the key is there or not", async () => {
    const kv = store();
    await kv.batch(["b", "d", "f", "h"].map((key) => put(key, "1")));
    const cases: [Parameters<typeof range>[1], string[]][] = [
      [{ gte: "d" }, ["d", "f", "h"]],
      [{ gt: "d" }, ["f", "h"]],
      [{ gte: "c" }, ["d", "f", "h"]],
      [{ gt: "c" }, ["d", "f", "h"]],
      [{ lte: "f" }, ["b", "d", "f"]],
      [{ lt: "f" }, ["b", "d"]],
      [{ lte: "g" }, ["b", "d", "f"]],
      [{ gte: "d", lte: "d" }, ["d"]],
      [{ gte: "d", lt: "d" }, []],
      [{ gt: "d", lte: "d" }, []],
      [{ gt: "d", lt: "f" }, []],
      [{ gte: "f", lt: "b" }, []],
      [{ gte: "", lt: "e" }, ["b", "d"]],
      [{ lt: "" }, []],
      [{ lte: "" }, []],
      [{ gt: "h" }, []],
      [{ lt: "b" }, []],
    ];
    for (const [bounds, keys] of cases) {
      expect(range(kv, bounds), JSON.stringify(bounds)).toEqual(keys);
      expect(range(kv, bounds, { reverse: true }), `${JSON.stringify(bounds)} reverse`).toEqual([...keys].reverse());
    }
  });

  test("limit ends a range at the end it was started from", async () => {
    const kv = store();
    await kv.batch(["a", "b", "c", "d"].map((key) => put(key, "1")));
    expect(range(kv, { gt: "a" }, { limit: 2 })).toEqual(["b", "c"]);
    expect(range(kv, { lt: "d" }, { limit: 2, reverse: true })).toEqual(["c", "b"]);
    expect(range(kv, { gt: "a" }, { limit: 1 })).toEqual(["b"]);
    expect(range(kv, { lte: "bz" }, { limit: 1, reverse: true })).toEqual(["b"]);
    expect(range(kv, {}, { limit: 4 })).toEqual(["a", "b", "c", "d"]);
  });

  test("bytesMax ends a range with the row that reaches it, and lets one row through", async () => {
    const kv = store();
    await kv.batch(["a", "b", "c", "d"].map((key) => put(key, "123456789")));
    const counts = [1, 9, 10, 11, 20, 29, 30, 31, 40, 1000].map((bytesMax) => range(kv, {}, { bytesMax }).length);
    expect(counts).toEqual([1, 1, 1, 2, 2, 3, 3, 4, 4, 4]);
    expect(range(kv, {}, { bytesMax: 20, limit: 1 })).toEqual(["a"]);
    expect(range(kv, {}, { bytesMax: 15, reverse: true })).toEqual(["d", "c"]);
  });

  test("a range is walked to its end with gt the last key", async () => {
    const kv = store();
    const keys = Array.from({ length: 2500 }, (_, index) => `k${String(index).padStart(5, "0")}`);
    await kv.batch(keys.map((key) => put(key, "v")));
    const seen: string[] = [];
    for (let gt = "k"; ; gt = seen[seen.length - 1] ?? "") {
      const page = range(kv, { gt, lt: "l" }, { limit: 700 });
      seen.push(...page);
      if (page.length < 700) break;
    }
    expect(seen).toEqual(keys);
  });

  test("a range without a limit, or with contradicting bounds, is refused", () => {
    const kv = store();
    for (const limit of [0, -1, 1.5, Number.NaN, KV_READ_ROWS_MAX + 1])
      expect(() => kv.rangeSync({ limit })).toThrow("limit");
    expect(() => kv.rangeSync({ limit: 1, bytesMax: 0 })).toThrow("bytesMax");
    expect(() => kv.rangeSync({ limit: 1, gt: bytes("a"), gte: bytes("a") })).toThrow("both");
    expect(() => kv.rangeSync({ limit: 1, lt: bytes("a"), lte: bytes("a") })).toThrow("both");
    expect(() => kv.rangeSync({ limit: 1, gte: "text" as unknown as Uint8Array })).toThrow("not a byte array");
  });
}

function describeModel(store: () => KvStore): void {
  test("after random batches every read equals that of a plain sorted list", async () => {
    const kv = store();
    const seed = Number(process.env["SEED"] ?? 20_240_817);
    const random = randomOf(seed);
    const model = new KvModel();
    // Few letters and short keys, so that keys meet, prefix each other and fall on bounds.
    const letters = ["\0", "a", "b", "\x80", "\xff"];
    const key = (length: number): string => Array.from({ length }, () => letters[random(letters.length)]).join("");
    const bound = (): string | undefined => (random(3) === 0 ? undefined : key(random(4)));
    for (let step = 0; step < 400; step += 1) {
      const operations = Array.from({ length: random(30) }, () =>
        random(3) === 0 ? del(key(1 + random(4))) : put(key(1 + random(4)), `${step}`),
      );
      await kv.batch(operations);
      model.batch(operations);
      if (random(10) === 0) {
        const cut = { gte: bytes(key(random(3))), lt: bytes(key(random(3))) };
        await kv.deleteRange(cut);
        model.deleteRange(cut);
      }
      const low = random(2) === 0 ? "gte" : "gt";
      const high = random(2) === 0 ? "lte" : "lt";
      const asked: KvRange = {
        [low]: optionalBytes(bound()),
        [high]: optionalBytes(bound()),
        reverse: random(2) === 0,
        limit: random(4) === 0 ? 1 : 1 + random(60),
        bytesMax: random(3) === 0 ? 1 + random(40) : undefined,
      };
      const label = `SEED=${seed} step ${step} ${JSON.stringify(asked)}`;
      expect(kv.rangeSync(asked), label).toEqual(model.range(asked));
      const wanted = Array.from({ length: random(8) }, () => bytes(key(1 + random(4))));
      expect(kv.getManySync(wanted), label).toEqual(wanted.map((each) => model.get(each)));
    }
    expect(kv.rangeSync({ limit: KV_READ_ROWS_MAX })).toEqual(model.range({ limit: KV_READ_ROWS_MAX }));
  });
}

function optionalBytes(text: string | undefined): Buffer | undefined {
  return text === undefined ? undefined : bytes(text);
}
