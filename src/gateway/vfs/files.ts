import { FsError } from "../../domain/errors.ts";
import { LIVE, NAME_BYTES_MAX } from "../../domain/ids.ts";
import type { SetAttributes } from "../../domain/metadata-api.ts";
import type * as attributes from "../fuse/attribute-codec.ts";
import type * as codec from "../fuse/file-codec.ts";
import type { PlainRequest } from "../fuse/misc-codec.ts";
import type { FuseOperations } from "../fuse/operations.ts";
import type { Reply } from "../fuse/reply.ts";
import { type VfsContext, whenDone } from "./context.ts";
import { openedAs } from "./namespace.ts";
import { attributesOf } from "./validity.ts";
import { MAY_EXECUTE, MAY_READ } from "./view-permissions.ts";
import type { ViewsDirectory } from "./views-directory.ts";

const ENOTTY = 25;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/** open(2) flags (asm-generic/fcntl.h), and the kernel's own FMODE_EXEC, which it passes on. */
const O_ACCMODE = 3;
const O_APPEND = 0o2000;
const O_DIRECT = 0o40000;
const FMODE_EXEC = 0x20;

/**
 * Attributes and content. There is usually no `open`: answering it ENOSYS once makes the kernel open and close without asking (FUSE_NO_OPEN_SUPPORT).
 * Handles carry no state here, orphans end at FORGET, and locks are the kernel's, so nothing is lost by not knowing; O_TRUNC comes as SETATTR, since
 * FUSE_ATOMIC_O_TRUNC is not negotiated.
 */
export function fileOperations(vfs: VfsContext, views: ViewsDirectory): FuseOperations {
  const asksOpens = vfs.options.asksOpens || vfs.options.sharedLocks !== undefined;
  return {
    ...(asksOpens ? { open: (request: codec.OpenRequest, reply: Reply) => open(vfs, request, reply) } : {}),
    getattr: (request, reply) => getattr(vfs, views, request, reply),
    statx: (request, reply) => statx(vfs, views, request, reply),
    setattr: (request, reply) => setattr(vfs, request, reply),
    statfs: (request, reply) => statfs(vfs, request, reply),
    read: (request, reply) => read(vfs, request, reply),
    write: (request, reply) => write(vfs, request, reply),
    fsync: (request, reply) => fsync(vfs, request, reply),
    fsyncdir: (request, reply) => fsync(vfs, request, reply),
    fallocate: (request, reply) => fallocate(vfs, request, reply),
    lseek: (request, reply) => lseek(vfs, request, reply),
    copyFileRange: (request, reply) => copyFileRange(vfs, request, reply),
    ioctl: (_request, reply) => reply.error(ENOTTY),
    // The kernel releases only what CREATE or OPEN opened; there is nothing to let go of, but for locks that are kept here (locks.ts).
    release: (_request, reply) => reply.ok(),
  };
}

function open(vfs: VfsContext, request: codec.OpenRequest, reply: Reply): void | Promise<void> {
  const { header, flags } = request;
  const node = vfs.node(header.slot, header.ino);
  if (node.slot !== 0 && (flags & O_ACCMODE) !== 0) throw FsError.of("EROFS");
  const wanted = (flags & FMODE_EXEC) !== 0 ? MAY_EXECUTE : MAY_READ;
  return whenDone(vfs.permissions.check(node, { header, reply }, wanted), () => {
    const opened = openedAs(vfs, header);
    reply.opened(opened.handle, opened.flags);
  });
}

function getattr(
  vfs: VfsContext,
  views: ViewsDirectory,
  request: attributes.GetattrRequest,
  reply: Reply,
): void | Promise<void> {
  const { header } = request;
  if (vfs.isViews(header.slot)) return views.getattr(reply);
  const node = vfs.node(header.slot, header.ino);
  const askedMs = vfs.askedMs();
  const result = vfs.api.execute({ op: "getattr", ino: node.ino, at: node.at }, vfs.context(header, reply));
  return whenDone(result, (inode) =>
    reply.attributes(attributesOf(inode, vfs.numberOf(inode.ino)), vfs.validity(header.slot, askedMs, inode.ino)),
  );
}

function statx(
  vfs: VfsContext,
  views: ViewsDirectory,
  request: attributes.StatxRequest,
  reply: Reply,
): void | Promise<void> {
  const { header } = request;
  if (vfs.isViews(header.slot)) return views.statx(reply);
  const node = vfs.node(header.slot, header.ino);
  const askedMs = vfs.askedMs();
  const result = vfs.api.execute({ op: "getattr", ino: node.ino, at: node.at }, vfs.context(header, reply));
  return whenDone(result, (inode) =>
    reply.statx(attributesOf(inode, vfs.numberOf(inode.ino)), vfs.validity(header.slot, askedMs, inode.ino)),
  );
}

function setattr(vfs: VfsContext, request: attributes.SetattrRequest, reply: Reply): void | Promise<void> {
  const { header } = request;
  const ino = vfs.liveNode(header.slot, header.ino);
  const set: { -readonly [Key in keyof SetAttributes]: SetAttributes[Key] } = {};
  if (request.mode !== undefined) set.mode = request.mode;
  if (request.uid !== undefined) set.uid = request.uid;
  if (request.gid !== undefined) set.gid = request.gid;
  if (request.size !== undefined) set.size = request.size;
  if (request.atime !== undefined) set.atime = request.atime;
  if (request.mtime !== undefined) set.mtime = request.mtime;
  if (request.killPrivileges) set.killPrivileges = true;
  const askedMs = vfs.askedMs();
  const result = vfs.api.execute({ op: "setattr", ino, set }, vfs.context(header, reply));
  return whenDone(result, (inode) =>
    reply.attributes(attributesOf(inode, vfs.numberOf(inode.ino)), vfs.validity(0, askedMs)),
  );
}

function statfs(vfs: VfsContext, request: PlainRequest, reply: Reply): void | Promise<void> {
  return whenDone(vfs.api.execute({ op: "statfs" }, vfs.context(request.header, reply)), (space) => {
    reply.space({ ...space, blocksAvailable: space.blocksFree, nameBytesMax: NAME_BYTES_MAX });
  });
}

function read(vfs: VfsContext, request: codec.ReadRequest, reply: Reply): void | Promise<void> {
  const { header, offset } = request;
  const node = vfs.node(header.slot, header.ino);
  const result = vfs.api.execute(
    { op: "read", ino: node.ino, offset, length: request.size, at: node.at },
    vfs.context(header, reply),
  );
  return whenDone(result, (pieces) => reply.data(pieces));
}

function write(vfs: VfsContext, request: codec.WriteRequest, reply: Reply): void | Promise<void> {
  const { header, offset, data, killPrivileges } = request;
  const ino = vfs.liveNode(header.slot, header.ino);
  const { appends } = vfs.options;
  const append = isAppend(request) && (appends === "any" || appends.isDoubtful(ino));
  const result = vfs.api.execute(
    { op: "write", ino, offset, data, killPrivileges, append },
    vfs.context(header, reply),
  );
  return whenDone(result, (bytes) => reply.written(bytes));
}

/** Direct writes come several at a time and in any order, so nothing can be said about their place. Written-back pages have theirs. */
function isAppend({ flags, fromPageCache }: codec.WriteRequest): boolean {
  return (flags & O_APPEND) !== 0 && (flags & O_DIRECT) === 0 && !fromPageCache;
}

function fsync(vfs: VfsContext, request: codec.FsyncRequest, reply: Reply): void | Promise<void> {
  const { header } = request;
  if (header.slot !== 0 || vfs.options.at !== LIVE) return reply.ok();
  const { ino } = vfs.node(header.slot, header.ino);
  return whenDone(vfs.api.execute({ op: "fsync", ino }, vfs.context(header, reply)), () => reply.ok());
}

function fallocate(vfs: VfsContext, request: codec.FallocateRequest, reply: Reply): void | Promise<void> {
  const { header, mode, offset, length } = request;
  const ino = vfs.liveNode(header.slot, header.ino);
  return whenDone(vfs.api.execute({ op: "fallocate", ino, mode, offset, length }, vfs.context(header, reply)), () =>
    reply.ok(),
  );
}

function lseek(vfs: VfsContext, request: codec.LseekRequest, reply: Reply): void | Promise<void> {
  const { header, offset, whence } = request;
  if (whence !== SEEK_DATA && whence !== SEEK_HOLE) throw FsError.of("EINVAL");
  const node = vfs.node(header.slot, header.ino);
  const kind = whence === SEEK_DATA ? "data" : "hole";
  const result = vfs.api.execute(
    { op: "lseek", ino: node.ino, offset, whence: kind, at: node.at },
    vfs.context(header, reply),
  );
  return whenDone(result, (position) => reply.position(position));
}

function copyFileRange(vfs: VfsContext, request: codec.CopyFileRangeRequest, reply: Reply): void | Promise<void> {
  const { header, targetOffset, length } = request;
  if (request.flags !== 0n) throw FsError.of("EINVAL");
  const target = vfs.liveNode(request.targetSlot, request.targetIno);
  const source = vfs.node(header.slot, header.ino);
  const wanted = {
    op: "copyRange",
    source: source.ino,
    sourceOffset: request.offset,
    target,
    targetOffset,
    length,
    sourceAt: source.at,
  } as const;
  return whenDone(vfs.api.execute(wanted, vfs.context(header, reply)), (bytes) => reply.copied(bytes));
}
