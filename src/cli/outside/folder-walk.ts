import { closeSync, constants, fstatSync, lstatSync, mkdirSync, openSync } from "node:fs";
import { TarError } from "../../backup/tar/tar-error.ts";
import { textFromBytes } from "../../domain/byte-text.ts";

/** An open directory. */
export type Folder = {
  readonly fd: number;
  /** Relative to the root of the walk; empty for that. */
  readonly path: Buffer;
};

/** What stands in a directory's way. */
export class InTheWayError extends Error {
  override name = "InTheWayError";
}

/** The name `name` in a directory, for every call that takes a path: the directory itself is meant, wherever it is moved and whatever gets its name. */
export function inFolder(folder: Folder, name: Buffer): Buffer {
  return Buffer.concat([folderPath(folder), SLASH, name]);
}

/** The directory itself, for calls that take a path. The "." is needed: what stands last in a path is not followed by those that follow no links. */
export function itself(folder: Folder): Buffer {
  return Buffer.concat([folderPath(folder), Buffer.from("/.")]);
}

/** Opens the directory at an absolute path, which may lead through symbolic links but not end in one. */
export function openRoot(path: string): Folder {
  return { fd: openSync(path, DIRECTORY_FLAGS), path: Buffer.alloc(0) };
}

/**
 * Opens the directory `name` in `parent`; with `make` it is made if it is absent. Never through a symbolic link: throws TarError TAR_REFUSED for one, InTheWayError for another file. Linux resolves /proc/self/fd/N
 * to the open directory itself, so that nobody who moves or replaces directories meanwhile can lead us out (openat, of which Node.js has none).
 */
export function openFolder(parent: Folder, name: Buffer, { make }: { readonly make: boolean }): Folder {
  const path = parent.path.length === 0 ? name : Buffer.concat([parent.path, SLASH, name]);
  const at = inFolder(parent, name);
  try {
    return { fd: openSync(at, DIRECTORY_FLAGS), path };
  } catch (error) {
    const code = codeOf(error);
    if (code === "ENOENT" && make) {
      mkdirSync(at);
      return { fd: openSync(at, DIRECTORY_FLAGS), path };
    }
    if (code !== "ENOTDIR" && code !== "ELOOP") throw error;
    const shown = `"${textFromBytes(path)}"`;
    if (lstatSync(at, { throwIfNoEntry: false })?.isSymbolicLink() === true)
      throw new TarError(
        "TAR_REFUSED",
        `${shown} is a symbolic link: what lies below it would be written to where it leads`,
      );
    throw new InTheWayError(`${shown} is there and no directory`);
  }
}

/** The times of an open directory, to put them back after a change in it. */
export function timesOf(folder: Folder): {
  atime: { sec: number; nsec: number };
  mtime: { sec: number; nsec: number };
} {
  const { atimeNs, mtimeNs } = fstatSync(folder.fd, { bigint: true });
  return { atime: timestampOf(atimeNs), mtime: timestampOf(mtimeNs) };
}

export function closeFolder(folder: Folder): void {
  closeSync(folder.fd);
}

/** The names of a path. */
export function namesOf(path: Buffer): Buffer[] {
  const names: Buffer[] = [];
  for (let at = 0; at < path.length; ) {
    const slash = path.indexOf(0x2f, at);
    const end = slash === -1 ? path.length : slash;
    names.push(path.subarray(at, end));
    at = end + 1;
  }
  return names;
}

function timestampOf(ns: bigint): { sec: number; nsec: number } {
  const nsec = ((ns % BILLION) + BILLION) % BILLION;
  return { sec: Number((ns - nsec) / BILLION), nsec: Number(nsec) };
}

function folderPath({ fd }: Folder): Buffer {
  return Buffer.from(`/proc/self/fd/${fd}`);
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

const DIRECTORY_FLAGS = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
const BILLION = 1_000_000_000n;
const SLASH = Buffer.from("/");
