import type { Timestamp } from "../../base/clock.ts";
import { FsError } from "../../domain/errors.ts";
import type { ContentId } from "../../domain/ids.ts";
import { isDirectory, isRegular, S_IFMT, S_ISGID, S_ISUID, SIZE_BYTES_MAX } from "../../domain/inode.ts";
import type { RequestContext, SetAttributes, WriteRequest } from "../../domain/metadata-api.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import { ACL_ACCESS, chmodAcl, decodeAcl, encodeAcl } from "../acl.ts";
import type { EngineCore } from "../core.ts";
import { setattrDetail } from "../detail.ts";
import type { InodeRow } from "../rows.ts";
import type { Transaction } from "../transaction.ts";

export const CAPABILITY = Buffer.from("security.capability");

/** chmod, chown, truncate, utimens: what `set` names, in one record. */
export function setattr(
  core: EngineCore,
  request: WriteRequest & { op: "setattr" },
  context: RequestContext,
): InodeRow {
  const { set } = request;
  const before = core.inode(request.ino);
  const mask = maskOf(set);
  if (mask === 0 && !set.killPrivileges) return before;
  const tx = core.begin(context);
  let inode: InodeRow = { ...before, ctime: set.ctime ?? tx.time };
  if (set.size !== undefined) {
    inode = resize(tx, inode, set.size);
    inode = { ...inode, xattrCount: inode.xattrCount + dropCapability(tx, inode) };
  }
  if (set.uid !== undefined || set.gid !== undefined) inode = chown(tx, inode, set);
  if (set.mode !== undefined) inode = chmod(core, tx, inode, set.mode);
  if (set.killPrivileges && !isDirectory(inode.mode)) inode = dropPrivileges(tx, inode);
  if (set.atime !== undefined) inode = { ...inode, atime: timeOf(set.atime, tx) };
  if (set.mtime !== undefined) inode = { ...inode, mtime: timeOf(set.mtime, tx) };
  inode = tx.put(inode);
  tx.tellInode(inode.ino, set.size !== undefined);
  // A truncation that finds the file empty already must not fail on a full disk either.
  const shrinks = set.size !== undefined && set.size <= before.size;
  tx.commit(RECORD_OP.SETATTR, setattrDetail(inode.ino, mask, inode.size), { useReserve: shrinks });
  return inode;
}

/** Changes the size of a regular file. Everything beyond the end is a hole from now on, so that growing again shows zeros. */
export function resize(tx: Transaction, inode: InodeRow, size: bigint): InodeRow {
  if (isDirectory(inode.mode)) throw FsError.of("EISDIR");
  if (!isRegular(inode.mode)) throw FsError.of("EINVAL");
  if (size < 0n) throw FsError.of("EINVAL");
  if (size > SIZE_BYTES_MAX) throw FsError.of("EFBIG");
  const times = { mtime: tx.time, ctime: tx.time };
  if (size === 0n) return { ...inode, ...times, size, allocatedBytes: 0n, contentId: 0 as ContentId };
  if (size < inode.size) tx.cut(inode.contentId, { from: size, to: SIZE_BYTES_MAX, alone: true }, inode.size);
  return { ...inode, ...times, size, allocatedBytes: inode.allocatedBytes < size ? inode.allocatedBytes : size };
}

function chown(tx: Transaction, inode: InodeRow, set: SetAttributes): InodeRow {
  const owned = { ...inode, uid: set.uid ?? inode.uid, gid: set.gid ?? inode.gid };
  return isDirectory(inode.mode) ? owned : dropPrivileges(tx, owned);
}

/** As Linux does on chown, write and truncate: S_ISUID goes, S_ISGID goes where the group may execute, file capabilities go. */
export function dropPrivileges(tx: Transaction, inode: InodeRow): InodeRow {
  let mode = inode.mode & ~S_ISUID;
  if ((mode & 0o010) !== 0) mode &= ~S_ISGID;
  return { ...inode, mode, xattrCount: inode.xattrCount + dropCapability(tx, inode) };
}

export function dropCapability(tx: Transaction, inode: InodeRow): number {
  return inode.xattrCount > 0 ? tx.removeXattr(inode.ino, CAPABILITY) : 0;
}

function chmod(core: EngineCore, tx: Transaction, inode: InodeRow, mode: number): InodeRow {
  const acl = core.xattr(inode, ACL_ACCESS);
  if (acl !== undefined) tx.putXattr(inode.ino, ACL_ACCESS, encodeAcl(chmodAcl(decodeAcl(acl), mode)));
  return { ...inode, mode: (inode.mode & S_IFMT) | (mode & 0o7777) };
}

function timeOf(time: Timestamp | "now", tx: Transaction): Timestamp {
  return time === "now" ? tx.time : time;
}

function maskOf(set: SetAttributes): number {
  let mask = 0;
  if (set.mode !== undefined) mask |= 1;
  if (set.uid !== undefined) mask |= 2;
  if (set.gid !== undefined) mask |= 4;
  if (set.size !== undefined) mask |= 8;
  if (set.atime !== undefined) mask |= 16;
  if (set.mtime !== undefined) mask |= 32;
  if (set.ctime !== undefined) mask |= 64;
  return mask;
}
