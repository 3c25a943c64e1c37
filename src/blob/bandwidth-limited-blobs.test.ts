import { expect, test } from "vitest";
import { BandwidthLimitedBlobs } from "./bandwidth-limited-blobs.ts";
import { MemoryBlobs } from "./testing/memory-blobs.ts";

/** Time that passes only in waits. */
class WaitingTime {
  nowMs = 0;
  now = () => ({ sec: Math.floor(this.nowMs / 1000), nsec: 0 });
  monotonicMs = (): number => this.nowMs;
  after = () => () => {};
  wait = async (delayMs: number): Promise<void> => {
    this.nowMs += delayMs;
  };
}

function setUp(limits: { uploadBytesPerSecond?: number; downloadBytesPerSecond?: number }) {
  const time = new WaitingTime();
  const memory = new MemoryBlobs();
  return { time, memory, blobs: new BandwidthLimitedBlobs(memory, { clock: time, timers: time, ...limits }) };
}

test("bodies that go up take the time of their bytes, those that come down are free", async () => {
  const { time, blobs } = setUp({ uploadBytesPerSecond: 1000 });
  for (let index = 0; index < 11; index += 1) await blobs.put(`a/${index}`, [Buffer.alloc(3000)]);
  // 33,000 bytes at 1,000 a second, less the second that was free and the last body, which is owed.
  expect(time.nowMs).toBe(29_000);
  for (let index = 0; index < 11; index += 1) await blobs.get(`a/${index}`);
  expect(time.nowMs).toBe(29_000);
});

test("bodies that come down take the time of their bytes, whole or in part", async () => {
  const { time, memory, blobs } = setUp({ downloadBytesPerSecond: 1000 });
  await memory.put("a", [Buffer.alloc(5000)]);
  await blobs.get("a");
  await blobs.get("a", { from: 100, length: 2000 });
  expect(time.nowMs).toBe(4000);
  await blobs.get("a", { length: 1 });
  expect(time.nowMs).toBe(6000);
});

test("puts at the same time go in the order they came", async () => {
  const { time, blobs } = setUp({ uploadBytesPerSecond: 1000 });
  const ends: [number, number][] = [];
  await Promise.all(
    [1, 2, 3].map(async (index) => {
      await blobs.put(`a/${index}`, [Buffer.alloc(2000)]);
      ends.push([index, time.nowMs]);
    }),
  );
  expect(ends.map(([index]) => index)).toEqual([1, 2, 3]);
  expect(time.nowMs).toBe(3000);
});

test("an unused rate is not saved up beyond a second", async () => {
  const { time, blobs } = setUp({ uploadBytesPerSecond: 1000 });
  time.nowMs = 3_600_000;
  await blobs.put("a", [Buffer.alloc(3000)]);
  await blobs.put("b", [Buffer.alloc(1)]);
  expect(time.nowMs).toBe(3_602_000);
});
