import { expect, test } from "vitest";
import { Random } from "../../../test/model/random.ts";
import { INODE_ID_MAX, type InodeId } from "../../domain/ids.ts";
import { InodeSet } from "./inode-set.ts";

const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 32));

test("has what was added, ascending, each once, up to the largest number", () => {
  console.log(`SEED=${SEED}`);
  const random = new Random(SEED);
  const set = new InodeSet();
  const expected = new Set<number>([1, 31, 32, 1023, 1024, INODE_ID_MAX]);
  for (let count = 0; count < 20_000; count++)
    expected.add(1 + (random.oneIn(2) ? random.below(5000) : random.u32() * 200 + random.below(200)));
  for (const ino of expected) set.add(ino as InodeId);
  for (const ino of expected) set.add(ino as InodeId);
  expect([...set.values()]).toEqual([...expected].sort((left, right) => left - right));
  for (let count = 0; count < 5000; count++) {
    const ino = (1 + random.below(6000)) as InodeId;
    expect(set.has(ino)).toBe(expected.has(ino));
  }
});

test("is bounded by how widely the numbers are scattered, not by their count", () => {
  const set = new InodeSet(10);
  for (let ino = 1; ino < 10 * 1024; ino++) set.add(ino as InodeId);
  expect(() => set.add((10 * 1024) as InodeId)).toThrow("too many files");
  expect([...set.values()]).toHaveLength(10 * 1024 - 1);
});
