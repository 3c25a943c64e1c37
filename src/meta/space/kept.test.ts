import { expect, test } from "vitest";
import type { Lsn } from "../../domain/ids.ts";
import { Kept } from "./kept.ts";

const kept = new Kept([30, 10, 20, 20] as Lsn[]);

test("the newest kept moment of a span is found, with its first LSN in the span and its end outside", () => {
  expect(kept.newestIn(10, 20)).toBe(10);
  expect(kept.newestIn(10, 21)).toBe(20);
  expect(kept.newestIn(11, 20)).toBeUndefined();
  expect(kept.newestIn(20, 20)).toBeUndefined();
  expect(kept.newestIn(0, 1000)).toBe(30);
  expect(Kept.none.newestIn(0, 1000)).toBeUndefined();
});

test("all kept moments of a span come in order, each once", () => {
  expect(kept.in(10, 30)).toEqual([10, 20]);
  expect(kept.in(0, 1000)).toEqual([10, 20, 30]);
  expect(kept.count).toBe(3);
  expect(kept.has(20)).toBe(true);
  expect(kept.has(21)).toBe(false);
});
