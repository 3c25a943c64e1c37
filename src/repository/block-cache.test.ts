import { expect, test } from "vitest";
import { BlockCache } from "./block-cache.ts";

test("what was used longest ago goes first", () => {
  const cache = new BlockCache(30);
  for (const key of ["a", "b", "c"]) cache.set(key, Buffer.alloc(10));
  cache.get("a");
  cache.set("d", Buffer.alloc(10));
  expect(["a", "b", "c", "d"].map((key) => cache.get(key) !== undefined)).toEqual([true, false, true, true]);
});

test("never holds more than it may, also when a block is set again or is too long by itself", () => {
  const cache = new BlockCache(30);
  cache.set("a", Buffer.alloc(10));
  cache.set("a", Buffer.alloc(25));
  expect(cache.bytes).toBe(25);
  cache.set("b", Buffer.alloc(10));
  expect([cache.bytes, cache.get("a")]).toEqual([10, undefined]);
  cache.set("c", Buffer.alloc(31));
  expect([cache.bytes, cache.get("b"), cache.get("c")]).toEqual([0, undefined, undefined]);
});
