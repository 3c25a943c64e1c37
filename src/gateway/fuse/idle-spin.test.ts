import { expect, test } from "vitest";
import { IdleSpin } from "./idle-spin.ts";

test("who asks rarely is not asked for: after a few misses it sleeps at once", () => {
  const spin = new IdleSpin();
  for (let count = 0; count < 5; count++) spin.missed(2, false);
  expect(spin.ms).toBe(0);
});

test("a request soon after sleeping began makes it ask again", () => {
  const spin = new IdleSpin();
  for (let count = 0; count < 5; count++) spin.missed(2, false);
  spin.missed(0.05, true);
  expect(spin.ms).toBeGreaterThan(0);
});

test("it never asks longer than its bound, however often that works", () => {
  const spin = new IdleSpin();
  for (let count = 0; count < 50; count++) spin.caught();
  const bound = spin.ms;
  spin.caught();
  spin.missed(0.01, true);
  expect(spin.ms).toBe(bound);
  expect(bound).toBeLessThan(0.1);
});

test("a request long after is no reason to ask longer", () => {
  const spin = new IdleSpin();
  const before = spin.ms;
  spin.missed(1.5, true);
  expect(spin.ms).toBeLessThan(before);
});
