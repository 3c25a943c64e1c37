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
import { ACL_DEFAULT, type AttributeContext, applyAttributes, type FileEntry } from "./file-attributes.ts";
import { reasonOf } from "./shortfalls.ts";

/** Deepest directory: the bytes of a path (PATH_BYTES_MAX) can't hold more names. */
const DEPTH_MAX = 32_768;

/** Larger files can't be written with Node.js's file calls, which take positions as safe numbers. */
const SIZE_MAX = BigInt(Number.MAX_SAFE_INTEGER);

/** `writtenTo`: how far its content goes as far as it is written. */
type OpenFile = { readonly fd: number; readonly entry: FileEntry; writtenTo: number; failed: boolean };

/** `givesAcls`: what is made in it may get an ACL that nobody gave it. */
type OpenDirectory = { readonly path: Buffer; readonly entry: FileEntry; readonly givesAcls: boolean };

/** What is written: an exported tree without what only says what will come. */
export type TreeItem = (FileEntry & { readonly kind: "entry" }) | Extract<ExportItem, { kind: "data" | "end" }>;

/**
 * Makes files out of an exported tree (ExportItem): exact bytes, holes left holes, every attribute, hard links between the files.
 *
 * 1. Nothing outside the target is touched: files are made with O_EXCL and O_NOFOLLOW, and whatever stands in a directory's place
 *    that is none (a symbolic link) is removed first, with `replace`, or fails.
 * 2. A directory gets its attributes when its contents are there: they would change its times, or may not be written under its mode.
 * 3. What fails is a shortfall of that file; the rest goes on. What lies in a directory that could not be made is left out with it.
 */
export class TreeWriter {
  readonly fileCounts = { files: 0, directories: 0, others: 0, links: 0 };
  #contentBytes = 0n;
  readonly #target: Buffer;
  readonly #replace: boolean;
  readonly #context: AttributeContext;
  readonly #directories: OpenDirectory[] = [];
  #file: OpenFile | undefined;
  #skipped: Buffer | undefined;

  constructor(options: AttributeContext & { readonly target: Buffer; readonly replace: boolean }) {
    this.#target = options.target;
    this.#replace = options.replace;
    this.#context = options;
  }

  /** Bytes of content written so far. */
  get contentBytes(): bigint {
    return this.#contentBytes;
  }

  /** Takes the next item of the stream. */
  accept(item: TreeItem): void {
    if (item.kind === "entry") this.#acceptEntry(item);
    else if (item.kind === "data") this.#acceptData(item);
    else this.#acceptEnd(item);
  }

  /** After the last item: finishes the directories. */
  finish(): void {
    this.#leaveDirectories(undefined);
  }

  /** When the stream broke: closes what is open; files stay as far as they are. */
  abandon(): void {
    if (this.#file !== undefined) closeSync(this.#file.fd);
    this.#file = undefined;
  }

  #acceptEntry(entry: FileEntry): void {
    assert(this.#file === undefined, "an entry inside of a file's content");
    this.#leaveDirectories(entry.path);
    if (this.#skipped !== undefined && isBelow(entry.path, this.#skipped)) return;
    this.#skipped = undefined;
    const path = this.#absolute(entry.path);
    const made = this.#context.shortfalls.attempt(entry.path, "file", () => this.#make(entry, path));
    if (!made && isDirectory(entry.attributes.mode)) this.#skipped = entry.path;
  }

  #make(entry: FileEntry, path: Buffer): void {
    const { mode, rdev } = entry.attributes;
    if (isDirectory(mode)) {
      this.#makeDirectory(path, entry);
      return;
    }
    const { linkedTo } = entry;
    if (linkedTo !== undefined) {
      this.#clearing(path, () => linkSync(this.#absolute(linkedTo), path));
      this.fileCounts.links += 1;
    } else if (isRegular(mode)) {
      this.#makeFile(path, entry);
    } else {
      this.#clearing(path, () => {
        if (isSymlink(mode)) symlinkSync(entry.target, path);
        else this.#context.native.makeNode(path, { mode: mode & ~0o7777, rdev });
      });
      this.fileCounts.others += 1;
      applyAttributes(this.#context, path, entry, { inheritsAcls: this.#givesAcls });
    }
  }

  /** Makes what fails where the name is taken; then again when the way is clear. Looking first would cost a call for each file. */
  #clearing<T>(path: Buffer, make: () => T): T {
    try {
      return make();
    } catch (error) {
      if ((error as { code?: unknown }).code !== "EEXIST") throw error;
    }
    this.#clearTheWay(path);
    return make();
  }

  /** Whether what is made where we are may inherit an ACL. What the target itself lies in is not known. */
  get #givesAcls(): boolean {
    return this.#directories.at(-1)?.givesAcls ?? true;
  }

  #makeDirectory(path: Buffer, entry: FileEntry): void {
    assert(this.#directories.length < DEPTH_MAX, "a tree deeper than a path can name");
    let isNew = true;
    try {
      mkdirSync(path, { mode: 0o700 });
    } catch (error) {
      if ((error as { code?: unknown }).code !== "EEXIST") throw error;
      isNew = lstatSync(path, { throwIfNoEntry: false })?.isDirectory() !== true;
      if (isNew) {
        this.#clearTheWay(path);
        mkdirSync(path, { mode: 0o700 });
      }
    }
    this.fileCounts.directories += 1;
    // A new one in a directory that gives none gives none either.
    const givesAcls = (!isNew || this.#givesAcls) && this.#hasDefaultAcl(path);
    this.#directories.push({ path, entry, givesAcls });
  }

  #hasDefaultAcl(path: Buffer): boolean {
    try {
      return this.#context.native.hasXattr(path, ACL_DEFAULT);
    } catch {
      // As it can't be known, what it may have given is taken away.
      return true;
    }
  }

  #makeFile(path: Buffer, entry: FileEntry): void {
    if (entry.attributes.size > SIZE_MAX)
      throw new Error(`it has ${entry.attributes.size} bytes, more than ${SIZE_MAX}`);
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    const fd = this.#clearing(path, () => openSync(path, flags, 0o600));
    this.fileCounts.files += 1;
    const file: OpenFile = { fd, entry, writtenTo: 0, failed: false };
    if (entry.contentFollows) this.#file = file;
    else this.#closeFile(file);
  }

  #acceptData({ offset, bytes }: Extract<ExportItem, { kind: "data" }>): void {
    const file = this.#file;
    if (file === undefined || file.failed) return;
    try {
      for (let done = 0; done < bytes.length; ) {
        done += writeSync(file.fd, bytes, done, bytes.length - done, Number(offset) + done);
      }
      file.writtenTo = Number(offset) + bytes.length;
      this.#contentBytes += BigInt(bytes.length);
    } catch (error) {
      file.failed = true;
      this.#context.shortfalls.add({ path: file.entry.path, part: "content", reason: reasonOf(error) });
    }
  }

  #acceptEnd({ complete, message }: Extract<ExportItem, { kind: "end" }>): void {
    const file = this.#file;
    this.#file = undefined;
    if (file === undefined) return;
    if (!complete) {
      const reason = message ?? "stored data is damaged or missing";
      this.#context.shortfalls.add({ path: file.entry.path, part: "content", reason });
    }
    this.#closeFile(file);
  }

  /** A hole at the end, or content that is missing, needs the size set. */
  #closeFile({ fd, entry, writtenTo }: OpenFile): void {
    const size = Number(entry.attributes.size);
    try {
      if (writtenTo !== size) this.#context.shortfalls.attempt(entry.path, "content", () => ftruncateSync(fd, size));
      applyAttributes(this.#context, fd, entry, { inheritsAcls: this.#givesAcls });
    } finally {
      closeSync(fd);
    }
  }

  /** Keeps 1: what has the name goes, if it may be replaced. A directory only if it is empty. */
  #clearTheWay(path: Buffer): void {
    const there = lstatSync(path, { throwIfNoEntry: false });
    if (there === undefined) return;
    if (!this.#replace) throw new Error("EEXIST: it is there already");
    if (there.isDirectory()) rmdirSync(path);
    else unlinkSync(path);
  }

  /** Finishes the directories that do not contain `path`; all of them without. Keeps 2. */
  #leaveDirectories(path: Buffer | undefined): void {
    for (let last = this.#directories.at(-1); last !== undefined; last = this.#directories.at(-1)) {
      if (path !== undefined && isBelow(path, last.entry.path)) return;
      this.#directories.pop();
      applyAttributes(this.#context, last.path, last.entry);
    }
  }

  #absolute(path: Buffer): Buffer {
    return path.length === 0 ? this.#target : Buffer.concat([this.#target, SLASH, path]);
  }
}

const SLASH = Buffer.from("/");

/** Whether `path` lies below `folder` (not: is it). Both relative to the target; empty is the target itself. */
function isBelow(path: Buffer, folder: Buffer): boolean {
  if (folder.length === 0) return path.length > 0;
  return path.length > folder.length && path[folder.length] === 0x2f && path.subarray(0, folder.length).equals(folder);
}
