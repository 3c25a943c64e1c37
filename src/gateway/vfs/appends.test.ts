import { expect, test } from "vitest";
import type { InodeId } from "../../domain/ids.ts";
import { Appends } from "./appends.ts";

const INO = 7 as InodeId;

test("a file that only its own mount changes is never in doubt", () => {
  expect(new Appends({ resumed: false }).isDoubtful(INO)).toBe(false);
});

test("after a change elsewhere appends go to the end of the file, until kernel and file agree", () => {
  const appends = new Appends({ resumed: false });
  appends.changedElsewhere(INO);
  expect(appends.isDoubtful(INO)).toBe(true);
  expect(appends.offsetOf(INO, 10n, 25n)).toBe(25n);
  expect(appends.offsetOf(INO, 90n, 25n)).toBe(25n);
  expect(appends.isDoubtful(INO)).toBe(true);
  expect(appends.offsetOf(INO, 25n, 25n)).toBe(25n);
  expect(appends.isDoubtful(INO)).toBe(false);
});

test("a mount that went on from a former process doubts every file", () => {
  const appends = new Appends({ resumed: true });
  expect(appends.isDoubtful(INO)).toBe(true);
  expect(appends.offsetOf(INO, 25n, 25n)).toBe(25n);
  expect(appends.isDoubtful(INO)).toBe(true);
});

test("memory of changed files is bounded: the oldest is given up", () => {
  const appends = new Appends({ resumed: false });
  for (let ino = 1; ino <= 65_537; ino++) appends.changedElsewhere(ino as InodeId);
  expect([1, 2, 65_537].map((ino) => appends.isDoubtful(ino as InodeId))).toEqual([false, true, true]);
});
