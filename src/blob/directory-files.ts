import { constants } from "node:fs";
import { type FileHandle, mkdir, open } from "node:fs/promises";
import { dirname } from "node:path";
import { BlobError } from "./blob-error.ts";
import { errnoOf } from "./directory-errors.ts";

/** Owner only: what is backed up is encrypted, but sizes and times are nobody else's business either. */
const FILE_MODE = 0o600;
const FOLDER_MODE = 0o700;

/** Linux takes 1,024 buffers a call (IOV_MAX). */
const BUFFERS_PER_WRITE = 512;

/** Creates a file that isn't there, to write to. */
export async function createFile(path: string): Promise<FileHandle> {
  return open(path, constants.O_CREAT | constants.O_EXCL | constants.O_WRONLY | constants.O_NOFOLLOW, FILE_MODE);
}

/** Writes all of `body`. Ends early, with an error, when `signal` is given. */
export async function writeAll(handle: FileHandle, body: readonly Uint8Array[], signal?: AbortSignal): Promise<void> {
  for (let at = 0; at < body.length; at += BUFFERS_PER_WRITE) {
    if (signal?.aborted === true) throw new BlobError("BLOB_ABORTED", "The call was ended by its caller");
    const group = body.slice(at, at + BUFFERS_PER_WRITE).filter((part) => part.length > 0);
    const wanted = group.reduce((sum, part) => sum + part.length, 0);
    if (wanted === 0) continue;
    const { bytesWritten } = await handle.writev(group);
    // A short write is rare (a disk that is nearly full, 2 GiB in one call); the next one says why or goes on.
    if (bytesWritten < wanted) await writeRest(handle, Buffer.concat(group).subarray(bytesWritten));
  }
}

async function writeRest(handle: FileHandle, rest: Buffer): Promise<void> {
  for (let at = 0; at < rest.length; ) {
    const { bytesWritten } = await handle.write(rest, at);
    if (bytesWritten === 0) throw new BlobError("BLOB_IO", "A write to a file ended without an error");
    at += bytesWritten;
  }
}

/** Reads exactly `length` bytes from `from`; undefined if the file ends before. */
export async function readExactly(handle: FileHandle, from: number, length: number): Promise<Buffer | undefined> {
  const buffer = Buffer.allocUnsafeSlow(length);
  for (let at = 0; at < length; ) {
    const { bytesRead } = await handle.read(buffer, at, length - at, from + at);
    if (bytesRead === 0) return undefined;
    at += bytesRead;
  }
  return buffer;
}

/** Makes the names in a folder durable. File systems that can't sync a folder keep names without. */
export async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } catch (error) {
    // fsync(2): EINVAL is "does not support synchronization", as some network and FUSE file systems answer for folders.
    const errno = errnoOf(error);
    if (errno !== "EINVAL" && errno !== "ENOTSUP" && errno !== "ENOSYS") throw error;
  } finally {
    await handle.close();
  }
}

/**
 * Makes a folder in one that is there, if it isn't. Its name is durable when it resolves, whoever made it: after a crash nobody knows whether
 * the maker had come to sync it.
 */
export async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: FOLDER_MODE });
  } catch (error) {
    if (errnoOf(error) !== "EEXIST") throw error;
  }
  await syncFolder(dirname(path));
}
