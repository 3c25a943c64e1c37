/** Codes of the blob port, each with what it means to a program. */
export const BLOB_ERROR_CODES = {
  BLOB_MISSING: "no blob of that name",
  BLOB_EXISTS: "a blob of that name is there already",
  BLOB_DAMAGED: "fewer, more or other bytes than there should be",
  BLOB_DENIED: "the store knows us not, or does not allow it",
  BLOB_BUCKET_MISSING: "no such bucket or folder",
  BLOB_WRONG_REGION: "the bucket is in another region",
  BLOB_CLOCK_SKEW: "this machine's clock is too far from the store's",
  BLOB_LOCKED: "the blob is under a lock",
  BLOB_NO_SPACE: "the store is full or a quota is used up",
  BLOB_UNREACHABLE: "the store can't be reached, broke off or is overloaded",
  BLOB_TIMEOUT: "the store did not answer in time",
  BLOB_IO: "the store failed or answered what makes no sense",
  BLOB_ABORTED: "the caller or a close ended the call",
  BLOB_UNSUPPORTED: "the store can't do this",
  BLOB_INVALID: "a name, an address or an option is malformed",
} as const;

/** A stable code of the blob port. */
export type BlobErrorCode = keyof typeof BLOB_ERROR_CODES;

/** Codes of failures that may pass by themselves. */
const RETRYABLE: ReadonlySet<BlobErrorCode> = new Set(["BLOB_UNREACHABLE", "BLOB_TIMEOUT"]);

/** The one error class of the blob port. `message` is for people: what, what was expected, what to do. Never a secret. */
export class BlobError extends Error {
  override name = "BlobError";
  readonly code: BlobErrorCode;
  /** Whether the same call may succeed a moment later. It may also have had its effect already. */
  readonly retryable: boolean;

  constructor(code: BlobErrorCode, message: string, options?: { cause?: unknown; retryable?: boolean }) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryable = options?.retryable ?? RETRYABLE.has(code);
  }
}

/** Whether `error` is a BlobError, of `code` if one is given. */
export function isBlobError(error: unknown, code?: BlobErrorCode): error is BlobError {
  return error instanceof BlobError && (code === undefined || error.code === code);
}
