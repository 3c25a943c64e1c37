import { expect, test } from "vitest";
import { MemoryLog } from "../base/log.ts";
import { ManualTimers } from "../base/timers.ts";
import { delayAfter } from "./backoff.ts";
import { BlobError } from "./blob-error.ts";
import { CountingBlobs } from "./counting-blobs.ts";
import { RetryingBlobs } from "./retrying-blobs.ts";
import { type BlobFault, FaultyBlobs } from "./testing/faulty-blobs.ts";
import { MemoryBlobs } from "./testing/memory-blobs.ts";

/** A store that fails as told below one that retries, with timers that end at once, as they come. */
function setUp(faults: readonly BlobFault[], options: { attemptsMax?: number; timers?: ManualTimers } = {}) {
  const memory = new MemoryBlobs();
  const faulty = new FaultyBlobs(memory, faults);
  const counting = new CountingBlobs(faulty);
  const log = new MemoryLog();
  const delays: number[] = [];
  const eager = {
    after: () => () => {},
    wait: async (delayMs: number) => {
      delays.push(delayMs);
    },
  };
  const { attemptsMax = 4 } = options;
  const blobs = new RetryingBlobs(counting, { timers: options.timers ?? eager, random: () => 1, log, attemptsMax });
  return { memory, faulty, blobs, counters: counting.counters, delays, log };
}

const fail = (operation: BlobFault["operation"], times = 1): BlobFault => ({
  operation,
  times,
  effect: { kind: "fail" },
});
const body = (text: string): Buffer[] => [Buffer.from(text)];

test("what may pass is tried again, with waits that double, and then succeeds", async () => {
  const { blobs, counters, delays } = setUp([fail("put", 3)]);
  await blobs.put("a", body("x"));
  expect(String(await blobs.get("a"))).toBe("x");
  expect(counters.puts).toBe(4);
  expect(delays).toEqual([250, 500, 1000]);
});

test("it gives up after the last attempt, with the store's own error, and says what it does meanwhile", async () => {
  const { blobs, counters, log } = setUp([fail("get", 9)]);
  await expect(blobs.get("a")).rejects.toMatchObject({ code: "BLOB_UNREACHABLE" });
  expect(counters.gets).toBe(4);
  expect(log.at("debug").map(({ fields }) => fields["attempt"])).toEqual([1, 2, 3]);
});

test("what is final is not tried again", async () => {
  const denied = new BlobError("BLOB_DENIED", "no");
  const { blobs, counters } = setUp([{ operation: "put", effect: { kind: "fail", error: denied } }]);
  await expect(blobs.put("a", body("x"))).rejects.toBe(denied);
  expect(counters.puts).toBe(1);
  await expect(blobs.get("a")).rejects.toMatchObject({ code: "BLOB_MISSING" });
  expect(counters.gets).toBe(1);
});

test("every kind of call is tried again", async () => {
  const { blobs, memory } = setUp([fail("stat"), fail("delete"), fail("extendLock"), fail("timeMs"), fail("list")]);
  await memory.put("a", body("x"));
  await memory.put("b", body("x"));
  expect((await blobs.stat("a"))?.bytes).toBe(1);
  await blobs.delete(["a"]);
  await blobs.extendLock("b", 5);
  expect((await memory.stat("b"))?.lockedUntilMs).toBe(5);
  expect(await blobs.timeMs()).toBeGreaterThan(0);
  const names: string[] = [];
  for await (const page of blobs.list("")) names.push(...page.map(({ name }) => name));
  expect(names).toEqual(["b"]);
});

test("a put whose answer was lost succeeds when its bytes are there", async () => {
  const { blobs, memory, counters } = setUp([{ operation: "put", effect: { kind: "lose-answer" } }]);
  await blobs.put("epochs/1", [Buffer.from("wri"), Buffer.from("ter 1")]);
  expect(String(await memory.get("epochs/1"))).toBe("writer 1");
  expect(counters.puts).toBe(2);
});

test("a put that failed and finds other bytes was another's: BLOB_EXISTS", async () => {
  for (const theirs of ["writer 2", "writer 10"]) {
    const { blobs, memory } = setUp([fail("put")]);
    await memory.put("epochs/1", body(theirs));
    await expect(blobs.put("epochs/1", body("writer 1"))).rejects.toMatchObject({ code: "BLOB_EXISTS" });
    expect(String(await memory.get("epochs/1"))).toBe(theirs);
  }
});

test("a put that finds its name taken at once is BLOB_EXISTS, even by the same bytes", async () => {
  const { blobs, memory } = setUp([]);
  await memory.put("a", body("x"));
  await expect(blobs.put("a", body("x"))).rejects.toMatchObject({ code: "BLOB_EXISTS" });
});

test("a comparison that fails on its way is tried again too", async () => {
  const { blobs, counters } = setUp([
    { operation: "put", effect: { kind: "lose-answer" } },
    fail("get"),
    { operation: "stat", effect: { kind: "fail" } },
  ]);
  await blobs.put("a", body("x"));
  expect(counters.puts).toBe(4);
});

test("a listing goes on behind the last name it gave, and names each blob once", async () => {
  const { blobs, memory } = setUp([
    { operation: "list-page", nth: 2, times: 2, effect: { kind: "fail" } },
    { operation: "list-page", nth: 5, effect: { kind: "fail" } },
  ]);
  const expected = Array.from({ length: 350 }, (_, index) => `n/${String(index).padStart(4, "0")}`);
  for (const name of expected) await memory.put(name, body(name));
  const names: string[] = [];
  for await (const page of blobs.list("n/", { after: "n/0009" })) names.push(...page.map(({ name }) => name));
  expect(names).toEqual(expected.slice(10));
});

test("a listing that fails for good half-way throws", async () => {
  const { blobs, memory } = setUp([{ operation: "list-page", nth: 2, times: 4, effect: { kind: "fail" } }]);
  for (let index = 0; index < 250; index += 1) await memory.put(`n/${index}`, body("x"));
  const pages = blobs.list("n/");
  expect((await pages.next()).done).toBe(false);
  await expect(pages.next()).rejects.toMatchObject({ code: "BLOB_UNREACHABLE" });
});

test("a caller, or close, ends the waiting at once", async () => {
  const timers = new ManualTimers();
  const { blobs } = setUp([fail("get", 9), fail("put", 9)], { timers });
  const controller = new AbortController();
  const getting = blobs.get("a", { signal: controller.signal });
  const putting = blobs.put("a", body("x"));
  controller.abort();
  await expect(getting).rejects.toMatchObject({ code: "BLOB_ABORTED" });
  await blobs.close();
  await expect(putting).rejects.toMatchObject({ code: "BLOB_ABORTED" });
});

test("delays stay between a quarter and the whole of their span, and below the bound", () => {
  const of = (attempt: number, random: number): number => delayAfter(attempt, { random: () => random });
  expect([1, 2, 3, 4].map((attempt) => of(attempt, 0))).toEqual([63, 125, 250, 500]);
  expect(of(1, 0.999)).toBeLessThanOrEqual(250);
  expect(of(40, 1)).toBe(20_000);
});
