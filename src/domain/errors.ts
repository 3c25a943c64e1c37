/** Linux errno values (asm-generic/errno-base.h and errno.h) which the file system core may answer. */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  EMLINK: 31,
  ERANGE: 34,
  EDEADLK: 35,
  ENAMETOOLONG: 36,
  ENOLCK: 37,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ELOOP: 40,
  ENODATA: 61,
  EOVERFLOW: 75,
  EOPNOTSUPP: 95,
  ESTALE: 116,
  EDQUOT: 122,
} as const;

/** The name of an errno the core may answer. */
export type ErrnoName = keyof typeof ERRNO;

/**
 * An expected failure inside the file system core. Thrown in hot paths (ENOENT for every absent name), so it records no stack:
 * use the static `of`, which reuses one frozen instance for each errno without a message.
 */
export class FsError extends Error {
  override name = "FsError";
  readonly errno: number;
  readonly code: ErrnoName;

  constructor(code: ErrnoName, message?: string, options?: { cause?: unknown }) {
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = 0;
    super(message ?? code, options);
    Error.stackTraceLimit = limit;
    this.code = code;
    this.errno = ERRNO[code];
  }

  /** The shared instance of `code`, without message or stack. */
  static of(code: ErrnoName): FsError {
    let error = SHARED.get(code);
    if (error === undefined) {
      error = new FsError(code);
      SHARED.set(code, error);
    }
    return error;
  }

  /** As `of`, by number: for answers that came over the network. EIO for one that is not ours. */
  static ofErrno(errno: number): FsError {
    return FsError.of(NAMES.get(errno) ?? "EIO");
  }
}

/** Content that was erased by order (`tidemark purge`): reading it is EIO, and neither damage nor an alarm. */
export class ErasedError extends FsError {
  override name = "ErasedError";

  constructor() {
    super("EIO", ERASED_BY_ORDER);
  }
}

/** What is said of erased content, everywhere. */
export const ERASED_BY_ORDER = "erased by order";

const NAMES = new Map((Object.keys(ERRNO) as ErrnoName[]).map((name) => [ERRNO[name] as number, name]));

const SHARED = new Map<ErrnoName, FsError>();

/** Codes of the API, each with what it means to a program. Kept equal to README by a test. */
export const ERROR_CODES = {
  INVALID_ARGUMENT: "the request is malformed: the message says what was expected",
  NOT_FOUND: "no such app, share, path, snapshot or moment",
  ALREADY_EXISTS: "the name is taken",
  NOT_EMPTY: "the thing still has contents",
  FAILED_PRECONDITION: "the state does not allow it: the message says what to do first",
  PERMISSION_DENIED: "the caller may not do this",
  OUT_OF_HISTORY: "the moment is older than the history that is kept",
  DATA_DAMAGED: "stored bytes do not match their checksum, or are missing",
  DATA_FOLDER_LOCKED: "another service uses the data folder",
  DATA_FOLDER_FOREIGN: "the data folder is not ours, is damaged, or was written by a newer version",
  REPOSITORY_DAMAGED: "an object of the repository is missing, or its bytes are not what was written",
  REPOSITORY_KEY_WRONG: "the passphrase or key does not open the repository",
  REPOSITORY_NEWER: "the repository was written by a newer version",
  NO_SPACE: "the disk is full",
  UNAVAILABLE: "the service, or the store of a repository, is not running or not reachable",
  UNSUPPORTED: "this machine or kernel lacks what is needed",
  CANCELLED: "the caller went away or interrupted it",
  INTERNAL: "a defect: please report it",
} as const;

/** A stable code of the API. */
export type ErrorCode = keyof typeof ERROR_CODES;

/** The one error class of the API. `message` is for people: what was wrong, what was expected, what to do. */
export class TidemarkError extends Error {
  override name = "TidemarkError";
  readonly code: ErrorCode;
  readonly data: Readonly<Record<string, string | number | boolean>>;

  constructor(
    code: ErrorCode,
    message: string,
    options?: { cause?: unknown; data?: Readonly<Record<string, string | number | boolean>> },
  ) {
    super(message, options);
    this.code = code;
    this.data = options?.data ?? {};
  }
}
