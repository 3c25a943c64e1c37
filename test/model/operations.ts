import type { Timestamp } from "../../src/base/clock.ts";

/**
 * The alphabet of the model test, as plain values that survive JSON: one step is one line of a replay file. Inodes are named by slot, so that
 * a sequence still means something when steps are taken out of it; slot 0 is the root. Names are bytes as latin1 text, `x*255` standing
 * for 255 times x. 64-bit numbers are decimal text. `moment`: -1 is now, else an index into the moments the run has kept, modulo their count.
 */
export type Slot = number;

/**
 * Slots below DIRECTORY_SLOTS hold directories, those from there to SPECIAL_SLOTS regular files, the rest what is neither: an inode that
 * does not fit is not put in. Few of each, so that steps meet the same inodes again and again. An empty slot stands for a filled one of its kind.
 */
export const DIRECTORY_SLOTS = 6;
export const SPECIAL_SLOTS = 16;
export const SLOTS = 20;

/** Bytes: given, or made from a seed. */
export type Bytes = { readonly hex: string } | { readonly length: number; readonly seed: number };

type Place = { readonly dir: Slot; readonly name: string };
type Target = { readonly ino: Slot };
type Read = { readonly moment: number };

/** `SetAttributes` in JSON. */
export type SetText = {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: string;
  readonly atime?: Timestamp | "now";
  readonly mtime?: Timestamp | "now";
  readonly ctime?: Timestamp;
  readonly killPrivileges?: boolean;
};

export type Operation =
  | ({ readonly op: "lookup"; readonly into: Slot } & Place & Read)
  | ({ readonly op: "getattr" } & Target & Read)
  | ({ readonly op: "readlink" } & Target & Read)
  | ({ readonly op: "listxattr" } & Target & Read)
  | ({ readonly op: "getxattr"; readonly name: string } & Target & Read)
  | ({ readonly op: "read"; readonly offset: string; readonly length: number } & Target & Read)
  | ({ readonly op: "lseek"; readonly offset: string; readonly whence: "data" | "hole" } & Target & Read)
  | ({
      readonly op: "mknod";
      readonly mode: number;
      readonly umask: number;
      readonly rdev: number;
      readonly into: Slot;
    } & Place)
  | ({
      readonly op: "create";
      readonly mode: number;
      readonly umask: number;
      readonly exclusive: boolean;
      readonly truncate: boolean;
      readonly into: Slot;
    } & Place)
  | ({ readonly op: "mkdir"; readonly mode: number; readonly umask: number; readonly into: Slot } & Place)
  | ({ readonly op: "symlink"; readonly target: Bytes; readonly into: Slot } & Place)
  | ({ readonly op: "link" } & Target & Place)
  | { readonly op: "tmpfile"; readonly dir: Slot; readonly mode: number; readonly umask: number; readonly into: Slot }
  | ({ readonly op: "unlink" } & Place)
  | ({ readonly op: "rmdir" } & Place)
  | ({ readonly op: "rename"; readonly newDir: Slot; readonly newName: string; readonly flags: number } & Place)
  | ({
      readonly op: "write";
      readonly offset: string;
      readonly data: Bytes;
      readonly killPrivileges: boolean;
      readonly append?: boolean;
    } & Target)
  | ({ readonly op: "setattr"; readonly set: SetText } & Target)
  | ({ readonly op: "fallocate"; readonly mode: number; readonly offset: string; readonly length: string } & Target)
  | {
      readonly op: "copyRange";
      readonly source: Slot;
      readonly sourceOffset: string;
      readonly target: Slot;
      readonly targetOffset: string;
      readonly length: string;
      readonly moment: number;
    }
  | ({
      readonly op: "setxattr";
      readonly name: string;
      readonly value: Bytes;
      readonly flags: number;
      readonly killSgid: boolean;
    } & Target)
  | ({ readonly op: "removexattr"; readonly name: string } & Target)
  | ({ readonly op: "fsync" } & Target)
  | ({ readonly op: "forget" } & Target);

/** What happens between requests. */
export type Event =
  /** Waits for the applier and drops caches. */
  | { readonly op: "settle" }
  /** Ends like kill -9 and opens again. */
  | { readonly op: "reopen" }
  /** Sends the n-th last recorded mutation once more, as a kernel does after a gateway died. */
  | { readonly op: "resend"; readonly back: number }
  /** Compares the whole tree as of `moment`; `seed` chooses page and read sizes. */
  | { readonly op: "check"; readonly moment: number; readonly seed: number };

export type Step = {
  /** Nanoseconds by which the clock moves first; may be negative. */
  readonly clock: number;
  /** The first or the second mount of the share. */
  readonly mount: 0 | 1;
  readonly uid: number;
  readonly gid: number;
  readonly do: Operation | Event;
};

const REPEATED = /^(.)\*(\d+)$/s;

/** The bytes of a name as written in a step. */
export function nameBytes(text: string): Buffer {
  const match = REPEATED.exec(text);
  return Buffer.from(match === null ? text : (match[1] ?? "").repeat(Number(match[2])), "latin1");
}

export function formatStep(step: Step): string {
  return JSON.stringify(step);
}

/** Reads a replay file: one step a line, empty lines and lines starting with # left out. */
export function parseSteps(text: string): Step[] {
  return text
    .split("\n")
    .filter((line) => line.trim() !== "" && !line.startsWith("#"))
    .map((line) => JSON.parse(line) as Step);
}
