import { ERASED_BY_ORDER, ErasedError, FsError, TidemarkError } from "../../domain/errors.ts";

/** What a failure of the engine means to a caller of the API. `what` says what was being done. */
export function toTidemarkError(error: unknown, what: string): TidemarkError {
  if (error instanceof TidemarkError) return error;
  const words = error instanceof Error ? error.message : String(error);
  if (!(error instanceof FsError)) return new TidemarkError("INTERNAL", `${what}: ${words}`, { cause: error });
  if (error.code === "ENOSPC") return new TidemarkError("NO_SPACE", `${what}: the disk is full`, { cause: error });
  if (error.code === "EIO") {
    return new TidemarkError(
      "UNAVAILABLE",
      `${what}: the journal takes no records: ${words}; see \`tidemark status\``,
      { cause: error },
    );
  }
  return new TidemarkError("INTERNAL", `${what}: ${words}`, { cause: error });
}

/** What a failure to read stored content means to a caller of the API. */
export function toDamage(error: unknown, what: string): TidemarkError {
  if (error instanceof TidemarkError) return error;
  if (error instanceof ErasedError) {
    return new TidemarkError("DATA_DAMAGED", `${what}: ${ERASED_BY_ORDER}`, { cause: error, data: { erased: true } });
  }
  if (error instanceof FsError && error.code === "EIO") {
    return new TidemarkError("DATA_DAMAGED", `${what}: stored bytes are missing or do not match their checksum`, {
      cause: error,
    });
  }
  return toTidemarkError(error, what);
}
