import { describe, expect, test } from "vitest";
import { SystemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { SystemTimers } from "../../src/base/timers.ts";
import { BandwidthLimitedBlobs } from "../../src/blob/bandwidth-limited-blobs.ts";
import { BlobError } from "../../src/blob/blob-error.ts";
import type { BlobEntry, BlobStat, BlobStore } from "../../src/blob/blob-store.ts";
import { CountingBlobs } from "../../src/blob/counting-blobs.ts";
import { RetryingBlobs } from "../../src/blob/retrying-blobs.ts";
import { FaultyBlobs } from "../../src/blob/testing/faulty-blobs.ts";
import { entriesOf } from "./blob-contract.ts";

type Call = readonly [method: string, ...args: unknown[]];

const STAT: BlobStat = { bytes: 3, modifiedMs: 4, lockedUntilMs: 5 };
const PAGES: readonly (readonly BlobEntry[])[] = [
  [
    { name: "a", bytes: 1, modifiedMs: 2 },
    { name: "b", bytes: 1, modifiedMs: 2 },
  ],
  [{ name: "c", bytes: 3, modifiedMs: 4 }],
];
const BYTES = Buffer.from("abc");
const TIME_MS = 1_234_567;

/** Notes what it is asked and answers with what nobody else could know. */
class NotingBlobs implements BlobStore {
  readonly description = "noting";
  readonly capabilities = { createOnly: false, objectLock: true };
  readonly calls: Call[] = [];
  failure: BlobError | undefined;

  async put(...args: Parameters<BlobStore["put"]>): Promise<void> {
    this.#note("put", args);
  }
  async get(...args: Parameters<BlobStore["get"]>): Promise<Buffer> {
    this.#note("get", args);
    return BYTES;
  }
  async stat(...args: Parameters<BlobStore["stat"]>): Promise<BlobStat> {
    this.#note("stat", args);
    return STAT;
  }
  async *list(...args: Parameters<BlobStore["list"]>): AsyncGenerator<readonly BlobEntry[]> {
    this.#note("list", args);
    yield* PAGES;
  }
  async delete(...args: Parameters<BlobStore["delete"]>): Promise<void> {
    this.#note("delete", args);
  }
  async extendLock(...args: Parameters<BlobStore["extendLock"]>): Promise<void> {
    this.#note("extendLock", args);
  }
  async timeMs(...args: Parameters<BlobStore["timeMs"]>): Promise<number> {
    this.#note("timeMs", args);
    return TIME_MS;
  }
  async close(): Promise<void> {
    this.#note("close", []);
  }

  #note(method: string, args: readonly unknown[]): void {
    this.calls.push([method, ...args]);
    if (this.failure !== undefined) throw this.failure;
  }
}

const clock = new SystemClock();
const timers = new SystemTimers();
const random = (): number => 0;

const WRAPPERS: readonly [string, (inner: BlobStore) => BlobStore][] = [
  ["RetryingBlobs", (inner) => new RetryingBlobs(inner, { timers, random, log: silentLog, attemptsMax: 1 })],
  [
    "BandwidthLimitedBlobs",
    (inner) =>
      new BandwidthLimitedBlobs(inner, { clock, timers, uploadBytesPerSecond: 1e6, downloadBytesPerSecond: 1e6 }),
  ],
  ["BandwidthLimitedBlobs without limits", (inner) => new BandwidthLimitedBlobs(inner, { clock, timers })],
  ["CountingBlobs", (inner) => new CountingBlobs(inner)],
  ["FaultyBlobs", (inner) => new FaultyBlobs(inner)],
];

describe.each(WRAPPERS)("%s", (_name, wrap) => {
  const { signal } = new AbortController();

  test("hands every call on as it is, and its answer back", async () => {
    const inner = new NotingBlobs();
    const outer = wrap(inner);
    const body = [Buffer.from("x"), Buffer.from("y")];
    const options = { put: { lockUntilMs: 7, signal }, get: { from: 1, length: 2, bytesMax: 3, signal } };

    await outer.put("a", body, options.put);
    expect(await outer.get("a", options.get)).toBe(BYTES);
    expect(await outer.stat("a", { signal })).toEqual(STAT);
    expect(await entriesOf(outer.list("p", { after: "q", signal }))).toEqual(PAGES.flat());
    await outer.delete(["a", "b"], { signal });
    await outer.extendLock("a", 99, { signal });
    expect(await outer.timeMs({ signal })).toBe(TIME_MS);
    await outer.close();

    expect(inner.calls).toEqual([
      ["put", "a", body, options.put],
      ["get", "a", options.get],
      ["stat", "a", { signal }],
      ["list", "p", { after: "q", signal }],
      ["delete", ["a", "b"], { signal }],
      ["extendLock", "a", 99, { signal }],
      ["timeMs", { signal }],
      ["close"],
    ]);
    expect(inner.calls[0]?.[2]).toBe(body);
  });

  test("has the description and the capabilities of what it wraps, also when they change", () => {
    const inner = new NotingBlobs();
    const outer = wrap(inner);
    expect(outer.description).toBe("noting");
    expect(outer.capabilities).toEqual({ createOnly: false, objectLock: true });
    Object.assign(inner, { capabilities: { createOnly: true, objectLock: false } });
    expect(outer.capabilities).toEqual({ createOnly: true, objectLock: false });
  });

  test("hands errors back as they are", async () => {
    const inner = new NotingBlobs();
    const outer = wrap(inner);
    const failure = new BlobError("BLOB_UNREACHABLE", "away");
    inner.failure = failure;
    const calls: readonly (() => Promise<unknown>)[] = [
      () => outer.put("a", []),
      () => outer.get("a"),
      () => outer.get("a", { length: 1 }),
      () => outer.stat("a"),
      () => entriesOf(outer.list("")),
      () => outer.delete(["a"]),
      () => outer.extendLock("a", 1),
      () => outer.timeMs(),
    ];
    for (const call of calls) await expect(call()).rejects.toBe(failure);
  });

  test("lets go of a listing that its reader leaves", async () => {
    const inner = new NotingBlobs();
    for await (const page of wrap(inner).list("")) {
      expect(page).toEqual(PAGES[0]);
      break;
    }
    expect(inner.calls).toHaveLength(1);
  });
});
