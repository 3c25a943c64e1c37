import { TidemarkError } from "../domain/errors.ts";
import { isFencedError } from "../repository/fencing.ts";

/**
 * `FENCED`: another service ships this app now. `OTHER_HISTORY`: the repository holds records of this app that this journal does not have. `DAMAGED`: the journal can't be read on. `CANCELLED`: by the caller.
 * `STORE`: the store can't be reached, or refuses. `REPOSITORY`: what is in the repository is not as it should be. `LOCAL`: this machine's disk or a defect.
 */
export type ShipErrorCode = "FENCED" | "OTHER_HISTORY" | "DAMAGED" | "CANCELLED" | "STORE" | "REPOSITORY" | "LOCAL";

/** Why shipping an app did not go on. The message is for people: what happened, and what to do if anything. Plain enough to cross threads by its fields. */
export class ShipError extends Error {
  override name = "ShipError";
  readonly code: ShipErrorCode;
  /** The code of the error underneath, such as BLOB_DENIED. */
  readonly causeCode: string | undefined;

  constructor(code: ShipErrorCode, message: string, options?: { cause?: unknown; causeCode?: string | undefined }) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.causeCode = options?.causeCode;
  }
}

/** Failures of a store that pass by themselves: a network, a server. Of all others (a key, a bucket, a bill) somebody has to know. */
const PASSING: ReadonlySet<string | undefined> = new Set(["BLOB_UNREACHABLE", "BLOB_TIMEOUT", "BLOB_IO"]);

/** Whether nobody needs to do anything about it. */
export function passesByItself({ code, causeCode }: ShipError): boolean {
  return code === "CANCELLED" || (code === "STORE" && PASSING.has(causeCode));
}

const CODE_OF: Readonly<Record<string, ShipErrorCode>> = {
  DATA_DAMAGED: "DAMAGED",
  OUT_OF_HISTORY: "DAMAGED",
  DATA_FOLDER_FOREIGN: "DAMAGED",
  BLOB_ABORTED: "CANCELLED",
  CANCELLED: "CANCELLED",
  FAILED_PRECONDITION: "REPOSITORY",
};

/** Any failure as a ShipError. */
export function shipError(error: unknown): ShipError {
  if (error instanceof ShipError) return error;
  if (isFencedError(error)) return new ShipError("FENCED", (error as Error).message, { cause: error });
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  const causeCode = typeof code === "string" ? code : undefined;
  const text = typeof message === "string" ? message : String(error);
  return new ShipError(shipCodeOf(causeCode), text, { cause: error, causeCode });
}

function shipCodeOf(causeCode = ""): ShipErrorCode {
  const known = CODE_OF[causeCode];
  if (known !== undefined) return known;
  if (causeCode.startsWith("BLOB_")) return "STORE";
  return causeCode.startsWith("REPO") ? "REPOSITORY" : "LOCAL";
}

/** As the API says it. */
export function apiErrorOf(error: ShipError): TidemarkError {
  switch (error.code) {
    case "FENCED":
    case "OTHER_HISTORY":
      return new TidemarkError("FAILED_PRECONDITION", error.message, { cause: error });
    case "DAMAGED":
      return new TidemarkError("DATA_DAMAGED", error.message, { cause: error });
    case "CANCELLED":
      return new TidemarkError("CANCELLED", "the backup was interrupted", { cause: error });
    case "REPOSITORY":
      return new TidemarkError("REPOSITORY_DAMAGED", error.message, { cause: error });
    case "STORE":
      return new TidemarkError("UNAVAILABLE", error.message, { cause: error });
    case "LOCAL":
      return new TidemarkError("INTERNAL", error.message, { cause: error });
  }
}
