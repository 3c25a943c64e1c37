import type { RequestFrame, RequestHeader } from "./frame.ts";
import type { Wire } from "./wire.ts";

/** OPEN and OPENDIR. */
export type OpenRequest = {
  readonly header: RequestHeader;
  /** open(2) flags, Linux's values, without O_CREAT and O_EXCL; with O_TRUNC, which is the file system's (FUSE_ATOMIC_O_TRUNC). */
  readonly flags: number;
  readonly killPrivileges: boolean;
};
export type ReadRequest = {
  readonly header: RequestHeader;
  readonly handle: number;
  readonly offset: bigint;
  readonly size: number;
  /** open(2) flags of the file. */
  readonly flags: number;
  readonly lockOwner: bigint | undefined;
};
export type WriteRequest = {
  readonly header: RequestHeader;
  readonly handle: number;
  readonly offset: bigint;
  /** A view of the read buffer. */
  readonly data: Buffer;
  readonly flags: number;
  /** Written back from a shared mapping: `handle` is any open one, the caller's uid is not the writer's (FUSE_WRITE_CACHE). */
  readonly fromPageCache: boolean;
  readonly killPrivileges: boolean;
  readonly lockOwner: bigint | undefined;
};
/** RELEASE and RELEASEDIR. */
export type ReleaseRequest = {
  readonly header: RequestHeader;
  readonly handle: number;
  readonly flags: number;
  readonly flush: boolean;
  readonly flockUnlock: boolean;
  readonly lockOwner: bigint;
};
export type FlushRequest = { readonly header: RequestHeader; readonly handle: number; readonly lockOwner: bigint };
/** FSYNC and FSYNCDIR. */
export type FsyncRequest = { readonly header: RequestHeader; readonly handle: number; readonly dataOnly: boolean };
export type FallocateRequest = {
  readonly header: RequestHeader;
  readonly handle: number;
  readonly offset: bigint;
  readonly length: bigint;
  /** FALLOC_FL_*; 0 allocates and extends. */
  readonly mode: number;
};
export type LseekRequest = {
  readonly header: RequestHeader;
  readonly handle: number;
  readonly offset: bigint;
  /** SEEK_DATA 3, SEEK_HOLE 4 (others are the kernel's own, except on a file system that says otherwise). */
  readonly whence: number;
};
/** COPY_FILE_RANGE and COPY_FILE_RANGE_64. `header` names the source. */
export type CopyFileRangeRequest = {
  readonly header: RequestHeader;
  readonly handle: number;
  readonly offset: bigint;
  readonly targetSlot: number;
  readonly targetIno: number;
  readonly targetHandle: number;
  readonly targetOffset: bigint;
  readonly length: bigint;
  readonly flags: bigint;
};

/** FOPEN_* flags of an answer to OPEN, OPENDIR and CREATE (linux/fuse.h). */
export const FOPEN = {
  DIRECT_IO: 1 << 0,
  /** What the page cache holds of this file is still right. */
  KEEP_CACHE: 1 << 1,
  NONSEEKABLE: 1 << 2,
  /** The kernel may cache this directory's listing. */
  CACHE_DIR: 1 << 3,
  STREAM: 1 << 4,
  /** No FLUSH at close. */
  NOFLUSH: 1 << 5,
  PARALLEL_DIRECT_WRITES: 1 << 6,
} as const;

const OPEN_KILL_SUIDGID = 1;
const READ_LOCKOWNER = 1 << 1;
const WRITE_CACHE = 1 << 0;
const WRITE_LOCKOWNER = 1 << 1;
const WRITE_KILL_SUIDGID = 1 << 2;
const RELEASE_FLUSH = 1 << 0;
const RELEASE_FLOCK_UNLOCK = 1 << 1;
const FSYNC_FDATASYNC = 1 << 0;

export function decodeOpen(frame: RequestFrame): OpenRequest {
  return { header: frame.header, flags: frame.u32(0), killPrivileges: (frame.u32(4) & OPEN_KILL_SUIDGID) !== 0 };
}

export function decodeRead(frame: RequestFrame): ReadRequest {
  return {
    header: frame.header,
    handle: frame.safe64(0),
    offset: frame.i64(8),
    size: frame.u32(16),
    flags: frame.u32(32),
    lockOwner: (frame.u32(20) & READ_LOCKOWNER) !== 0 ? frame.u64(24) : undefined,
  };
}

export function decodeWrite(frame: RequestFrame): WriteRequest {
  const writeFlags = frame.u32(20);
  return {
    header: frame.header,
    handle: frame.safe64(0),
    offset: frame.i64(8),
    data: frame.bytes(40, frame.u32(16)),
    flags: frame.u32(32),
    fromPageCache: (writeFlags & WRITE_CACHE) !== 0,
    killPrivileges: (writeFlags & WRITE_KILL_SUIDGID) !== 0,
    lockOwner: (writeFlags & WRITE_LOCKOWNER) !== 0 ? frame.u64(24) : undefined,
  };
}

export function decodeRelease(frame: RequestFrame): ReleaseRequest {
  const releaseFlags = frame.u32(12);
  return {
    header: frame.header,
    handle: frame.safe64(0),
    flags: frame.u32(8),
    flush: (releaseFlags & RELEASE_FLUSH) !== 0,
    flockUnlock: (releaseFlags & RELEASE_FLOCK_UNLOCK) !== 0,
    lockOwner: frame.u64(16),
  };
}

export function decodeFlush(frame: RequestFrame): FlushRequest {
  return { header: frame.header, handle: frame.safe64(0), lockOwner: frame.u64(16) };
}

export function decodeFsync(frame: RequestFrame): FsyncRequest {
  return { header: frame.header, handle: frame.safe64(0), dataOnly: (frame.u32(8) & FSYNC_FDATASYNC) !== 0 };
}

export function decodeFallocate(frame: RequestFrame): FallocateRequest {
  return {
    header: frame.header,
    handle: frame.safe64(0),
    offset: frame.i64(8),
    length: frame.i64(16),
    mode: frame.u32(24),
  };
}

export function decodeLseek(frame: RequestFrame): LseekRequest {
  return { header: frame.header, handle: frame.safe64(0), offset: frame.i64(8), whence: frame.u32(16) };
}

export function decodeCopyFileRange(frame: RequestFrame): CopyFileRangeRequest {
  return {
    header: frame.header,
    handle: frame.safe64(0),
    offset: frame.i64(8),
    targetSlot: frame.nodeSlot(16),
    targetIno: frame.nodeIno(16),
    targetHandle: frame.safe64(24),
    targetOffset: frame.i64(32),
    length: frame.u64(40),
    flags: frame.u64(48),
  };
}

/** sizeof(struct fuse_open_out). */
export const OPEN_OUT_BYTES = 16;

/** `struct fuse_open_out` at `at`. */
export function encodeOpenOut(wire: Wire, at: number, from: { handle: number; flags: number }): void {
  wire.setSafe64(at, from.handle);
  wire.setU32(at + 8, from.flags);
  wire.setU32(at + 12, 0);
}
