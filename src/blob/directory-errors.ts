import { BlobError, type BlobErrorCode } from "./blob-error.ts";

/** What a system call's errno means for a blob store in a folder, and what to do about it. */
const MEANINGS: Readonly<Record<string, { readonly code: BlobErrorCode; readonly what: string }>> = {
  ENOSPC: { code: "BLOB_NO_SPACE", what: "the disk is full: make room" },
  EDQUOT: { code: "BLOB_NO_SPACE", what: "the quota is used up: raise it or make room" },
  EFBIG: { code: "BLOB_NO_SPACE", what: "the file system does not take files this large" },
  EACCES: { code: "BLOB_DENIED", what: "this user may not: give it the folder, or run as its owner" },
  EPERM: { code: "BLOB_DENIED", what: "the file system does not allow it" },
  EROFS: { code: "BLOB_DENIED", what: "the file system is mounted read-only" },
  ENAMETOOLONG: { code: "BLOB_INVALID", what: "the path is too long for this file system" },
  ENOTDIR: { code: "BLOB_INVALID", what: "a file has the name of one of its folders" },
  // Of a network file system or a FUSE mount whose server has gone away, perhaps to come back.
  ESTALE: { code: "BLOB_UNREACHABLE", what: "the network file system lost it" },
  ENOTCONN: { code: "BLOB_UNREACHABLE", what: "the mount's server is gone" },
  EHOSTDOWN: { code: "BLOB_UNREACHABLE", what: "the network file system's server is down" },
  ETIMEDOUT: { code: "BLOB_UNREACHABLE", what: "the network file system's server does not answer" },
  EBUSY: { code: "BLOB_UNREACHABLE", what: "it is in use" },
  EMFILE: { code: "BLOB_UNREACHABLE", what: "this process has too many files open" },
  ENFILE: { code: "BLOB_UNREACHABLE", what: "this machine has too many files open" },
};

/** The errno name of an error of node:fs, such as `ENOENT`; undefined for other errors. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error) || typeof error.code !== "string") return undefined;
  return error.code;
}

/** A system call's error as a BlobError; others of the port pass as they are. `doing` completes "Could not …". */
export function directoryError(error: unknown, doing: string): BlobError {
  if (error instanceof BlobError) return error;
  const errno = errnoOf(error);
  const meaning = errno === undefined ? undefined : MEANINGS[errno];
  if (meaning !== undefined)
    return new BlobError(meaning.code, `Could not ${doing}: ${meaning.what} (${errno})`, { cause: error });
  const words = error instanceof Error ? error.message : String(error);
  return new BlobError("BLOB_IO", `Could not ${doing}: ${words}`, { cause: error });
}
