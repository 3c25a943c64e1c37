import type { GetattrRequest, SetattrRequest, StatxRequest } from "./attribute-codec.ts";
import type { ReaddirRequest } from "./directory-codec.ts";
import type {
  CopyFileRangeRequest,
  FallocateRequest,
  FlushRequest,
  FsyncRequest,
  LseekRequest,
  OpenRequest,
  ReadRequest,
  ReleaseRequest,
  WriteRequest,
} from "./file-codec.ts";
import type { LockRequest } from "./lock-codec.ts";
import type { Forgotten, IoctlRequest, PlainRequest, PollRequest } from "./misc-codec.ts";
import type {
  CreateRequest,
  LinkRequest,
  LookupRequest,
  MkdirRequest,
  MknodRequest,
  RemoveRequest,
  RenameRequest,
  SymlinkRequest,
} from "./namespace-codec.ts";
import type { Reply } from "./reply.ts";
import type { GetxattrRequest, ListxattrRequest, RemovexattrRequest, SetxattrRequest } from "./xattr-codec.ts";

/**
 * The file system behind a connection: one method for each request, all optional. A method that is absent answers ENOSYS, which the kernel
 * takes as "never ask again" for many of them.
 *
 * Each is called on the loop's thread, in the order in which the kernel hands requests out (which says nothing about the order in which
 * applications made them). The usual one answers through `reply` before it returns: no promise, no waiting. One that must wait returns a
 * promise and answers before that settles; other requests are served meanwhile.
 *
 * Views in a request (names, data) are valid until the method has returned or, if it returned a promise, until that is settled.
 *
 * Thrown or rejected: an error with a positive integer `errno` (FsError) answers that errno; anything else answers EIO and is reported as a
 * defect. A request with `header.resent` may have been carried out by a former process: a mutation must not run twice.
 */
export type Operation<Request> = (request: Request, reply: Reply) => void | Promise<void>;

export interface NamespaceOperations {
  lookup?: Operation<LookupRequest>;
  mknod?: Operation<MknodRequest>;
  mkdir?: Operation<MkdirRequest>;
  symlink?: Operation<SymlinkRequest>;
  link?: Operation<LinkRequest>;
  unlink?: Operation<RemoveRequest>;
  rmdir?: Operation<RemoveRequest>;
  rename?: Operation<RenameRequest>;
  create?: Operation<CreateRequest>;
  tmpfile?: Operation<CreateRequest>;
  readlink?: Operation<PlainRequest>;
}

export interface AttributeOperations {
  getattr?: Operation<GetattrRequest>;
  setattr?: Operation<SetattrRequest>;
  statx?: Operation<StatxRequest>;
  statfs?: Operation<PlainRequest>;
}

export interface FileOperations {
  open?: Operation<OpenRequest>;
  read?: Operation<ReadRequest>;
  write?: Operation<WriteRequest>;
  flush?: Operation<FlushRequest>;
  release?: Operation<ReleaseRequest>;
  fsync?: Operation<FsyncRequest>;
  fallocate?: Operation<FallocateRequest>;
  lseek?: Operation<LseekRequest>;
  copyFileRange?: Operation<CopyFileRangeRequest>;
  ioctl?: Operation<IoctlRequest>;
  poll?: Operation<PollRequest>;
}

export interface DirectoryOperations {
  opendir?: Operation<OpenRequest>;
  readdir?: Operation<ReaddirRequest>;
  readdirplus?: Operation<ReaddirRequest>;
  releasedir?: Operation<ReleaseRequest>;
  fsyncdir?: Operation<FsyncRequest>;
}

export interface XattrOperations {
  getxattr?: Operation<GetxattrRequest>;
  listxattr?: Operation<ListxattrRequest>;
  setxattr?: Operation<SetxattrRequest>;
  removexattr?: Operation<RemovexattrRequest>;
}

/** Called only with locks in the service (INIT option `locks: "service"`). */
export interface LockOperations {
  getlk?: Operation<LockRequest>;
  setlk?: Operation<LockRequest>;
  /** Waits for the lock; ends with EINTR when `reply.signal` aborts. */
  setlkw?: Operation<LockRequest>;
}

export interface FuseOperations
  extends NamespaceOperations,
    AttributeOperations,
    FileOperations,
    DirectoryOperations,
    XattrOperations,
    LockOperations {
  /** The kernel dropped inodes, or some of their lookups. No answer, no failure; never re-sent after a restart. */
  forget?(forgotten: readonly Forgotten[]): void;
}
