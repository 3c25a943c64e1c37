import { expect, test } from "vitest";
import { encodeAcl } from "../../meta/acl.ts";
import { aclFromText, aclToText } from "./acl-text.ts";

const NOBODY = 0xffff_ffff;
const LIST = encodeAcl([
  { tag: 0x01, permissions: 7, id: NOBODY },
  { tag: 0x02, permissions: 4, id: 1234 },
  { tag: 0x04, permissions: 5, id: NOBODY },
  { tag: 0x08, permissions: 2, id: 4_000_000_000 },
  { tag: 0x10, permissions: 7, id: NOBODY },
  { tag: 0x20, permissions: 0, id: NOBODY },
]);
const TEXT = "user::rwx\nuser:1234:r--\ngroup::r-x\ngroup:4000000000:-w-\nmask::rwx\nother::---\n";

const IDS = new Map([
  ["user:joe", 1234],
  ["group:staff", 4_000_000_000],
]);
const known = (kind: string, name: string): number | undefined => IDS.get(`${kind}:${name}`);

test("a list becomes text with numbers, and is read back", () => {
  expect(aclToText(LIST)).toBe(TEXT);
  expect(aclFromText(TEXT, () => undefined)).toEqual(LIST);
});

test("the ways of other writers are read: commas, short words, comments, numbers after names, names, any order", () => {
  const texts = [
    "user::rwx,user:joe:r--:1234,group::r-x,group:x:-w-:4000000000,mask::rwx,other::---",
    "o::---\nm::rwx\ng:staff:-w-\t#effective:-w-\ng::r-x\nu:joe:r\nu::rwx",
  ];
  for (const text of texts) expect(aclFromText(text, known)).toEqual(LIST);
});

test("what can't be understood is said", () => {
  expect(aclFromText("user::rwx\nuser:jim:r--\ngroup::r--\nmask::r--\nother::---", known)).toMatch(/no user "jim"/);
  expect(aclFromText("user::rwx", known)).toMatch(/not complete/);
  expect(aclFromText("allow:everyone", known)).toMatch(/no entry/);
  expect(aclToText(Buffer.from("nonsense"))).toBeUndefined();
});
