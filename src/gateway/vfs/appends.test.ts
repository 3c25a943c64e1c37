import { expect, test } from "vitest";
import type { InodeId } from "../../domain/ids.ts";
import { Appends } from "./appends.ts";

const INO = 7 as InodeId;

test("a file that only its own mount changes is never in doubt", () => {
  expect(new Appends({ resumed: false }).isDoubtful(INO)).toBe(false);
});

test("a file that was changed elsewhere is in doubt, others are not", () => {
  const appends = new Appends({ resumed: false });
  appends.changedElsewhere(INO);
  expect([INO, 8 as InodeId].map((ino) => appends.isDoubtful(ino))).toEqual([true, false]);
});

test("a mount that went on from a former process doubts every file", () => {
  expect(new Appends({ resumed: true }).isDoubtful(INO)).toBe(true);
});

test("memory of changed files is bounded: the oldest is given up", () => {
  const appends = new Appends({ resumed: false });
  for (let ino = 1; ino <= 65_537; ino++) appends.changedElsewhere(ino as InodeId);
  expect([1, 2, 65_537].map((ino) => appends.isDoubtful(ino as InodeId))).toEqual([false, true, true]);
});
