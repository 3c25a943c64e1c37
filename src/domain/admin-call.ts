import type { Actor } from "./actor.ts";

/** What every call of the admin API takes besides its request. */
export type CallOptions = {
  /** Ends the call early: it fails with CANCELLED. What a mutation had done by then stays done, unless its method says otherwise. */
  readonly signal?: AbortSignal;
  /** Who asks, for the journal. `mountId` is 0. Without it: "service". */
  readonly actor?: Actor;
  /** The call is held to a token for one app: its sender speaks for that, not for the machine and its clock. */
  readonly underToken?: boolean;
};

/**
 * A long result, in order, in pages of 1 to PAGE_ITEMS_MAX items that belong to the receiver. Nothing happens before the first `next()`; the
 * service works on at most one page ahead of the reader; `return()` (leaving a `for await`) ends the call. Failures are thrown by `next()`.
 */
export type Pages<T> = AsyncIterable<readonly T[]>;

/** 1,000 items of the largest kind (a path of 4 KiB and attributes) stay within one 4 MiB message of the transport at usual name lengths; pages also end at PAGE_BYTES_MAX. */
export const PAGE_ITEMS_MAX = 1000;

/** Names, targets and xattrs in one page end it when they pass this together; one item alone may be larger (an xattr has up to 64 KiB). */
export const PAGE_BYTES_MAX = 1024 * 1024;

/** Largest piece of file content in a stream. */
export const CONTENT_PIECE_BYTES_MAX = 1024 * 1024;
