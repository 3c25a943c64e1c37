import { expect, test } from "vitest";
import type { InodeId } from "../../domain/ids.ts";
import { RENAME_EXCHANGE } from "../../domain/metadata-api.ts";
import { ContestedDirectories } from "./contested-directories.ts";

const [HERE, THERE] = [5 as InodeId, 6 as InodeId];
const A = Buffer.from("a");
const B = Buffer.from("b");

function open(): { directories: ContestedDirectories; pass: (ms: number) => void } {
  let nowMs = 0;
  const directories = new ContestedDirectories({ now: () => ({ sec: 0, nsec: 0 }), monotonicMs: () => nowMs });
  return {
    directories,
    pass: (ms) => {
      nowMs += ms;
    },
  };
}

const mkdir = { op: "mkdir", parent: HERE, name: A, mode: 0, umask: 0 } as const;

function rename(name: Buffer, newName: Buffer, { parent = HERE, flags = 0 } = {}) {
  return { op: "rename", parent, name, newParent: HERE, newName, flags } as const;
}

test("a directory that only one side changes keeps its names", () => {
  const { directories } = open();
  directories.changedHere(mkdir);
  expect(directories.mayKeep(HERE, A)).toBe(true);
  directories.changedElsewhere(THERE, { isOurs: false });
  directories.changedHere(mkdir);
  expect([directories.mayKeep(HERE, A), directories.mayKeep(THERE, A)]).toEqual([true, true]);
});

test("one that both sides change keeps none, until others have left it alone for a while", () => {
  const { directories, pass } = open();
  directories.changedElsewhere(HERE, { isOurs: false });
  directories.changedHere(mkdir);
  expect(directories.isFresh(HERE, A)).toBe(false);
  expect(directories.mayKeep(HERE, A)).toBe(false);
  expect([directories.isFresh(HERE, A), directories.isFresh(HERE, B)]).toEqual([true, false]);
  pass(3_600_000);
  directories.changedHere(mkdir);
  expect([directories.mayKeep(HERE, A), directories.isFresh(HERE, A)]).toEqual([true, false]);
});

test("a change of ours that is under way counts, too; a listing makes no name fresh", () => {
  const { directories } = open();
  directories.changedElsewhere(HERE, { isOurs: true });
  expect(directories.mayKeep(HERE)).toBe(false);
  expect(directories.isFresh(HERE, A)).toBe(false);
});

test("a rename moves what the kernel knows: a name is as fresh as the one it comes from", () => {
  const { directories } = open();
  directories.changedElsewhere(HERE, { isOurs: true });
  directories.dropped(HERE, A);
  directories.dropped(HERE, B);
  directories.changedHere(rename(A, B));
  expect(directories.isFresh(HERE, B)).toBe(true);
  directories.changedHere(rename(Buffer.from("kept"), B));
  expect(directories.isFresh(HERE, B)).toBe(false);
  directories.changedHere(rename(Buffer.from("x"), A, { parent: THERE }));
  expect(directories.isFresh(HERE, A)).toBe(false);
  directories.dropped(HERE, A);
  directories.changedHere(rename(A, B, { flags: RENAME_EXCHANGE }));
  expect([directories.isFresh(HERE, A), directories.isFresh(HERE, B)]).toEqual([false, false]);
});

test("memory is bounded: the directory with the oldest news is forgotten", () => {
  const { directories } = open();
  directories.changedElsewhere(HERE, { isOurs: true });
  for (let ino = 100; ino < 5000; ino++) directories.changedElsewhere(ino as InodeId, { isOurs: false });
  expect(directories.mayKeep(HERE, A)).toBe(true);
});
