import type { BlobErrorCode } from "../../blob/blob-error.ts";
import { type ErrorCode, TidemarkError } from "../../domain/errors.ts";

/** As which failure of the API one of a store counts. What the store's own code was stays in `data.reason`. */
export const ERROR_OF_BLOB: Readonly<Record<BlobErrorCode, ErrorCode>> = {
  BLOB_MISSING: "REPOSITORY_DAMAGED",
  BLOB_EXISTS: "ALREADY_EXISTS",
  BLOB_DAMAGED: "REPOSITORY_DAMAGED",
  BLOB_DENIED: "PERMISSION_DENIED",
  BLOB_BUCKET_MISSING: "NOT_FOUND",
  BLOB_WRONG_REGION: "INVALID_ARGUMENT",
  BLOB_CLOCK_SKEW: "FAILED_PRECONDITION",
  BLOB_LOCKED: "FAILED_PRECONDITION",
  BLOB_NO_SPACE: "NO_SPACE",
  BLOB_UNREACHABLE: "UNAVAILABLE",
  BLOB_TIMEOUT: "UNAVAILABLE",
  BLOB_IO: "UNAVAILABLE",
  BLOB_ABORTED: "CANCELLED",
  BLOB_UNSUPPORTED: "UNSUPPORTED",
  BLOB_INVALID: "INVALID_ARGUMENT",
};

/** A failure of a store, also one behind a shipper's, as the API has it; anything else as it is. */
export function storeFailure(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const reason = reasonOf(error);
  const code = (ERROR_OF_BLOB as Readonly<Record<string, ErrorCode>>)[reason];
  if (code === undefined) return error;
  return new TidemarkError(code, error.message, { data: { reason }, cause: error });
}

/** The store's own code. Shippers tell it beside theirs, as `causeCode`. */
function reasonOf(error: Error): string {
  const told = error instanceof TidemarkError ? error.cause : error;
  if (!(told instanceof Error)) return "";
  if ("causeCode" in told && told.causeCode !== undefined) return String(told.causeCode);
  return error instanceof TidemarkError || !("code" in told) ? "" : String(told.code);
}
