import { BlobError, type BlobErrorCode } from "./blob-error.ts";

/** What an error is about, for its message. */
export type S3Context = {
  /** Completes "Could not …". */
  readonly doing: string;
  readonly bucket: string;
  /** The endpoint, or "Amazon S3". */
  readonly server: string;
  readonly region: string;
  /** The blob's name, where the call is about one. */
  readonly name?: string | undefined;
  /** Never to be part of a message. */
  readonly secrets: readonly string[];
};

type Meaning = {
  readonly code: BlobErrorCode;
  readonly what: (context: S3Context) => string;
  readonly retryable?: boolean;
};

const denied = (what: string): Meaning => ({ code: "BLOB_DENIED", what: () => what });
const busy = (what: string): Meaning => ({ code: "BLOB_UNREACHABLE", what: ({ server }) => `${server} ${what}` });
const inTransit: Meaning = { code: "BLOB_DAMAGED", what: () => "the bytes changed on their way", retryable: true };
const wrongRegion: Meaning = {
  code: "BLOB_WRONG_REGION",
  what: ({ bucket, region }) => `bucket "${bucket}" is not in region "${region}": name its region`,
};
const noLocks: Meaning = {
  code: "BLOB_UNSUPPORTED",
  what: ({ bucket }) =>
    `bucket "${bucket}" has Object Lock switched off: leave out the lock days, or make a bucket with Object Lock`,
};

/** Error codes of S3 (S3 API Reference, "List of error codes") and of stores like it. */
const BY_S3_CODE: Readonly<Record<string, Meaning>> = {
  NoSuchKey: { code: "BLOB_MISSING", what: ({ name, bucket }) => `"${name}" is not in bucket "${bucket}"` },
  NoSuchVersion: { code: "BLOB_MISSING", what: ({ name }) => `that version of "${name}" is gone` },
  NoSuchUpload: { code: "BLOB_IO", what: () => "the upload in parts is unknown to the store", retryable: true },
  NoSuchBucket: {
    code: "BLOB_BUCKET_MISSING",
    what: ({ bucket, server }) => `${server} has no bucket "${bucket}": make it, or correct the name`,
  },
  PreconditionFailed: {
    code: "BLOB_EXISTS",
    what: ({ name, bucket }) => `"${name}" is in bucket "${bucket}" already`,
  },
  ConditionalRequestConflict: busy("is busy with another put of that name"),
  OperationAborted: busy("is busy with another change of that name"),
  InvalidAccessKeyId: denied("the access key is unknown there: check the access key id"),
  SignatureDoesNotMatch: denied("the signature is refused: check the secret access key (and the region)"),
  XAdminUserNotFound: denied("the access key is unknown there: check the access key id"),
  ExpiredToken: denied("the session token has expired: get a new one"),
  TokenRefreshRequired: denied("the session token has expired: get a new one"),
  InvalidToken: denied("the session token is refused: get a new one, or leave it out"),
  AccessDenied: denied(
    "the key may not do this: it needs s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket (for locks s3:PutObjectRetention and s3:GetObjectRetention)",
  ),
  AllAccessDisabled: denied("all access to the bucket is switched off"),
  AccountProblem: denied("the account has a problem: ask its provider"),
  PermanentRedirect: wrongRegion,
  TemporaryRedirect: busy("is moving the bucket"),
  AuthorizationHeaderMalformed: wrongRegion,
  IllegalLocationConstraintException: wrongRegion,
  InvalidRegion: wrongRegion,
  RequestTimeTooSkewed: {
    code: "BLOB_CLOCK_SKEW",
    what: ({ server }) => `this machine's clock and that of ${server} differ by minutes: set the clock`,
  },
  SlowDown: busy("asks to slow down"),
  TooManyRequests: busy("asks to slow down"),
  ServiceUnavailable: busy("is overloaded"),
  InternalError: busy("had an internal error"),
  RequestTimeout: busy("waited for our bytes in vain"),
  BadDigest: inTransit,
  XAmzContentSHA256Mismatch: inTransit,
  XAmzContentChecksumMismatch: inTransit,
  IncompleteBody: inTransit,
  QuotaExceeded: { code: "BLOB_NO_SPACE", what: ({ bucket }) => `the quota of bucket "${bucket}" is used up` },
  XMinioStorageFull: { code: "BLOB_NO_SPACE", what: ({ server }) => `${server} has no room left` },
  InsufficientStorage: { code: "BLOB_NO_SPACE", what: ({ server }) => `${server} has no room left` },
  ObjectLocked: { code: "BLOB_LOCKED", what: ({ name }) => `${name === undefined ? "it" : `"${name}"`} is locked` },
  InvalidRetentionPeriod: noLocks,
  InvalidBucketObjectLockConfiguration: noLocks,
  ObjectLockConfigurationNotFoundError: noLocks,
  NoSuchObjectLockConfiguration: noLocks,
  NotImplemented: { code: "BLOB_UNSUPPORTED", what: ({ server }) => `${server} can't do this` },
  // Of older stores, which know no other checksum of a list of deletes, or of a put with a lock.
  MissingContentMD5: {
    code: "BLOB_UNSUPPORTED",
    what: ({ server }) => `${server} wants a Content-MD5 header, which is not sent any more`,
  },
  ObjectParentIsFile: { code: "BLOB_INVALID", what: () => "a blob has the name of one of its folders" },
};

/** Codes of node's sockets and TLS. */
const BY_NODE_CODE: Readonly<Record<string, Meaning>> = {
  ECONNREFUSED: busy("refuses the connection: is it running, and the port right?"),
  ENOTFOUND: busy("has no address: is the host name right?"),
  EAI_AGAIN: busy("could not be looked up: is there a name server?"),
  ECONNRESET: busy("broke off the connection"),
  EPIPE: busy("broke off the connection"),
  ECONNABORTED: busy("broke off the connection"),
  ETIMEDOUT: { code: "BLOB_TIMEOUT", what: ({ server }) => `${server} does not answer` },
  EHOSTUNREACH: busy("can't be reached: is there a way to it?"),
  ENETUNREACH: busy("can't be reached: is there a network?"),
  EPROTO: { code: "BLOB_DENIED", what: ({ server }) => `${server} does not speak TLS there: http:// or another port?` },
  ERR_SSL_WRONG_VERSION_NUMBER: {
    code: "BLOB_DENIED",
    what: ({ server }) => `${server} does not speak TLS there: http:// or another port?`,
  },
  ERR_SSL_PACKET_LENGTH_TOO_LONG: {
    code: "BLOB_DENIED",
    what: ({ server }) => `${server} does not speak TLS there: http:// or another port?`,
  },
  CERT_HAS_EXPIRED: denied("the server's certificate has expired"),
  CERT_NOT_YET_VALID: denied("the server's certificate is not valid yet: is this machine's clock right?"),
  ERR_TLS_CERT_ALTNAME_INVALID: denied("the server's certificate is for another name"),
  DEPTH_ZERO_SELF_SIGNED_CERT: denied("the server's certificate is signed by itself: name its authority"),
  SELF_SIGNED_CERT_IN_CHAIN: denied("the server's certificate is of an unknown authority: name it"),
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: denied("the server's certificate is of an unknown authority: name it"),
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: denied("the server's certificate is of an unknown authority: name it"),
  HPE_INVALID_CONSTANT: { code: "BLOB_IO", what: ({ server }) => `${server} does not speak HTTP there` },
};

/** Names the SDK gives an answer without a body. */
const BODILESS = new Set(["NotFound", "404", "UnknownError", "Unknown"]);

/** Only the status is known: of HEAD requests, and of stores that say no more. */
function byStatus({ status, name }: S3Fault, hasName: boolean): Meaning | undefined {
  if (status === 403 || status === 401) return BY_S3_CODE["AccessDenied"];
  // A 404 with a code of its own is about something else: that a blob is absent is said in one way only.
  if (status === 404 && BODILESS.has(name)) return BY_S3_CODE[hasName ? "NoSuchKey" : "NoSuchBucket"];
  if (status === 301) return wrongRegion;
  if (status === 412) return BY_S3_CODE["PreconditionFailed"];
  if (status === 409) return BY_S3_CODE["OperationAborted"];
  if (status === 429) return BY_S3_CODE["SlowDown"];
  if (status === 501) return BY_S3_CODE["NotImplemented"];
  if (status === 507) return BY_S3_CODE["InsufficientStorage"];
  if (status >= 500) return BY_S3_CODE["ServiceUnavailable"];
  return undefined;
}

/** What is read of an error of the SDK. */
type S3Fault = { readonly name: string; readonly message: string; readonly code: string; readonly status: number };

/** An error of the SDK or of node's network as a BlobError, in words of ours, without secrets. Those of the port pass as they are. */
export function s3Error(error: unknown, context: S3Context): BlobError {
  if (error instanceof BlobError) return error;
  const fault = faultOf(error);
  // The SDK's error itself is not handed on: it holds the response, which some stores put the signed request into.
  const cause = new Error(redact(`${fault.name}: ${fault.message}`, context.secrets));
  const meaning = meaningOf(fault, context);
  if (meaning !== undefined) {
    const options = meaning.retryable === undefined ? { cause } : { cause, retryable: meaning.retryable };
    const message = `Could not ${context.doing}: ${meaning.what(context)}${statusText(fault)}`;
    return new BlobError(meaning.code, redact(message, context.secrets), options);
  }
  const words = redact(`${fault.name}: ${fault.message}`.slice(0, 500), context.secrets);
  const hint = fault.status === 0 ? `; is ${context.server} an S3 endpoint?` : "";
  return new BlobError("BLOB_IO", `Could not ${context.doing}: ${words}${statusText(fault)}${hint}`, { cause });
}

/** The status a store answered with; undefined if it did not answer. */
export function statusOf(error: unknown): number | undefined {
  const { status } = faultOf(error);
  return status === 0 ? undefined : status;
}

/** The region that the store's answer says the bucket is in. */
export function regionOf(error: unknown): string | undefined {
  const response = property(error, "$response");
  const region = property(property(response, "headers"), "x-amz-bucket-region") ?? property(error, "Region");
  return typeof region === "string" ? region : undefined;
}

function meaningOf(fault: S3Fault, context: S3Context): Meaning | undefined {
  // "InvalidRequest" is many things; what stores say of locks has these words.
  if (fault.name === "InvalidRequest" && /object ?lock/i.test(fault.message)) return noLocks;
  if (/WORM protected|object is locked|protected by object lock/i.test(fault.message))
    return BY_S3_CODE["ObjectLocked"];
  if (/socket hang up/i.test(fault.message) && fault.status === 0) return BY_NODE_CODE["ECONNRESET"];
  if (/checksum mismatch/i.test(fault.message)) return inTransit;
  return (
    BY_S3_CODE[fault.name] ??
    BY_S3_CODE[fault.code] ??
    BY_NODE_CODE[fault.code] ??
    (fault.name === "TimeoutError" ? BY_NODE_CODE["ETIMEDOUT"] : undefined) ??
    byStatus(fault, context.name !== undefined)
  );
}

function statusText({ name, status, code }: S3Fault): string {
  const words = [code === "" || code === name ? "" : code, name, status < 300 ? "" : String(status)];
  return ` (${words.filter((word) => word !== "" && word !== "Error" && word !== "UnknownError").join(", ")})`.replace(
    " ()",
    "",
  );
}

function faultOf(error: unknown): S3Fault {
  if (!(error instanceof Error)) return { name: "Error", message: String(error), code: "", status: 0 };
  const status = property(property(error, "$metadata"), "httpStatusCode");
  // Happy eyeballs: the errors of all addresses, of which the first tells.
  const inner = error instanceof AggregateError && error.errors[0] instanceof Error ? error.errors[0] : error;
  const code = property(error, "Code") ?? property(error, "code") ?? property(inner, "code");
  return {
    name: error.name,
    message: inner.message,
    code: typeof code === "string" ? code : "",
    status: typeof status === "number" ? status : 0,
  };
}

function property(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined;
}

function redact(text: string, secrets: readonly string[]): string {
  return secrets.reduce((rest, secret) => (secret === "" ? rest : rest.replaceAll(secret, "[secret]")), text);
}
