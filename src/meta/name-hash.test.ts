import { expect, test } from "vitest";
import { cookieOf, hashOfCookie, nameHash } from "./name-hash.ts";

test("cookies are positive, beyond the reserved ones, and lead back to the hash", () => {
  for (let number = 0; number < 20_000; number++) {
    const hash = nameHash(Buffer.from(`file-${number}`), 12_345);
    const cookie = cookieOf(hash);
    expect(cookie >= 16n && cookie < 2n ** 63n).toBe(true);
    expect(hashOfCookie(cookie)).toEqual(hash);
  }
});

test("names of one directory do not collide in practice, and the seed changes the order", () => {
  const names = Array.from({ length: 100_000 }, (_, number) => Buffer.from(`n${number}`));
  const cookies = names.map((name) => cookieOf(nameHash(name, 1)));
  expect(new Set(cookies).size).toBe(names.length);
  expect(nameHash(Buffer.from("n1"), 1)).not.toEqual(nameHash(Buffer.from("n1"), 2));
});

test("the hash is what it was when rows were written: changing it would lose every name", () => {
  expect(cookieOf(nameHash(Buffer.from("a.txt"), 0x0123_4567))).toBe(GOLDEN);
});

/** The cookie of "a.txt" under that seed in format version 1. */
const GOLDEN = 9_067_763_139_961_064_586n;
