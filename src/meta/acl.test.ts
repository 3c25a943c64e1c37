import { describe, expect, test } from "vitest";
import { type AclEntry, grants } from "./acl.ts";

const [USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER] = [1, 2, 4, 8, 16, 32];
const NOBODY = 2 ** 32 - 1;

function entry(tag: number, permissions: number, id = NOBODY): AclEntry {
  return { tag, permissions, id };
}

describe("whether a file grants access", () => {
  test.each([
    ["the owner by his bits, even if others have more", 0o077, { uid: 10, gids: [20] }, 4, false],
    ["a member of the group by the group's bits", 0o740, { uid: 1, gids: [5, 20] }, 4, true],
    ["a member of the group not by the bits of others", 0o704, { uid: 1, gids: [20] }, 4, false],
    ["others by the last bits", 0o701, { uid: 1, gids: [2] }, 1, true],
    ["nobody more than there is", 0o705, { uid: 1, gids: [2] }, 6, false],
  ])("without a list: %s", (_name, mode, caller, wanted, granted) => {
    expect(grants({ uid: 10, gid: 20, mode }, undefined, caller, wanted)).toBe(granted);
  });

  const list = [
    entry(USER_OBJ, 6),
    entry(USER, 7, 1),
    entry(USER, 0, 2),
    entry(GROUP_OBJ, 1),
    entry(GROUP, 4, 30),
    entry(GROUP, 6, 31),
    entry(MASK, 5),
    entry(OTHER, 4),
  ];

  test.each([
    ["a named user as far as the mask goes", { uid: 1, gids: [9] }, 5, true],
    ["a named user not beyond the mask", { uid: 1, gids: [9] }, 2, false],
    ["a named user without permissions, though others have some", { uid: 2, gids: [9] }, 4, false],
    ["a member of any group that has it all", { uid: 3, gids: [20, 30] }, 4, true],
    ["not what two groups have only together", { uid: 3, gids: [20, 30] }, 5, false],
    ["a member of the owning group by its entry, not by the mask in the mode", { uid: 3, gids: [20] }, 4, false],
    ["a named group not beyond the mask", { uid: 3, gids: [31] }, 6, false],
    ["others without the mask", { uid: 3, gids: [9] }, 4, true],
    ["the owner without the mask", { uid: 10, gids: [9] }, 6, true],
  ])("with a list: %s", (_name, caller, wanted, granted) => {
    expect(grants({ uid: 10, gid: 20, mode: 0o654 }, list, caller, wanted)).toBe(granted);
  });
});
