import type { RequestFrame, RequestHeader } from "./frame.ts";
import type { Wire } from "./wire.ts";

/** A byte range lock; `end` is inclusive, 2^63-1 for "to the end". */
export type FileLock = {
  readonly start: bigint;
  readonly end: bigint;
  /** F_RDLCK 0, F_WRLCK 1, F_UNLCK 2. */
  readonly type: number;
  readonly pid: number;
};

/** GETLK, SETLK, SETLKW. */
export type LockRequest = {
  readonly header: RequestHeader;
  readonly handle: number;
  /** Stands for the lock's owner in the kernel. */
  readonly owner: bigint;
  readonly lock: FileLock;
  /** flock(2), of the whole file; else POSIX. */
  readonly flock: boolean;
};

const LK_FLOCK = 1;

export function decodeLock(frame: RequestFrame): LockRequest {
  return {
    header: frame.header,
    handle: frame.safe64(0),
    owner: frame.u64(8),
    lock: { start: frame.i64(16), end: frame.i64(24), type: frame.u32(32), pid: frame.u32(36) },
    flock: (frame.u32(40) & LK_FLOCK) !== 0,
  };
}

/** sizeof(struct fuse_lk_out). */
export const LK_OUT_BYTES = 24;

/** `struct fuse_lk_out` at `at`. */
export function encodeLkOut(wire: Wire, at: number, lock: FileLock): void {
  wire.setU64(at, lock.start);
  wire.setU64(at + 8, lock.end);
  wire.setU32(at + 16, lock.type);
  wire.setU32(at + 20, lock.pid);
}
