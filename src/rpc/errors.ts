import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Metadata, type ServiceError, type StatusObject, status } from "@grpc/grpc-js";
import { ERROR_CODES, type ErrorCode, FsError, TidemarkError } from "../domain/errors.ts";
import { fromDataValue, toDataValue } from "./codec/common.ts";
import { ErrorDetailSchema } from "./gen/tidemark/v1/common_pb.ts";

/** The gRPC status of each code, for clients that know only those. */
export const GRPC_STATUS: Readonly<Record<ErrorCode, number>> = {
  INVALID_ARGUMENT: status.INVALID_ARGUMENT,
  NOT_FOUND: status.NOT_FOUND,
  ALREADY_EXISTS: status.ALREADY_EXISTS,
  NOT_EMPTY: status.FAILED_PRECONDITION,
  FAILED_PRECONDITION: status.FAILED_PRECONDITION,
  PERMISSION_DENIED: status.PERMISSION_DENIED,
  OUT_OF_HISTORY: status.OUT_OF_RANGE,
  DATA_DAMAGED: status.DATA_LOSS,
  DATA_FOLDER_LOCKED: status.FAILED_PRECONDITION,
  DATA_FOLDER_FOREIGN: status.FAILED_PRECONDITION,
  REPOSITORY_DAMAGED: status.DATA_LOSS,
  REPOSITORY_KEY_WRONG: status.PERMISSION_DENIED,
  REPOSITORY_NEWER: status.FAILED_PRECONDITION,
  NO_SPACE: status.RESOURCE_EXHAUSTED,
  UNAVAILABLE: status.UNAVAILABLE,
  UNSUPPORTED: status.UNIMPLEMENTED,
  CANCELLED: status.CANCELLED,
  INTERNAL: status.INTERNAL,
};

/** The trailer that has what failed, in a service's own words. */
export const DETAIL_KEY = "tidemark-error-bin";

/** Trailers are HTTP/2 headers, which nghttp2 bounds at 64 KiB for all together, and a character may take 9 bytes of percent encoding. */
const MESSAGE_CHARS_MAX = 4096;
const DETAILS_CHARS_MAX = 512;

/** Any failure of an implementation as TidemarkError; what is none is a defect of ours: INTERNAL with the cause kept for the log. */
export function asTidemarkError(error: unknown): TidemarkError {
  if (error instanceof TidemarkError) return error;
  if (error instanceof FsError && error.code === "ENOSPC") {
    return new TidemarkError("NO_SPACE", "the disk of the data folder is full: remove files, or make it larger", {
      cause: error,
    });
  }
  if (error instanceof FsError && error.code === "EIO") {
    return new TidemarkError("UNAVAILABLE", "the journal takes no changes: see `tidemark status`", { cause: error });
  }
  const message = error instanceof Error ? error.message : String(error);
  return new TidemarkError("INTERNAL", `a defect in Tidemark: ${message}`, { cause: error });
}

/** The status with which a server ends a call that failed. */
export function toStatus(error: TidemarkError): Pick<StatusObject, "code" | "details" | "metadata"> {
  const message = error.message.slice(0, MESSAGE_CHARS_MAX).toWellFormed();
  const data = Object.fromEntries(Object.entries(error.data).map(([name, value]) => [name, toDataValue(value)]));
  const detail = create(ErrorDetailSchema, { code: error.code, message, data });
  const metadata = new Metadata();
  metadata.set(DETAIL_KEY, Buffer.from(toBinary(ErrorDetailSchema, detail)));
  const details = error.message.slice(0, DETAILS_CHARS_MAX).toWellFormed();
  return { code: GRPC_STATUS[error.code], details, metadata };
}

/** What a client makes of a failed call. `address` names the service in the message when it was not reached. */
export function fromServiceError(error: ServiceError, address: string): TidemarkError {
  const detail = error.metadata?.get(DETAIL_KEY)[0];
  if (Buffer.isBuffer(detail)) return fromDetail(detail, error);
  switch (error.code) {
    case status.UNAVAILABLE:
      return unreachable(error, address);
    case status.CANCELLED:
      return new TidemarkError("CANCELLED", "the call was interrupted", { cause: error });
    case status.DEADLINE_EXCEEDED:
      return new TidemarkError(
        "UNAVAILABLE",
        `the service at ${address} did not answer in time; see "tidemark status"`,
        { cause: error },
      );
    case status.UNIMPLEMENTED:
      return new TidemarkError(
        "UNSUPPORTED",
        `the service at ${address} does not know this call: it is of another version`,
        { cause: error },
      );
    case status.RESOURCE_EXHAUSTED:
      return new TidemarkError("INTERNAL", `a message was larger than the transport's bound: ${error.details}`, {
        cause: error,
      });
    default:
      return new TidemarkError("INTERNAL", `the call failed: ${error.details}`, { cause: error });
  }
}

/** The transport's words have the system's errno in them; that decides what a person can do. */
function unreachable(cause: ServiceError, address: string): TidemarkError {
  if (cause.details.includes("EACCES")) {
    const message = `you may not talk to the service at ${address}: do it as root, or as the user that the service runs as`;
    return new TidemarkError("PERMISSION_DENIED", message, { cause });
  }
  const absent = /ENOENT|ECONNREFUSED/.test(cause.details);
  const what = absent ? "no service is running" : "the service is not reachable";
  const advice = `start it with "tidemark serve", or name its data folder with --data`;
  return new TidemarkError("UNAVAILABLE", `${what} at ${address}; ${advice}`, { cause });
}

function fromDetail(bytes: Buffer, cause: ServiceError): TidemarkError {
  const { code, message, data } = fromBinary(ErrorDetailSchema, bytes);
  const values: Record<string, string | number | boolean> = {};
  for (const [name, value] of Object.entries(data)) {
    const plain = fromDataValue(value);
    values[name] = typeof plain === "bigint" ? plain.toString() : plain;
  }
  // A code of a newer version: its status still tells the family.
  const known = Object.hasOwn(ERROR_CODES, code) ? (code as ErrorCode) : familyOf(cause.code);
  return new TidemarkError(known, message, { data: values, cause });
}

function familyOf(grpcStatus: number): ErrorCode {
  const codes = Object.keys(GRPC_STATUS) as ErrorCode[];
  return codes.find((code) => GRPC_STATUS[code] === grpcStatus) ?? "INTERNAL";
}
