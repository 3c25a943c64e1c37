import { FsError } from "../../domain/errors.ts";
import { isDirectory, S_IFMT, S_ISGID } from "../../domain/inode.ts";
import { type RequestContext, type WriteRequest, XATTR_CREATE, XATTR_REPLACE } from "../../domain/metadata-api.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import { ACL_ACCESS, ACL_DEFAULT, decodeAcl, modeOfAcl } from "../acl.ts";
import type { EngineCore } from "../core.ts";
import { xattrDetail } from "../detail.ts";
import type { InodeRow } from "../rows.ts";

/** Limits of linux/limits.h: XATTR_NAME_MAX, XATTR_SIZE_MAX; and names of one inode, so that listing stays within XATTR_LIST_MAX (64 KiB). */
const NAME_MAX = 255;
const VALUE_BYTES_MAX = 65_536;
const XATTRS_MAX = 4096;

const NAMESPACES = ["user.", "trusted.", "security."].map((name) => Buffer.from(name));

/** Throws EOPNOTSUPP for a namespace we do not keep, ERANGE for a name too long. */
export function checkXattrName(name: Buffer): void {
  if (name.length > NAME_MAX) throw FsError.of("ERANGE");
  if (name.includes(0)) throw FsError.of("EINVAL");
  if (name.equals(ACL_ACCESS) || name.equals(ACL_DEFAULT)) return;
  const namespace = NAMESPACES.find((prefix) => name.subarray(0, prefix.length).equals(prefix));
  if (namespace === undefined) throw FsError.of("EOPNOTSUPP");
  if (name.length === namespace.length) throw FsError.of("EINVAL");
}

export function setxattr(
  core: EngineCore,
  request: WriteRequest & { op: "setxattr" },
  context: RequestContext,
): undefined {
  const { name, value, flags } = request;
  const inode = core.inode(request.ino);
  checkXattrName(name);
  if (value.length > VALUE_BYTES_MAX) throw FsError.of("E2BIG");
  if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) !== 0) throw FsError.of("EINVAL");
  const before = core.xattr(inode, name);
  if (before !== undefined && (flags & XATTR_CREATE) !== 0) throw FsError.of("EEXIST");
  if (before === undefined && (flags & XATTR_REPLACE) !== 0) throw FsError.of("ENODATA");
  if (before === undefined && inode.xattrCount >= XATTRS_MAX) throw FsError.of("ENOSPC");
  const acl = aclEffect(inode, name, value);
  if (acl.remove && before === undefined && acl.mode === inode.mode) return;
  const tx = core.begin(context);
  const change = acl.remove ? tx.removeXattr(inode.ino, name) : tx.putXattr(inode.ino, name, Buffer.from(value));
  // The kernel asks for it with a default list, too; on other file systems only the access list takes the bit away (posix_acl_update_mode()).
  const mode = request.killSgid && name.equals(ACL_ACCESS) ? acl.mode & ~S_ISGID : acl.mode;
  tx.put({ ...inode, mode, ctime: tx.time, xattrCount: inode.xattrCount + change });
  tx.tellInode(inode.ino, false);
  tx.commit(RECORD_OP.SETXATTR, xattrDetail(inode.ino, name));
}

/** What setting an ACL does to the mode, and whether it only removes the list (a minimal access list says no more than the mode). */
function aclEffect(inode: InodeRow, name: Buffer, value: Buffer): { readonly mode: number; readonly remove: boolean } {
  if (name.equals(ACL_ACCESS)) {
    const entries = decodeAcl(value);
    if (entries.length === 0) return { mode: inode.mode, remove: true };
    const { bits, minimal } = modeOfAcl(entries);
    return { mode: (inode.mode & (S_IFMT | 0o7000)) | bits, remove: minimal };
  }
  if (name.equals(ACL_DEFAULT)) {
    const entries = decodeAcl(value);
    if (entries.length > 0 && !isDirectory(inode.mode)) throw FsError.of("EACCES");
    return { mode: inode.mode, remove: entries.length === 0 };
  }
  return { mode: inode.mode, remove: false };
}

export function removexattr(
  core: EngineCore,
  request: WriteRequest & { op: "removexattr" },
  context: RequestContext,
): undefined {
  const inode = core.inode(request.ino);
  checkXattrName(request.name);
  if (core.xattr(inode, request.name) === undefined) throw FsError.of("ENODATA");
  const tx = core.begin(context);
  const change = tx.removeXattr(inode.ino, request.name);
  tx.put({ ...inode, ctime: tx.time, xattrCount: inode.xattrCount + change });
  tx.tellInode(inode.ino, false);
  tx.commit(RECORD_OP.REMOVEXATTR, xattrDetail(inode.ino, request.name), { useReserve: true });
}
