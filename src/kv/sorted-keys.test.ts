import { expect, test } from "vitest";
import { SortedKeys } from "./sorted-keys.ts";

/** 7,000 keys in a scattered order that is the same each time: 7919 and 7000 have no common divisor. */
const scattered = Array.from({ length: 7000 }, (_, index) => `k${String((index * 7919) % 7000).padStart(4, "0")}`);

test("keys come in order, both ways, from any start, over many runs", () => {
  const keys = new SortedKeys();
  for (const key of scattered) keys.add(key);
  const sorted = [...scattered].sort();
  expect(keys.count).toBe(7000);
  expect([...keys.ascending("", true)]).toEqual(sorted);
  expect([...keys.descending(undefined, false)]).toEqual([...sorted].reverse());
  for (let index = 0; index < 7000; index += 61) {
    const start = sorted[index] as string;
    expect(keys.ascending(start, true).next().value).toBe(start);
    expect(keys.ascending(start, false).next().value).toBe(sorted[index + 1]);
    expect(keys.descending(start, true).next().value).toBe(start);
    expect(keys.descending(start, false).next().value).toBe(sorted[index - 1]);
    expect(keys.ascending(`${start}!`, true).next().value).toBe(sorted[index + 1]);
    expect(keys.descending(`${start}!`, true).next().value).toBe(start);
  }
});

test("removed keys are gone, down to the last and up again", () => {
  const keys = new SortedKeys();
  for (const key of scattered) keys.add(key);
  for (const key of scattered.slice(0, 5000)) keys.remove(key);
  expect([...keys.ascending("", true)]).toEqual(scattered.slice(5000).sort());
  for (const key of scattered.slice(5000)) keys.remove(key);
  expect([...keys.ascending("", true)]).toEqual([]);
  expect([...keys.descending(undefined, false)]).toEqual([]);
  expect([...keys.descending("x", true)]).toEqual([]);
  keys.add("a");
  expect([...keys.ascending("", true)]).toEqual(["a"]);
});

test("adding a key twice, or removing one that is absent, is a defect of the caller", () => {
  const keys = new SortedKeys();
  keys.add("a");
  expect(() => keys.add("a")).toThrow("already");
  expect(() => keys.remove("b")).toThrow("not in the set");
});
