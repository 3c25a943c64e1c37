import { describe } from "vitest";
import type { OpenHarness } from "../model/harness.ts";
import { attributeBehaviours } from "./metadata-attributes.ts";
import { contentBehaviours } from "./metadata-content.ts";
import { lockWaitBehaviours } from "./metadata-lock-waits.ts";
import { lockBehaviours } from "./metadata-locks.ts";
import { namingBehaviours } from "./metadata-naming.ts";
import { pastBehaviours } from "./metadata-past.ts";
import { readdirBehaviours } from "./metadata-readdir.ts";
import { renameBehaviours } from "./metadata-rename.ts";
import { sessionBehaviours } from "./metadata-session.ts";
import { type Behaviour, behavioursOn } from "./metadata-share.ts";
import { xattrBehaviours } from "./metadata-xattrs.ts";

/**
 * What every MetadataApi does, one small test for each behaviour. Where POSIX leaves a choice, what ext4 on Linux does is meant.
 * `open` opens an empty share; each test opens its own. `manyNames`: size of the tests of large directories and much-changed files, which should
 * go past the implementation's internal page sizes. `except`: what this one does otherwise, which its caller says why.
 */
export function metadataContract(
  name: string,
  open: OpenHarness,
  { manyNames, except = [] }: { readonly manyNames: number; readonly except?: readonly string[] },
): void {
  const all = behavioursOn(open);
  const behaviour: Behaviour = (behaves, act) => {
    if (!except.includes(behaves)) all(behaves, act);
  };
  describe(`${name} keeps the contract of MetadataApi`, () => {
    describe("names", () => namingBehaviours(behaviour));
    describe("rename", () => renameBehaviours(behaviour));
    describe("readdir", () => readdirBehaviours(behaviour, manyNames));
    describe("attributes", () => attributeBehaviours(behaviour));
    describe("extended attributes", () => xattrBehaviours(behaviour));
    describe("content", () => contentBehaviours(behaviour));
    describe("locks", () => lockBehaviours(behaviour));
    describe("waiting for locks", () => lockWaitBehaviours(behaviour));
    describe("the past", () => pastBehaviours(behaviour, manyNames));
    describe("orphans, re-sent requests, invalidation", () => sessionBehaviours(behaviour));
  });
}
