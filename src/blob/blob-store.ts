/**
 * The blob port: named, immutable byte strings, as an S3 bucket or a folder keeps them. The repository lives on it.
 *
 * May import: `src/base`, `src/domain`. Adapters: `directory-blobs.ts`, `s3-blobs.ts`, `testing/memory-blobs.ts`; wrappers: `retrying-blobs.ts`,
 * `bandwidth-limited-blobs.ts`, `counting-blobs.ts`, `testing/faulty-blobs.ts`; all pass `test/contract/blob-contract.ts`. `open-blobs.ts` makes one of a URL.
 * How it fails: always with a `BlobError` (`blob-error.ts`), but for `AssertionError` on a caller's defect.
 *
 * Invariants every adapter keeps:
 *   B1  A blob is seen whole or not at all, by every reader, and after every crash.
 *   B2  A blob never changes: `put` of a name that is there fails (BLOB_EXISTS). Where `capabilities.createOnly`, of several puts of one name at the same time, by
 *       whomever, at most one succeeds; without it that is an attempt only (look, then write).
 *   B3  When `put` or `delete` resolves, its effect survives the loss of power of the store, and every later call sees it.
 *   B4  What `get` returns is what was asked for, in full length. A part that is missing is an error, never a shorter answer.
 *   B5  `list` names every blob that was there when it began and still was when it ended. It throws rather than leave one out.
 *   B6  No error, log line or `description` holds a secret.
 */

/** Longest name in bytes. S3 allows 1,024 for the key, of which a prefix takes its part. */
export const BLOB_NAME_BYTES_MAX = 512;

/** Most names of one `delete`: what one request of S3 takes. Adapters split longer lists themselves; see there. */
export const BLOB_DELETE_NAMES_MAX = 1000;

/** Largest blob in bytes. It is held in memory; packs are tens of MiB, the rest is smaller. */
export const BLOB_BYTES_MAX = 1024 * 1024 * 1024;

/** What every call takes besides its own. */
export interface BlobCallOptions {
  /** Ends the call with BLOB_ABORTED. A write that was under way may or may not have happened. */
  readonly signal?: AbortSignal | undefined;
}

export interface BlobPutOptions extends BlobCallOptions {
  /**
   * Nobody can delete or overwrite the blob before this time of the store's clock (milliseconds since 1970 UTC).
   * BLOB_UNSUPPORTED where the store has no locks: never ignored.
   */
  readonly lockUntilMs?: number | undefined;
}

/** Which bytes to read: `length` bytes from `from`. Without `length` all that follow, without `from` from the beginning. */
export interface BlobGetOptions extends BlobCallOptions {
  readonly from?: number | undefined;
  /** At least 1. All of them, or BLOB_DAMAGED. */
  readonly length?: number | undefined;
  /** Without `length`: BLOB_DAMAGED, before memory is taken, if there are more bytes than this. Default: BLOB_BYTES_MAX. */
  readonly bytesMax?: number | undefined;
}

export interface BlobListOptions extends BlobCallOptions {
  /** Begin behind this name, which needn't be there. */
  readonly after?: string | undefined;
}

/** A blob as a listing shows it. */
export interface BlobEntry {
  readonly name: string;
  readonly bytes: number;
  /** When it was put, by the store's clock, in milliseconds since 1970 UTC; the resolution may be seconds. */
  readonly modifiedMs: number;
}

export interface BlobStat {
  readonly bytes: number;
  /** When it was put, by the store's clock, in milliseconds since 1970 UTC; the resolution may be seconds. */
  readonly modifiedMs: number;
  /** Until when it is locked, if it is and the store tells. */
  readonly lockedUntilMs?: number | undefined;
}

/** What differs between stores, as data. May become false once a store has refused: ask when it matters, don't keep a copy. */
export interface BlobCapabilities {
  /** `put` is atomic in refusing a name that is there (B2). */
  readonly createOnly: boolean;
  /** The store knows locks. A bucket may still have them switched off: then a locking put says so with BLOB_UNSUPPORTED. */
  readonly objectLock: boolean;
}

/**
 * A store of blobs. Names are one or more parts of `A-Z a-z 0-9 . _ -` joined by `/`; a part begins with a letter or digit. No name may be another one followed by
 * `/`: stores that keep files can't have `a` and `a/b`. All calls may run at the same time.
 */
export interface BlobStore {
  /** Where it is, for people, such as `s3://bucket/prefix` or `/backup/dir`. */
  readonly description: string;
  readonly capabilities: BlobCapabilities;

  /**
   * Creates `name` with the parts of `body`, in order. Durable and visible when it resolves (B1 to B3). The caller leaves the parts unchanged until then.
   * Errors: BLOB_EXISTS, BLOB_NO_SPACE, BLOB_DENIED… After a retryable error, BLOB_ABORTED or BLOB_TIMEOUT the blob may be there all the same: a repeated put
   * then says BLOB_EXISTS (`RetryingBlobs` tells the two apart by what is there).
   */
  put(name: string, body: readonly Uint8Array[], options?: BlobPutOptions): Promise<void>;

  /** Reads a blob or a part of it (B4). The buffer is the caller's. Errors: BLOB_MISSING; BLOB_DAMAGED if fewer bytes are there than asked for, or too many. */
  get(name: string, options?: BlobGetOptions): Promise<Buffer>;

  /** What is known of a blob without reading it; undefined if it isn't there. */
  stat(name: string, options?: BlobCallOptions): Promise<BlobStat | undefined>;

  /**
   * The blobs whose names begin with `prefix` (any text, `""` for all), in pages of at least one, ordered by the bytes of their names (B5). What is not named as `put` would is left
   * out: it is somebody else's. A page may be old by the time it is used.
   */
  list(prefix: string, options?: BlobListOptions): AsyncGenerator<readonly BlobEntry[]>;

  /**
   * Deletes blobs; those that aren't there are fine. Not atomic: after an error some may be gone. May run twice. BLOB_LOCKED for those under a lock, where the store refuses
   * (a versioned bucket hides them instead).
   */
  delete(names: readonly string[], options?: BlobCallOptions): Promise<void>;

  /** Makes a lock last until `untilMs` (store's clock) at least; never shortens one. May run twice. Errors: BLOB_MISSING, BLOB_UNSUPPORTED. */
  extendLock(name: string, untilMs: number, options?: BlobCallOptions): Promise<void>;

  /** What time the store's own clock shows, in milliseconds since 1970 UTC; the resolution may be seconds. */
  timeMs(options?: BlobCallOptions): Promise<number>;

  /** Lets go of connections. Calls under way end, perhaps with BLOB_ABORTED; later ones throw it. May be called twice. */
  close(): Promise<void>;
}
