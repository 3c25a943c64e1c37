import { expect, test } from "vitest";
import { RecentResults } from "./recent-results.ts";

const DETAIL = Buffer.alloc(0);

test("the last 4,096 results of a mount are found, whatever other mounts did meanwhile", () => {
  const recent = new RecentResults();
  for (let unique = 2; unique <= 10_000; unique += 2) recent.remember(1, unique, 10, DETAIL);
  for (let unique = 2; unique <= 100_000; unique += 2) recent.remember(2, unique, 10, DETAIL);
  for (let unique = 10_000; unique > 10_000 - 2 * 4096; unique -= 2) expect(recent.find(1, unique)).toBeDefined();
});

test("older results never displace newer ones, and the newest of them are kept", () => {
  const recent = new RecentResults();
  for (let unique = 50_000; unique < 50_010; unique += 2) recent.remember(1, unique, 7, DETAIL);
  for (let unique = 49_998; unique > 0; unique -= 2) recent.rememberOlder(1, unique, 8, DETAIL);
  for (let unique = 50_000; unique < 50_010; unique += 2) expect(recent.find(1, unique)?.op).toBe(7);
  for (let count = 1; count < 4000; count++) expect(recent.find(1, 50_000 - 2 * count)?.op).toBe(8);
});

test("a mount that has ended leaves nothing", () => {
  const recent = new RecentResults();
  recent.remember(1, 2, 10, DETAIL);
  recent.forget(1);
  expect(recent.find(1, 2)).toBeUndefined();
});
