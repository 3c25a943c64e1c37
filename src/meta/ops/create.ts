import { FsError } from "../../domain/errors.ts";
import type { ContentId, InodeId, Lsn } from "../../domain/ids.ts";
import {
  isDirectory,
  isRegular,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  S_ISGID,
} from "../../domain/inode.ts";
import type { RequestContext, WriteRequest } from "../../domain/metadata-api.ts";
import { RECORD_OP, type RecordOp } from "../../domain/record-op.ts";
import { ACL_ACCESS, ACL_DEFAULT, decodeAcl, encodeAcl, inheritAcl } from "../acl.ts";
import { checkName, type EngineCore } from "../core.ts";
import { inodeDetail, nameDetail } from "../detail.ts";
import type { InodeRow } from "../rows.ts";
import type { Transaction } from "../transaction.ts";
import { setattr } from "./setattr.ts";

/** Longest target of a symbolic link: PATH_MAX without its NUL. */
const TARGET_BYTES_MAX = 4095;

const KINDS = new Set([S_IFSOCK, S_IFREG, S_IFBLK, S_IFCHR, S_IFIFO]);
const NO_BYTES = Buffer.alloc(0);

type Draft = { readonly mode: number; readonly umask: number; readonly rdev?: number; readonly target?: Buffer };

export function mknod(core: EngineCore, request: WriteRequest & { op: "mknod" }, context: RequestContext): InodeRow {
  const type = request.mode & S_IFMT || S_IFREG;
  if (!KINDS.has(type)) throw FsError.of(type === S_IFDIR ? "EPERM" : "EINVAL");
  const isDevice = type === S_IFBLK || type === S_IFCHR;
  const draft = { mode: (request.mode & 0o7777) | type, umask: request.umask, rdev: isDevice ? request.rdev : 0 };
  return addNew(core, context, request, draft, RECORD_OP.MKNOD);
}

export function create(core: EngineCore, request: WriteRequest & { op: "create" }, context: RequestContext): InodeRow {
  const existing =
    request.name.length > 0 && request.name.length < 256 ? core.dentry(request.parent, request.name) : undefined;
  if (existing !== undefined && !request.exclusive) return openExisting(core, existing.ino, request.truncate, context);
  const draft = { mode: (request.mode & 0o7777) | S_IFREG, umask: request.umask };
  return addNew(core, context, request, draft, RECORD_OP.CREATE);
}

/** open(O_CREAT) found the file there: another mount was faster. */
function openExisting(core: EngineCore, ino: InodeId, truncate: boolean, context: RequestContext): InodeRow {
  const inode = core.inode(ino);
  if (isDirectory(inode.mode)) throw FsError.of("EISDIR");
  // A symbolic link, FIFO or device is not opened by CREATE: at ESTALE the kernel walks the path again, and finds it.
  if (!isRegular(inode.mode)) throw FsError.of("ESTALE");
  if (!truncate) return inode;
  return setattr(core, { op: "setattr", ino, set: { size: 0n, killPrivileges: true } }, context);
}

export function mkdir(core: EngineCore, request: WriteRequest & { op: "mkdir" }, context: RequestContext): InodeRow {
  const draft = { mode: (request.mode & 0o7777) | S_IFDIR, umask: request.umask };
  return addNew(core, context, request, draft, RECORD_OP.MKDIR);
}

export function symlink(
  core: EngineCore,
  request: WriteRequest & { op: "symlink" },
  context: RequestContext,
): InodeRow {
  if (request.target.length === 0) throw FsError.of("ENOENT");
  if (request.target.length > TARGET_BYTES_MAX) throw FsError.of("ENAMETOOLONG");
  const draft = { mode: S_IFLNK | 0o777, umask: 0, target: Buffer.from(request.target) };
  return addNew(core, context, request, draft, RECORD_OP.SYMLINK);
}

/** O_TMPFILE: an inode without a name, which ends when the kernel lets go of it or gets one by link. Counts as told to the mount's kernel. */
export function tmpfile(
  core: EngineCore,
  request: WriteRequest & { op: "tmpfile" },
  context: RequestContext,
): InodeRow {
  const parent = core.directory(request.parent);
  const tx = core.begin(context);
  const made = newInode(core, tx, parent, { mode: (request.mode & 0o7777) | S_IFREG, umask: request.umask });
  const inode = tx.put({ ...made, nlink: 0 });
  // Held before it is committed as an orphan: an orphan that nobody holds would end at once.
  core.holders.hold(context.actor.mountId, inode.ino);
  try {
    if (core.holders.of(inode.ino).length > 0) tx.unlinked(inode);
    tx.commit(RECORD_OP.TMPFILE, inodeDetail(inode.ino));
  } catch (error) {
    core.holders.release(context.actor.mountId, inode.ino, 1);
    throw error;
  }
  return inode;
}

function addNew(
  core: EngineCore,
  context: RequestContext,
  at: { readonly parent: InodeId; readonly name: Buffer },
  draft: Draft,
  op: RecordOp,
): InodeRow {
  checkName(at.name);
  const parent = core.directory(at.parent);
  if (parent.nlink === 0) throw FsError.of("ENOENT");
  if (core.dentry(at.parent, at.name) !== undefined) throw FsError.of("EEXIST");
  const tx = core.begin(context);
  const inode = newInode(core, tx, parent, draft);
  const isDir = isDirectory(inode.mode);
  tx.addDentry(at.parent, at.name, inode.ino, (inode.mode & S_IFMT) >> 12);
  const links = isDir ? 1 : 0;
  tx.put({ ...parent, size: parent.size + 1n, nlink: parent.nlink + links, mtime: tx.time, ctime: tx.time });
  tx.tellInode(at.parent, false);
  tx.commit(op, nameDetail(inode.ino, at.parent, at.name));
  return inode;
}

/** Puts a new inode into the transaction, with what it inherits from its directory: group, S_ISGID, default ACL. */
export function newInode(core: EngineCore, tx: Transaction, parent: InodeRow, draft: Draft): InodeRow {
  const { actor } = tx.context;
  const ino = tx.allocateInode();
  const isDir = isDirectory(draft.mode);
  const inherits = (parent.mode & S_ISGID) !== 0;
  const acl = inheritedXattrs(core, tx, ino, parent, draft);
  let mode = (draft.mode & ~0o777) | acl.bits;
  if (inherits && isDir) mode |= S_ISGID;
  const target = draft.target ?? NO_BYTES;
  return tx.put({
    ino,
    since: 0 as Lsn,
    generation: (tx.lsn % 0xffff_ffff) + 1,
    mode,
    uid: actor.uid,
    gid: inherits ? parent.gid : actor.gid,
    nlink: isDir ? 2 : 1,
    rdev: draft.rdev ?? 0,
    size: BigInt(target.length),
    allocatedBytes: 0n,
    atime: tx.time,
    mtime: tx.time,
    ctime: tx.time,
    btime: tx.time,
    contentId: 0 as ContentId,
    parent: isDir ? parent.ino : 0,
    restoredFrom: 0,
    target,
    xattrCount: acl.count,
  });
}

function inheritedXattrs(
  core: EngineCore,
  tx: Transaction,
  ino: InodeId,
  parent: InodeRow,
  draft: Draft,
): { bits: number; count: number } {
  const isLink = (draft.mode & S_IFMT) === S_IFLNK;
  const defaults = isLink ? undefined : core.xattr(parent, ACL_DEFAULT);
  if (defaults === undefined) return { bits: draft.mode & 0o777 & ~draft.umask, count: 0 };
  const inherited = inheritAcl(decodeAcl(defaults), draft.mode);
  let count = 0;
  if (inherited.entries.length > 3) count += tx.putXattr(ino, ACL_ACCESS, encodeAcl(inherited.entries));
  if (isDirectory(draft.mode)) count += tx.putXattr(ino, ACL_DEFAULT, defaults);
  return { bits: inherited.bits, count };
}
