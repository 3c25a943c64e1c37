/**
 * Blobs as files of a folder, on a disk or a network file system.
 *
 *   FOLDER/repository.json            a blob `repository.json`: the file holds its bytes and nothing else
 *   FOLDER/apps/1f…/packs/0a/7c…      a blob `apps/1f…/packs/0a/7c…`: parts of a name are folders (0700) and a file (0600)
 *   FOLDER/.partial/<random>          a blob that is being written, or was when its writer died
 *
 * Names of blobs never begin with a dot, so `.partial` is none. What others put beside (`lost+found`, `.snapshots`) is left alone.
 *
 * Invariants:
 *   D1  A file with a blob's name is complete and synced: it is written under `.partial`, fsynced, and only then gets its name, by link(2), which fails if
 *       the name is taken. So B1 and B2. Then the folder is fsynced: B3.
 *   D2  Folders of parts are never removed. So what is known of a folder (that its own name is durable) stays true.
 *   D3  The folder is the one that was opened (same device and inode). A disk that was unmounted is an error, never an empty store, and nothing is
 *       written to what lies beneath its mount point.
 */
import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, link, mkdir, open, readdir, rename, stat, unlink } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import {
  abortedError,
  bodyBytes,
  bytesToRead,
  checkName,
  checkRange,
  checkSignal,
  closedError,
  existsError,
  missingError,
  noLocksError,
} from "./blob-checks.ts";
import { BlobError } from "./blob-error.ts";
import type {
  BlobCallOptions,
  BlobCapabilities,
  BlobEntry,
  BlobGetOptions,
  BlobListOptions,
  BlobPutOptions,
  BlobStat,
  BlobStore,
} from "./blob-store.ts";
import { directoryError, errnoOf } from "./directory-errors.ts";
import { createFile, makeFolder, readExactly, syncFolder, writeAll } from "./directory-files.ts";
import { listDirectory } from "./directory-listing.ts";

const PARTIAL = ".partial";

/** What is in `.partial` and was not written to for this long is a dead writer's: writing a blob takes seconds. */
const LEFTOVER_AGE_MS = 3_600_000;

/** Folders known to be durable: 256 folders of packs for each of some hundred apps. When it is full it begins anew, which costs an fsync each. */
const KNOWN_FOLDERS_MAX = 65_536;

/** Files deleted at the same time: what node's thread pool has. */
const DELETES_AT_ONCE = 4;

export interface DirectoryOptions {
  /** Make the folder if it isn't there. Without: BLOB_BUCKET_MISSING. */
  readonly create: boolean;
}

/** Where the folder was when it was opened (D3). */
type Identity = { readonly dev: bigint; readonly ino: bigint };

/** A blob store in a folder. Several processes may use one at the same time. */
export class DirectoryBlobs implements BlobStore {
  readonly description: string;
  readonly #root: string;
  readonly #identity: Identity;
  readonly #durableFolders = new Set<string>();
  /** Whether the file system has hard links; it is asked by using one. */
  #hasLinks = true;
  #leftoversCleaned = false;
  #closed = false;

  private constructor(root: string, identity: Identity) {
    this.#root = root;
    this.#identity = identity;
    this.description = root;
  }

  /** Opens the store in the folder `path`. Errors: BLOB_BUCKET_MISSING, BLOB_INVALID if it is no folder, BLOB_DENIED. */
  static async open(path: string, options: DirectoryOptions): Promise<DirectoryBlobs> {
    const root = resolve(path);
    try {
      if (options.create) await createRoot(root);
      const found = await stat(root, { bigint: true });
      if (!found.isDirectory()) throw new BlobError("BLOB_INVALID", `${root} is not a folder: expected one`);
      return new DirectoryBlobs(root, { dev: found.dev, ino: found.ino });
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === "ENOENT")
        throw new BlobError("BLOB_BUCKET_MISSING", `${root} is not there: is its disk mounted?`, { cause: error });
      if (errno === "EEXIST" || errno === "ENOTDIR")
        throw new BlobError("BLOB_INVALID", `${root} can't be a folder: a file is in the way`, { cause: error });
      throw directoryError(error, `open the folder ${root}`);
    }
  }

  get capabilities(): BlobCapabilities {
    return { createOnly: this.#hasLinks, objectLock: false };
  }

  async put(name: string, body: readonly Uint8Array[], options: BlobPutOptions = {}): Promise<void> {
    this.#check(name, options);
    bodyBytes(body);
    if (options.lockUntilMs !== undefined) throw noLocksError(this.description);
    const path = this.#pathOf(name);
    await this.#guard(`write "${name}" to ${this.#root}`, async () => {
      await this.#checkRoot();
      // Spares a repeated put of a large blob the writing; link(2) decides.
      if (await isThere(path)) throw existsError(name, this.description);
      const partial = await this.#writePartial(body, options);
      try {
        if (options.signal?.aborted === true) throw abortedError(options.signal);
        await this.#publish(partial, path, name);
        await syncFolder(dirname(path));
      } finally {
        // After a rename it is gone; anything else is found by the next writer's cleaning.
        await unlink(partial).catch(() => {});
      }
    });
  }

  async get(name: string, options: BlobGetOptions = {}): Promise<Buffer> {
    this.#check(name, options);
    checkRange(options);
    const what = { name, where: this.description };
    return this.#guard(`read "${name}" of ${this.#root}`, async () => {
      const handle = await this.#openToRead(name);
      try {
        const found = await handle.stat();
        if (!found.isFile()) throw missingError(name, this.description);
        const length = bytesToRead(found.size, options, what);
        const bytes = await readExactly(handle, options.from ?? 0, length);
        checkSignal(options);
        if (bytes !== undefined) return bytes;
        throw new BlobError("BLOB_DAMAGED", `"${name}" in ${this.description} became shorter while it was read`);
      } finally {
        await handle.close();
      }
    });
  }

  async stat(name: string, options: BlobCallOptions = {}): Promise<BlobStat | undefined> {
    this.#check(name, options);
    return this.#guard(`look for "${name}" in ${this.#root}`, async () => {
      try {
        const found = await stat(this.#pathOf(name));
        return found.isFile() ? { bytes: found.size, modifiedMs: found.mtimeMs } : undefined;
      } catch (error) {
        if (!isAbsence(error)) throw error;
        await this.#checkRoot();
        return undefined;
      }
    });
  }

  async *list(prefix: string, options: BlobListOptions = {}): AsyncGenerator<readonly BlobEntry[]> {
    const doing = `list ${this.#root}`;
    const pages = listDirectory(this.#root, { prefix, after: options.after ?? "" });
    await this.#guard(doing, () => this.#checkRoot());
    for (;;) {
      this.#check(undefined, options);
      const next = await this.#guard(doing, () => pages.next());
      // Before a page is believed, and before the end is: what was read belongs to the folder that was opened (D3, B5).
      await this.#guard(doing, () => this.#checkRoot());
      if (next.done === true) return;
      yield next.value;
    }
  }

  async delete(names: readonly string[], options: BlobCallOptions = {}): Promise<void> {
    for (const name of names) this.#check(name, options);
    await this.#guard(`delete from ${this.#root}`, async () => {
      await this.#checkRoot();
      const folders = new Set<string>();
      for (let at = 0; at < names.length; at += DELETES_AT_ONCE) {
        checkSignal(options);
        const paths = names.slice(at, at + DELETES_AT_ONCE).map((name) => this.#pathOf(name));
        const removed = await Promise.all(paths.map(remove));
        for (const path of removed) if (path !== undefined) folders.add(dirname(path));
      }
      for (const folder of folders) await syncFolder(folder);
    });
  }

  async extendLock(name: string, _untilMs: number, options: BlobCallOptions = {}): Promise<void> {
    this.#check(name, options);
    throw noLocksError(this.description);
  }

  async timeMs(options: BlobCallOptions = {}): Promise<number> {
    this.#check(undefined, options);
    // The time that the file system gives a new file: that of the server, where it is a network file system.
    return this.#guard(`ask ${this.#root} for the time`, async () => {
      await this.#checkRoot();
      const { path, handle } = await this.#createPartial();
      try {
        return Math.floor((await handle.stat()).mtimeMs);
      } finally {
        await handle.close();
        await unlink(path);
      }
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  /** Writes the body to a synced file of its own, or leaves nothing behind. */
  async #writePartial(body: readonly Uint8Array[], options: BlobCallOptions): Promise<string> {
    const { path, handle } = await this.#createPartial();
    try {
      await this.#cleanLeftovers(handle);
      await writeAll(handle, body, options.signal);
      await handle.sync();
    } catch (error) {
      await handle.close().catch(() => {});
      await unlink(path).catch(() => {});
      throw error;
    }
    await handle.close();
    return path;
  }

  async #createPartial(): Promise<{ path: string; handle: FileHandle }> {
    const path = join(this.#root, PARTIAL, randomBytes(16).toString("hex"));
    try {
      return { path, handle: await createFile(path) };
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw error;
      await mkdir(dirname(path), { mode: 0o700 }).catch((reason: unknown) => {
        if (errnoOf(reason) !== "EEXIST") throw reason;
      });
      return { path, handle: await createFile(path) };
    }
  }

  /** Gives the written file its name (D1). */
  async #publish(partial: string, path: string, name: string): Promise<void> {
    await this.#ensureFolder(dirname(path));
    try {
      await this.#linkOrRename(partial, path, name);
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw error;
      // Somebody removed the folder by hand: it is made again, once.
      this.#durableFolders.clear();
      await this.#ensureFolder(dirname(path));
      await this.#linkOrRename(partial, path, name);
    }
  }

  async #linkOrRename(partial: string, path: string, name: string): Promise<void> {
    if (this.#hasLinks) {
      try {
        return await link(partial, path);
      } catch (error) {
        const errno = errnoOf(error);
        // Over NFS the answer of a link that was made can get lost: the count of links tells (open(2), O_EXCL).
        if (errno !== "ENOENT" && (await stat(partial)).nlink > 1) return;
        if (errno === "EEXIST") throw existsError(name, this.description, error);
        // FAT, exFAT and some network and FUSE file systems have no hard links: link(2), EPERM.
        if (errno !== "EPERM" && errno !== "ENOTSUP" && errno !== "EOPNOTSUPP" && errno !== "ENOSYS") throw error;
        this.#hasLinks = false;
      }
    }
    if (await isThere(path)) throw existsError(name, this.description);
    await rename(partial, path);
  }

  /** Makes the folder and those above it, from the top down. */
  async #ensureFolder(folder: string): Promise<void> {
    if (folder === this.#root || this.#durableFolders.has(folder)) return;
    await this.#ensureFolder(dirname(folder));
    await makeFolder(folder);
    if (this.#durableFolders.size >= KNOWN_FOLDERS_MAX) this.#durableFolders.clear();
    this.#durableFolders.add(folder);
  }

  /** Once per store: removes what dead writers left. Compares times of the file system with each other, never with this machine's clock. */
  async #cleanLeftovers(own: FileHandle): Promise<void> {
    if (this.#leftoversCleaned) return;
    this.#leftoversCleaned = true;
    const { mtimeMs: nowMs } = await own.stat();
    const folder = join(this.#root, PARTIAL);
    for (const name of await readdir(folder)) {
      const path = join(folder, name);
      // Another process may be cleaning too; what can't be removed now takes room, nothing more.
      const found = await stat(path).catch(() => undefined);
      if (found?.isFile() === true && nowMs - found.mtimeMs > LEFTOVER_AGE_MS) await unlink(path).catch(() => {});
    }
  }

  async #openToRead(name: string): Promise<FileHandle> {
    try {
      return await open(this.#pathOf(name), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    } catch (error) {
      if (!isAbsence(error)) throw error;
      await this.#checkRoot();
      throw missingError(name, this.description, error);
    }
  }

  #pathOf(name: string): string {
    return join(this.#root, name);
  }

  /** Keeps D3. */
  async #checkRoot(): Promise<void> {
    const found = await stat(this.#root, { bigint: true }).catch((error: unknown) => {
      if (!isAbsence(error)) throw error;
      return undefined;
    });
    if (found?.dev === this.#identity.dev && found.ino === this.#identity.ino) return;
    throw new BlobError(
      "BLOB_BUCKET_MISSING",
      `${this.#root} is no longer the folder that was opened: was its disk unmounted? Mount it again`,
    );
  }

  #check(name: string | undefined, options: BlobCallOptions): void {
    if (this.#closed) throw closedError(this);
    checkSignal(options);
    if (name !== undefined) checkName(name);
  }

  async #guard<T>(doing: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw directoryError(error, doing);
    }
  }
}

/** Makes the folder and those above it, with names that are durable. */
async function createRoot(root: string): Promise<void> {
  const first = await mkdir(root, { recursive: true, mode: 0o700 });
  if (first === undefined) return;
  for (let made = root; made.length >= first.length; made = dirname(made)) await syncFolder(dirname(made));
}

async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (isAbsence(error)) return false;
    throw error;
  }
}

/** Removes a file; answers its path if it was there. A folder of that name is no blob. */
async function remove(path: string): Promise<string | undefined> {
  try {
    await unlink(path);
    return path;
  } catch (error) {
    if (isAbsence(error) || errnoOf(error) === "EISDIR") return undefined;
    throw error;
  }
}

function isAbsence(error: unknown): boolean {
  const errno = errnoOf(error);
  return errno === "ENOENT" || errno === "ENOTDIR";
}
