import type { Timestamp } from "../base/clock.ts";
import type { ContentId, InodeId, Lsn } from "./ids.ts";

/** File type bits of `mode` (POSIX sys/stat.h; the values are Linux's). */
export const S_IFMT = 0o170000;
export const S_IFSOCK = 0o140000;
export const S_IFLNK = 0o120000;
export const S_IFREG = 0o100000;
export const S_IFBLK = 0o060000;
export const S_IFDIR = 0o040000;
export const S_IFCHR = 0o020000;
export const S_IFIFO = 0o010000;
export const S_ISUID = 0o4000;
export const S_ISGID = 0o2000;
export const S_ISVTX = 0o1000;

/** Largest file size and offset: 2^63-1, as off_t has it. */
export const SIZE_BYTES_MAX = 2n ** 63n - 1n;

/** Every attribute of an inode as of one moment. Immutable: a change makes a new one. */
export type Inode = {
  readonly ino: InodeId;
  /** The LSN since which exactly these attributes hold. */
  readonly since: Lsn;
  /** Generation, for file handles (NFS export). The number of an inode is never reused, so it is the low half of the creating LSN. */
  readonly generation: number;
  /** Type and permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  /** Device number of a device node, in Linux's 32-bit new_encode_dev form; else 0. */
  readonly rdev: number;
  /** Bytes of content; for a symbolic link the length of its target; for a directory its entry count (st_size of a directory is unspecified by POSIX). */
  readonly size: bigint;
  /** Bytes allocated in slices, rounded up by writes; st_blocks is this / 512. */
  readonly allocatedBytes: bigint;
  readonly atime: Timestamp;
  readonly mtime: Timestamp;
  readonly ctime: Timestamp;
  readonly btime: Timestamp;
  readonly contentId: ContentId;
  /** For a directory: its parent (the root's is itself); else 0. */
  readonly parent: InodeId | 0;
  /** Target of a symbolic link; else empty. */
  readonly target: Buffer;
  /** The inode that this one was restored from, if it was a dead one; else 0. */
  readonly restoredFrom: InodeId | 0;
};

/** A name in a directory. `type` is the S_IFMT part of the inode's mode, shifted right by 12 (d_type). */
export type Dentry = { readonly ino: InodeId; readonly type: number; readonly since: Lsn };

export const isDirectory = (mode: number): boolean => (mode & S_IFMT) === S_IFDIR;
export const isRegular = (mode: number): boolean => (mode & S_IFMT) === S_IFREG;
export const isSymlink = (mode: number): boolean => (mode & S_IFMT) === S_IFLNK;
