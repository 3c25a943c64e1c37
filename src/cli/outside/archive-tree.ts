import {
  closeSync,
  constants,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { assert } from "../../base/assert.ts";
import type { ExportItem } from "../../domain/admin-reading.ts";
import { isDirectory, isRegular, isSymlink } from "../../domain/inode.ts";
import { type AttributeContext, applyAttributes, type ExportEntry } from "./file-attributes.ts";
import {
  closeFolder,
  type Folder,
  InTheWayError,
  inFolder,
  itself,
  namesOf,
  openFolder,
  timesOf,
} from "./folder-walk.ts";
import { reasonOf } from "./shortfalls.ts";

/** Larger files can't be written with Node.js's file calls, which take positions as safe numbers. */
const SIZE_MAX = BigInt(Number.MAX_SAFE_INTEGER);

/**
 * Directories that are remembered as finished, so that what an archive puts in there later leaves their times alone: about 100 bytes each. Archives come back to a directory when they
 * were appended to, or list files by another order. Of directories beyond, times are those of the last file put in.
 */
const FINISHED_MAX = 200_000;

/** An open directory on the way to the last entry, and what is to be done when it is left. */
type Level = {
  readonly folder: Folder;
  /** The archive's entry for it; its attributes are set last, as its contents change its times and may not be written under its mode. */
  entry?: ExportEntry;
  /** It was finished before: these are its times. */
  readonly times?: ReturnType<typeof timesOf>;
};

type OpenFile = {
  readonly fd: number;
  readonly folder: Folder;
  readonly at: Buffer;
  readonly entry: ExportEntry;
  failed: boolean;
};

/**
 * Makes files out of the items of an archive, which nobody vouches for (readTar has checked the names), below an open directory.
 *
 * 1. Nothing outside of that directory is touched: each name is used in the open directory that it lies in, which was reached from the root through directories alone, and never followed.
 *    A name that would lead through a symbolic link ends the import (TarError).
 * 2. What an entry finds under its name is replaced, but a directory only by a directory, or if it is empty.
 * 3. What fails otherwise is a shortfall of that entry; the rest goes on.
 */
export class ArchiveTree {
  readonly fileCounts = { files: 0, directories: 0, others: 0, links: 0 };
  #contentBytes = 0n;
  readonly #context: AttributeContext;
  /** The root first. */
  readonly #levels: Level[];
  readonly #finished = new Set<string>();
  #file: OpenFile | undefined;

  constructor(context: AttributeContext, root: Folder) {
    this.#context = context;
    this.#levels = [{ folder: root }];
  }

  /** Bytes of content written so far. */
  get contentBytes(): bigint {
    return this.#contentBytes;
  }

  /** Takes the next item. Throws TarError where nothing more may be unpacked. */
  accept(item: ExportItem): void {
    if (item.kind === "entry") this.#acceptEntry(item);
    else if (item.kind === "data") this.#acceptData(item);
    else if (item.kind === "end") this.#acceptEnd();
  }

  /** After the last item: finishes the directories. Does not close the root. */
  finish(): void {
    this.#leaveUpTo(1);
    const [root] = this.#levels;
    if (root !== undefined) this.#finishLevel(root);
  }

  /** When the archive broke: the file that is not whole goes; directories get the attributes that are known. */
  abandon(): void {
    const file = this.#file;
    this.#file = undefined;
    if (file !== undefined) {
      closeSync(file.fd);
      this.#context.shortfalls.attempt(file.entry.path, "file", () => unlinkSync(file.at));
      this.fileCounts.files -= 1;
    }
    this.finish();
  }

  #acceptEntry(entry: ExportEntry): void {
    assert(this.#file === undefined, "an entry inside of a file's content");
    const names = namesOf(entry.path);
    const name = names.pop();
    const { shortfalls } = this.#context;
    if (name === undefined) {
      const [root] = this.#levels;
      if (root !== undefined) root.entry = entry;
      this.fileCounts.directories += 1;
      return;
    }
    try {
      const parent = this.#enter(names);
      if (isDirectory(entry.attributes.mode)) this.#makeDirectory(parent, name, entry);
      else this.#make(parent, name, entry);
    } catch (error) {
      if (!isExpected(error)) throw error;
      shortfalls.add({ path: entry.path, part: "file", reason: reasonOf(error) });
    }
  }

  /** Makes the directories on the way the levels, leaving those that are not. */
  #enter(names: readonly Buffer[]): Folder {
    let depth = 1;
    const isOpen = (name: Buffer): boolean => {
      const level = this.#levels[depth];
      return level !== undefined && lastName(level.folder.path).equals(name);
    };
    for (const name of names) {
      if (!isOpen(name)) break;
      depth += 1;
    }
    this.#leaveUpTo(depth);
    for (const name of names.slice(depth - 1)) {
      const folder = openFolder(this.#top(), name, { make: true });
      const times = this.#finished.has(keyOf(folder.path)) ? { times: timesOf(folder) } : {};
      this.#levels.push({ folder, ...times });
    }
    return this.#top();
  }

  #top(): Folder {
    const level = this.#levels.at(-1);
    assert(level !== undefined, "the root is always open");
    return level.folder;
  }

  #makeDirectory(parent: Folder, name: Buffer, entry: ExportEntry): void {
    const at = inFolder(parent, name);
    const there = lstatSync(at, { throwIfNoEntry: false });
    if (there !== undefined && !there.isDirectory()) unlinkSync(at);
    if (there?.isDirectory() !== true) mkdirSync(at, { mode: 0o700 });
    this.#levels.push({ folder: openFolder(parent, name, { make: false }), entry });
    this.fileCounts.directories += 1;
  }

  #make(parent: Folder, name: Buffer, entry: ExportEntry): void {
    const { mode, rdev } = entry.attributes;
    const at = inFolder(parent, name);
    if (entry.linkedTo !== undefined) {
      this.#link(entry.linkedTo, at);
      return;
    }
    clearTheWay(at);
    if (isRegular(mode)) {
      this.#makeFile(parent, at, entry);
      return;
    }
    if (isSymlink(mode)) symlinkSync(entry.target, at);
    else this.#context.native.makeNode(at, { mode: mode & ~0o7777, rdev });
    this.fileCounts.others += 1;
    applyAttributes(this.#context, at, entry);
  }

  #makeFile(folder: Folder, at: Buffer, entry: ExportEntry): void {
    const { size } = entry.attributes;
    if (size > SIZE_MAX) throw new InTheWayError(`it has ${size} bytes, more than ${SIZE_MAX}`);
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    const fd = openSync(at, flags, 0o600);
    this.fileCounts.files += 1;
    this.#file = { fd, folder, at, entry, failed: false };
  }

  /** A further name of a file in the tree. The way to the first one is walked like every other. */
  #link(first: Buffer, at: Buffer): void {
    const names = namesOf(first);
    const name = names.pop();
    assert(name !== undefined, "a link to the root");
    const [root] = this.#levels;
    assert(root !== undefined, "the root is always open");
    let folder = root.folder;
    try {
      for (const each of names) {
        const next = openFolder(folder, each, { make: false });
        if (folder !== root.folder) closeFolder(folder);
        folder = next;
      }
      const from = inFolder(folder, name);
      if (isSameFile(from, at)) return;
      clearTheWay(at);
      linkSync(from, at);
      this.fileCounts.links += 1;
    } finally {
      if (folder !== root.folder) closeFolder(folder);
    }
  }

  #acceptData({ offset, bytes }: Extract<ExportItem, { kind: "data" }>): void {
    const file = this.#file;
    if (file === undefined || file.failed) return;
    try {
      for (let done = 0; done < bytes.length; ) {
        done += writeSync(file.fd, bytes, done, bytes.length - done, Number(offset) + done);
      }
      this.#contentBytes += BigInt(bytes.length);
    } catch (error) {
      if (!isExpected(error)) throw error;
      file.failed = true;
      this.#context.shortfalls.add({ path: file.entry.path, part: "content", reason: reasonOf(error) });
    }
  }

  /** A hole at the end needs the size set; then the attributes, by name, as a descriptor has no way for all of them. */
  #acceptEnd(): void {
    const file = this.#file;
    this.#file = undefined;
    if (file === undefined) return;
    const { entry, fd, at } = file;
    try {
      this.#context.shortfalls.attempt(entry.path, "content", () => ftruncateSync(fd, Number(entry.attributes.size)));
    } finally {
      closeSync(fd);
    }
    applyAttributes(this.#context, at, entry);
  }

  #leaveUpTo(depth: number): void {
    while (this.#levels.length > depth) {
      const level = this.#levels.pop();
      if (level === undefined) return;
      this.#finishLevel(level);
      closeFolder(level.folder);
    }
  }

  #finishLevel({ folder, entry, times }: Level): void {
    const { native, shortfalls } = this.#context;
    if (entry !== undefined) {
      applyAttributes(this.#context, itself(folder), entry);
      if (this.#finished.size < FINISHED_MAX) this.#finished.add(keyOf(folder.path));
    } else if (times !== undefined) {
      shortfalls.attempt(folder.path, "times", () => native.setTimes(itself(folder), times));
    }
  }
}

/** Keeps 2. */
function clearTheWay(at: Buffer): void {
  const there = lstatSync(at, { throwIfNoEntry: false });
  if (there === undefined) return;
  if (there.isDirectory()) rmdirSync(at);
  else unlinkSync(at);
}

function isSameFile(left: Buffer, right: Buffer): boolean {
  const one = lstatSync(left, { bigint: true, throwIfNoEntry: false });
  const other = lstatSync(right, { bigint: true, throwIfNoEntry: false });
  return one !== undefined && other !== undefined && one.dev === other.dev && one.ino === other.ino;
}

/** Failures of the system, and of what stands in the way: not ours, and not the archive's refusal. */
function isExpected(error: unknown): boolean {
  if (error instanceof InTheWayError) return true;
  if (!(error instanceof Error) || !("code" in error)) return false;
  // Without descriptors or space nothing that follows would go better.
  return typeof error.code === "string" && /^E[A-Z0-9]+$/.test(error.code) && !FATAL.includes(error.code);
}

const FATAL: readonly string[] = ["EMFILE", "ENFILE", "ENOSPC", "EDQUOT", "ENOTCONN"];

function lastName(path: Buffer): Buffer {
  return path.subarray(path.lastIndexOf(0x2f) + 1);
}

function keyOf(path: Buffer): string {
  return path.toString("latin1");
}
