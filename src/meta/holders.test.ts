import { describe, expect, test } from "vitest";
import type { InodeId, MountId } from "../domain/ids.ts";
import { Holders } from "./holders.ts";

const [FIRST, SECOND] = [1 as MountId, 2 as MountId];
const INO = 5000 as InodeId;

function attached(): Holders {
  const holders = new Holders();
  holders.attach(FIRST, { toldBelow: 0 });
  holders.attach(SECOND, { toldBelow: 0 });
  return holders;
}

describe("who holds an inode", () => {
  test("a mount holds what its kernel was told of, until that was forgotten as often", () => {
    const holders = attached();
    expect(holders.of(INO)).toEqual([]);
    for (let count = 0; count < 3; count++) holders.hold(FIRST, INO);
    holders.release(FIRST, INO, 2);
    expect(holders.of(INO)).toEqual([FIRST]);
    expect(holders.of((INO + 1) as InodeId)).toEqual([]);
    holders.release(FIRST, INO, 1);
    expect(holders.of(INO)).toEqual([]);
  });

  test("a FORGET that crossed the answer to a look-up leaves the inode held", () => {
    const holders = attached();
    holders.hold(FIRST, INO);
    holders.hold(FIRST, INO);
    holders.release(FIRST, INO, 1);
    holders.orphaned(INO, holders.of(INO));
    expect(holders.release(FIRST, INO, 1)).toBe(true);
  });

  test("an orphan is free when the last of its mounts has forgotten it or ended", () => {
    const holders = attached();
    holders.hold(FIRST, INO);
    holders.hold(SECOND, INO);
    holders.orphaned(INO, holders.of(INO));
    expect(holders.release(FIRST, INO, 1)).toBe(false);
    expect(holders.detach(SECOND)).toEqual([INO]);
  });

  test("a mount of a former process may hold everything from then until something is heard, and nothing that came later", () => {
    const holders = new Holders();
    holders.attach(FIRST, { toldBelow: 6000 });
    expect(holders.of(INO)).toEqual([FIRST]);
    expect(holders.of(6000 as InodeId)).toEqual([]);
    holders.hold(FIRST, INO);
    holders.release(FIRST, INO, 7);
    expect(holders.of(INO)).toEqual([]);
    holders.hold(FIRST, INO);
    expect(holders.of(INO)).toEqual([FIRST]);
  });

  test("numbers up to 2^40 are kept apart, and a count that became inexact ends with a full FORGET only", () => {
    const holders = attached();
    const large = (2 ** 40 - 3) as InodeId;
    for (let count = 0; count < 70_000; count++) holders.hold(FIRST, large);
    expect([holders.of(large), holders.of((large - 2 ** 32) as InodeId)]).toEqual([[FIRST], []]);
    holders.release(FIRST, large, 65_000);
    expect(holders.of(large)).toEqual([FIRST]);
    holders.release(FIRST, large, 70_000);
    expect(holders.of(large)).toEqual([]);
  });
});
