import { assert } from "../base/assert.ts";
import { BlobError } from "./blob-error.ts";
import {
  BLOB_BYTES_MAX,
  BLOB_NAME_BYTES_MAX,
  type BlobCallOptions,
  type BlobGetOptions,
  type BlobStore,
} from "./blob-store.ts";

/** Longest part of a name between slashes: what file systems take, less a little for what gateways add. */
const PART_BYTES_MAX = 200;

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*(\/[A-Za-z0-9][A-Za-z0-9._-]*)*$/;

/** Whether a text may be a blob's name. One that may holds no `..`, no leading dot and nothing that a file system or URL reads otherwise. */
export function isBlobName(text: string): boolean {
  if (text.length > BLOB_NAME_BYTES_MAX || !NAME.test(text)) return false;
  return text.split("/").every((part) => part.length <= PART_BYTES_MAX);
}

/** Throws BLOB_INVALID unless `name` may be a blob's name. */
export function checkName(name: string): void {
  if (isBlobName(name)) return;
  throw new BlobError(
    "BLOB_INVALID",
    `${JSON.stringify(name.slice(0, 100))} is no name of a blob: expected parts of letters, digits, ".", "_" and "-", joined by "/"`,
  );
}

/** Throws BLOB_ABORTED if the call's signal has been given. */
export function checkSignal(options: BlobCallOptions | undefined): void {
  if (options?.signal?.aborted === true) throw abortedError(options.signal);
}

/** The error of a call that its caller ended. */
export function abortedError(signal?: AbortSignal): BlobError {
  return new BlobError("BLOB_ABORTED", "The call was ended by its caller", { cause: signal?.reason });
}

/** The error of a call after `close`. */
export function closedError(store: BlobStore): BlobError {
  return new BlobError("BLOB_ABORTED", `${store.description} was closed`);
}

/** The sum of the parts of a body, which is within bounds. */
export function bodyBytes(body: readonly Uint8Array[]): number {
  let bytes = 0;
  for (const part of body) bytes += part.length;
  assert(bytes <= BLOB_BYTES_MAX, "the body of a blob is too large");
  return bytes;
}

/** Asserts what callers promise of a range. */
export function checkRange(options: BlobGetOptions): void {
  const { from = 0, length = 1, bytesMax = 0 } = options;
  assert(Number.isSafeInteger(from) && from >= 0, "a range begins at a whole number from 0");
  assert(Number.isSafeInteger(length) && length >= 1 && length <= BLOB_BYTES_MAX, "a range has a length from 1");
  assert(Number.isSafeInteger(bytesMax) && bytesMax >= 0, "bytesMax is a whole number from 0");
}

/**
 * How many bytes a get will bring of a blob of `bytes`; throws BLOB_DAMAGED if they are fewer than asked for, or more than the caller takes.
 * `name` and `where` are for the message.
 */
export function bytesToRead(bytes: number, options: BlobGetOptions, what: { name: string; where: string }): number {
  const { from = 0, length, bytesMax = BLOB_BYTES_MAX } = options;
  const label = `"${what.name}" in ${what.where}`;
  if (length !== undefined) {
    if (from + length <= bytes) return length;
    throw new BlobError("BLOB_DAMAGED", `${label} has ${bytes} bytes: expected at least ${from + length}`);
  }
  if (from > bytes) throw new BlobError("BLOB_DAMAGED", `${label} has ${bytes} bytes: expected at least ${from}`);
  if (bytes - from > bytesMax)
    throw new BlobError("BLOB_DAMAGED", `${label} has ${bytes} bytes: expected at most ${from + bytesMax}`);
  return bytes - from;
}

/** The error of a name that isn't there. */
export function missingError(name: string, where: string, cause?: unknown): BlobError {
  return new BlobError("BLOB_MISSING", `"${name}" is not in ${where}`, { cause });
}

/** The error of a name that is there already. */
export function existsError(name: string, where: string, cause?: unknown): BlobError {
  return new BlobError("BLOB_EXISTS", `"${name}" is in ${where} already`, { cause });
}

/** The error of a lock where there are none. */
export function noLocksError(where: string, cause?: unknown): BlobError {
  return new BlobError(
    "BLOB_UNSUPPORTED",
    `${where} can't lock blobs: expected a bucket with Object Lock switched on; leave out the lock days, or make such a bucket`,
    { cause },
  );
}
