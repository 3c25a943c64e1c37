import type { Timestamp } from "../base/clock.ts";
import type { Actor } from "./actor.ts";
import type { InodeId, Lsn } from "./ids.ts";
import type { Inode } from "./inode.ts";

/**
 * The port between a gateway and the metadata engine of one app: one tagged union of requests. It is also the wire message of the session
 * and the alphabet of the model test. Names are raw bytes; whoever builds a request has checked them against NAME_BYTES_MAX, "/" and NUL or gets EINVAL/ENAMETOOLONG.
 *
 * `at`: the moment to read at, `LIVE` for now. Reads at a moment see every row as it was after that LSN.
 * Permission bits are not checked here for mounts with default_permissions: the kernel has done it.
 */
export type ReadRequest =
  | { readonly op: "lookup"; readonly parent: InodeId; readonly name: Buffer; readonly at: Lsn }
  /** `tells`: the answer tells the mount's kernel of the inode, as a lookup does: a FORGET will come. */
  | { readonly op: "getattr"; readonly ino: InodeId; readonly at: Lsn; readonly tells?: boolean }
  /** `cookie` 0n starts; each entry names the cookie that continues after it. "." and ".." are not listed. */
  | {
      readonly op: "readdir";
      readonly ino: InodeId;
      readonly cookie: bigint;
      readonly entriesMax: number;
      /** Also answer the inode of each entry. */
      readonly plus: boolean;
      readonly at: Lsn;
    }
  | { readonly op: "readlink"; readonly ino: InodeId; readonly at: Lsn }
  | { readonly op: "getxattr"; readonly ino: InodeId; readonly name: Buffer; readonly at: Lsn }
  | { readonly op: "listxattr"; readonly ino: InodeId; readonly at: Lsn }
  | { readonly op: "read"; readonly ino: InodeId; readonly offset: bigint; readonly length: number; readonly at: Lsn }
  /** Where the bytes of a range are, for caches that keep them by place: as `read`, without the bytes. EAGAIN while the file's last change is not durable: its places may then come to mean other bytes. */
  | { readonly op: "map"; readonly ino: InodeId; readonly offset: bigint; readonly length: number; readonly at: Lsn }
  /** SEEK_DATA / SEEK_HOLE; ENXIO past the end. */
  | {
      readonly op: "lseek";
      readonly ino: InodeId;
      readonly offset: bigint;
      readonly whence: "data" | "hole";
      readonly at: Lsn;
    }
  | { readonly op: "statfs" }
  /** The lock that would be in the way of `lock`, if any (F_GETLK). */
  | {
      readonly op: "getlk";
      readonly ino: InodeId;
      readonly owner: bigint;
      readonly flock: boolean;
      readonly lock: FileLock;
    };

export type SetAttributes = {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: bigint;
  readonly atime?: Timestamp | "now";
  readonly mtime?: Timestamp | "now";
  readonly ctime?: Timestamp;
  /** Clear set-user-id, set-group-id (and security.capability) as chown, truncate and write by others do (FUSE_HANDLE_KILLPRIV_V2). */
  readonly killPrivileges?: boolean;
};

/** rename2 flags (linux/fs.h). */
export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;
export const RENAME_WHITEOUT = 4;

/** fallocate modes (linux/falloc.h). */
export const FALLOC_KEEP_SIZE = 0x01;
export const FALLOC_PUNCH_HOLE = 0x02;
export const FALLOC_ZERO_RANGE = 0x10;

/** setxattr flags (sys/xattr.h). */
export const XATTR_CREATE = 1;
export const XATTR_REPLACE = 2;

export type WriteRequest =
  /** Makes a regular file, device node, FIFO or socket, by the type in `mode`. Default ACLs and `umask` apply as POSIX.1e says. */
  | {
      readonly op: "mknod";
      readonly parent: InodeId;
      readonly name: Buffer;
      readonly mode: number;
      readonly umask: number;
      readonly rdev: number;
    }
  /** open(O_CREAT): makes a regular file, or opens the one that is there unless `exclusive`; `truncate` then empties it. */
  | {
      readonly op: "create";
      readonly parent: InodeId;
      readonly name: Buffer;
      readonly mode: number;
      readonly umask: number;
      readonly exclusive: boolean;
      readonly truncate: boolean;
    }
  | {
      readonly op: "mkdir";
      readonly parent: InodeId;
      readonly name: Buffer;
      readonly mode: number;
      readonly umask: number;
    }
  | { readonly op: "symlink"; readonly parent: InodeId; readonly name: Buffer; readonly target: Buffer }
  | { readonly op: "link"; readonly ino: InodeId; readonly parent: InodeId; readonly name: Buffer }
  | { readonly op: "tmpfile"; readonly parent: InodeId; readonly mode: number; readonly umask: number }
  | { readonly op: "unlink"; readonly parent: InodeId; readonly name: Buffer }
  | { readonly op: "rmdir"; readonly parent: InodeId; readonly name: Buffer }
  | {
      readonly op: "rename";
      readonly parent: InodeId;
      readonly name: Buffer;
      readonly newParent: InodeId;
      readonly newName: Buffer;
      readonly flags: number;
    }
  /**
   * `data` is borrowed for the turn of the call: kept nowhere after it. At most WRITE_BYTES_MAX. With `append` they go to the end of the file, wherever that is by now: `offset` is
   * only where the asker believes it to be, and if that is wrong its own cache is told to forget too.
   */
  | {
      readonly op: "write";
      readonly ino: InodeId;
      readonly offset: bigint;
      readonly data: Uint8Array;
      readonly killPrivileges: boolean;
      readonly append?: boolean;
    }
  | { readonly op: "setattr"; readonly ino: InodeId; readonly set: SetAttributes }
  | {
      readonly op: "fallocate";
      readonly ino: InodeId;
      readonly mode: number;
      readonly offset: bigint;
      readonly length: bigint;
    }
  /** Shares the source's extents: no data is copied. */
  | {
      readonly op: "copyRange";
      readonly source: InodeId;
      readonly sourceOffset: bigint;
      readonly target: InodeId;
      readonly targetOffset: bigint;
      readonly length: bigint;
      readonly sourceAt: Lsn;
    }
  | {
      readonly op: "setxattr";
      readonly ino: InodeId;
      readonly name: Buffer;
      readonly value: Buffer;
      readonly flags: number;
      readonly killSgid: boolean;
    }
  | { readonly op: "removexattr"; readonly ino: InodeId; readonly name: Buffer }
  /** Resolves when everything acknowledged before is durable. EIO after a failed sync. */
  | { readonly op: "fsync"; readonly ino: InodeId }
  /**
   * Takes, changes or (type "unlock") gives back a lock of `owner` on the range, as fcntl(2) and flock(2) say. EAGAIN when another holder is in the way; with `wait` it waits instead,
   * until `context.signal` ends that with EINTR. A lock belongs to the mount of the context too, and goes with it.
   */
  | {
      readonly op: "setlk";
      readonly ino: InodeId;
      readonly owner: bigint;
      readonly flock: boolean;
      readonly lock: FileLock;
      readonly wait: boolean;
    }
  /**
   * The mount's kernel forgets `lookups` (absent: all) of the times it was told of the inode by lookup, readdir with `plus`, or something that makes or links
   * one. When nobody holds it any more, an orphan ends. Never fails.
   */
  | { readonly op: "forget"; readonly ino: InodeId; readonly lookups?: number };

export type Request = ReadRequest | WriteRequest;

/** Whether a request changes something: such a one leaves a record with who asked, and must not run twice. */
export function isChange({ op }: Request): boolean {
  return !UNCHANGING.has(op);
}

const UNCHANGING: ReadonlySet<Request["op"]> = new Set([
  "lookup",
  "getattr",
  "readdir",
  "readlink",
  "getxattr",
  "listxattr",
  "read",
  "map",
  "lseek",
  "statfs",
  "getlk",
  "fsync",
  "forget",
]);

/** A piece of a file: `place` is where its bytes are in the app's journal, and never means other bytes; absent: a hole. */
export type MappedPiece = {
  readonly offset: bigint;
  readonly length: number;
  readonly place?: { readonly segment: number; readonly position: number };
};

/** A byte range lock; `end` is inclusive, 2^63-1n for "to the end". flock(2) locks have the whole range. */
export type FileLock = {
  readonly start: bigint;
  readonly end: bigint;
  readonly type: "read" | "write" | "unlock";
  readonly pid: number;
};

/** Largest `data` of one write and largest read answered at once. */
export const WRITE_BYTES_MAX = 1024 * 1024;

export type DirectoryEntry = {
  readonly name: Buffer;
  readonly ino: InodeId;
  /** d_type: S_IFMT part of mode >> 12. */
  readonly type: number;
  /** Continue after this entry. */
  readonly cookie: bigint;
  /** With `plus`. */
  readonly inode?: Inode;
};

export type StatFs = {
  readonly blockBytes: number;
  readonly blocksTotal: bigint;
  readonly blocksFree: bigint;
  readonly inodesTotal: bigint;
  readonly inodesFree: bigint;
};

/** What each request is answered with. Failures are thrown (or rejected) as FsError. */
export type ReplyMap = {
  lookup: Inode;
  getattr: Inode;
  readdir: { readonly entries: readonly DirectoryEntry[]; readonly end: boolean };
  readlink: Buffer;
  getxattr: Buffer;
  listxattr: readonly Buffer[];
  /** Pieces in order; together at most `length` bytes, fewer only at the end of the file. Holes are zeros. Owned by the caller until the next turn. */
  read: readonly Uint8Array[];
  /** In order, without gaps; they end where the file ends. */
  map: readonly MappedPiece[];
  lseek: bigint;
  statfs: StatFs;
  getlk: FileLock | undefined;
  mknod: Inode;
  create: Inode;
  mkdir: Inode;
  symlink: Inode;
  link: Inode;
  tmpfile: Inode;
  unlink: undefined;
  rmdir: undefined;
  rename: undefined;
  /** Bytes written. */
  write: number;
  setattr: Inode;
  fallocate: undefined;
  copyRange: bigint;
  setxattr: undefined;
  removexattr: undefined;
  fsync: undefined;
  setlk: undefined;
  forget: undefined;
};

export type ReplyOf<R extends Request> = ReplyMap[R["op"]];

/** Who asks. */
export type RequestContext = {
  readonly actor: Actor;
  /** The request's number on its mount; 0 = none. With `resent` the engine first looks whether a record of it exists and answers from that. */
  readonly unique: number;
  readonly resent: boolean;
  /** Ends what waits (a lock) when the caller was interrupted. */
  readonly signal?: AbortSignal;
};

/** What other caches must forget after a change. `excluding` mount made it itself and knows. */
export type Invalidation =
  /** `listing`: the inode is a directory and its data are what readdir answers. May be missing where it has come a long way. */
  | {
      readonly kind: "inode";
      readonly ino: InodeId;
      readonly data: boolean;
      readonly listing?: boolean;
      readonly excluding: number;
    }
  /** A name, and the listing and the attributes of its directory. `before`: the inode that it named until now, 0 for none; absent: not known. */
  | {
      readonly kind: "entry";
      readonly parent: InodeId;
      readonly name: Buffer;
      readonly before?: InodeId | 0;
      readonly excluding: number;
    }
  /** A snapshot of the app came, went or means another moment: a name in the hidden directory of views, which no inode stands for. */
  | { readonly kind: "snapshot"; readonly name: Buffer; readonly excluding: number };

export interface MetadataApi {
  /**
   * Executes one request. The usual one is answered in the same turn; what must wait (cold data, fsync, back-pressure) answers a Promise.
   * A mutation is one journal record, appended before the answer. Throws or rejects with FsError only; nothing has changed then.
   */
  execute<R extends Request>(request: R, context: RequestContext): ReplyOf<R> | Promise<ReplyOf<R>>;
  /** Calls `listener` after each change with what caches of other mounts must forget, in order, before the change is answered. Returns the way to stop. */
  subscribe(listener: (invalidation: Invalidation) => void): () => void;
  /** Finishes what runs, makes everything durable, and ends. Once. */
  close(): Promise<void>;
}
