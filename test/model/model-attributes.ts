import type { Timestamp } from "../../src/base/clock.ts";
import { FsError } from "../../src/domain/errors.ts";
import { isDirectory, isRegular, S_IFMT, S_ISGID, S_ISUID } from "../../src/domain/inode.ts";
import { type WriteRequest, XATTR_CREATE, XATTR_REPLACE } from "../../src/domain/metadata-api.ts";
import { ACL_ACCESS, ACL_DEFAULT, chmodAcl, decodeAcl, encodeAcl, isMinimal, modeOfAcl } from "./model-acl.ts";
import { clipped } from "./model-content.ts";
import { type Change, type ModelNode, type ModelState, withXattr } from "./model-state.ts";

type Of<Op extends WriteRequest["op"]> = Extract<WriteRequest, { op: Op }>;

/** Name of the file capabilities, which a write by somebody else takes away. */
const CAPABILITY = "security.capability";

/** Namespaces that keep xattrs; `system.` only knows the two ACLs. */
const NAMESPACES = ["user.", "trusted.", "security.", "system."];

/**
 * Mode and xattrs without privileges (setattr_should_drop_suidgid(): set-group-id only goes with group execute). As fuse.h says of
 * FUSE_HANDLE_KILLPRIV_V2: file capabilities go on every write, truncate and chown; the mode bits go on every chown, and on write and truncate
 * when the request says so. The model takes them on fallocate, copy_file_range and O_TRUNC too; the model test leaves those open.
 */
export function withoutPrivileges(node: ModelNode): Pick<ModelNode, "mode" | "xattrs"> {
  const sgid = (node.mode & 0o010) === 0 ? 0 : S_ISGID;
  return { mode: node.mode & ~(S_ISUID | sgid), xattrs: withXattr(node, CAPABILITY, undefined) };
}

/** Xattrs without file capabilities. */
export const withoutCapability = (node: ModelNode): Pick<ModelNode, "xattrs"> => ({
  xattrs: withXattr(node, CAPABILITY, undefined),
});

/** Whether `withoutPrivileges` would change something. */
export function hasPrivileges(node: ModelNode): boolean {
  return withoutPrivileges(node).mode !== node.mode || node.xattrs.has(CAPABILITY);
}

const timeOf = (value: Timestamp | "now", change: Change): Timestamp => (value === "now" ? change.now : value);

/** Answers whether something was set. */
export function setattr(
  state: ModelState,
  request: Of<"setattr">,
  change: Change,
): { node: ModelNode; changed: boolean } {
  const { set, ino } = request;
  const node = state.node(ino);
  if (Object.keys(set).length === 0) return { node, changed: false };
  if (set.size !== undefined) truncate(state, node, set.size, change);
  const chowns = (set.uid !== undefined || set.gid !== undefined) && !isDirectory(node.mode);
  if (set.size !== undefined) state.update(ino, withoutCapability(node), change.lsn);
  if (set.killPrivileges === true || chowns) state.update(ino, withoutPrivileges(node), change.lsn);
  if (set.mode !== undefined) changeMode(state, state.node(ino), set.mode, change);
  const patch = {
    ctime: set.ctime ?? change.now,
    ...(set.uid === undefined ? {} : { uid: set.uid }),
    ...(set.gid === undefined ? {} : { gid: set.gid }),
    ...(set.atime === undefined ? {} : { atime: timeOf(set.atime, change) }),
    ...(set.mtime === undefined ? {} : { mtime: timeOf(set.mtime, change) }),
  };
  return { node: state.update(ino, patch, change.lsn), changed: true };
}

/** Sets the size, even to the same: what is cut off is gone, what is added is a hole. */
function truncate(state: ModelState, node: ModelNode, size: bigint, change: Change): void {
  if (isDirectory(node.mode)) throw FsError.of("EISDIR");
  if (!isRegular(node.mode)) throw FsError.of("EINVAL");
  state.update(node.ino, { size, content: clipped(node.content, 0n, size), mtime: change.now }, change.lsn);
}

function changeMode(state: ModelState, node: ModelNode, mode: number, change: Change): void {
  const acl = node.xattrs.get(ACL_ACCESS);
  const xattrs =
    acl === undefined ? node.xattrs : withXattr(node, ACL_ACCESS, encodeAcl(chmodAcl(decodeAcl(acl), mode)));
  state.update(node.ino, { mode: (node.mode & S_IFMT) | (mode & 0o7777), xattrs }, change.lsn);
}

/** Limits of linux/limits.h: XATTR_NAME_MAX, XATTR_SIZE_MAX. */
const NAME_MAX = 255;
const VALUE_BYTES_MAX = 65_536;

/** Refuses names that are too long or outside the known namespaces. */
export function checkXattrName(name: string): void {
  if (name.length > NAME_MAX) throw FsError.of("ERANGE");
  if (!NAMESPACES.some((namespace) => name.startsWith(namespace))) throw FsError.of("EOPNOTSUPP");
}

/** Answers whether the value is another than before: setting the same again may be no change. */
export function setxattr(state: ModelState, request: Of<"setxattr">, change: Change): boolean {
  const node = state.node(request.ino);
  const name = request.name.toString("latin1");
  checkXattrName(name);
  if (request.value.length > VALUE_BYTES_MAX) throw FsError.of("E2BIG");
  if (name === ACL_ACCESS || name === ACL_DEFAULT) return setAcl(state, node, name, { request, change });
  const before = node.xattrs.get(name);
  if (before !== undefined && (request.flags & XATTR_CREATE) !== 0) throw FsError.of("EEXIST");
  if (before === undefined && (request.flags & XATTR_REPLACE) !== 0) throw FsError.of("ENODATA");
  const xattrs = withXattr(node, name, Buffer.from(request.value));
  state.update(node.ino, { xattrs, ctime: change.now }, change.lsn);
  return before === undefined || !before.equals(request.value);
}

type AclCall = { readonly request: Of<"setxattr">; readonly change: Change };

/** An access ACL also sets the nine mode bits, and one that says no more than they is not kept (posix_acl_update_mode). */
function setAcl(state: ModelState, node: ModelNode, name: string, { request, change }: AclCall): boolean {
  const acl = decodeAcl(request.value);
  if (name === ACL_DEFAULT && !isDirectory(node.mode) && acl.length > 0) throw FsError.of("EACCES");
  const kept = acl.length > 0 && (name === ACL_DEFAULT || !isMinimal(acl));
  const value = kept ? encodeAcl(acl) : undefined;
  let mode = node.mode;
  if (name === ACL_ACCESS && acl.length > 0) mode = (mode & ~0o777) | modeOfAcl(acl);
  if (name === ACL_ACCESS && request.killSgid) mode &= ~S_ISGID;
  state.update(node.ino, { mode, xattrs: withXattr(node, name, value), ctime: change.now }, change.lsn);
  const before = node.xattrs.get(name);
  return mode !== node.mode || !(before === undefined ? value === undefined : value?.equals(before) === true);
}

export function removexattr(state: ModelState, request: Of<"removexattr">, change: Change): void {
  const node = state.node(request.ino);
  const name = request.name.toString("latin1");
  checkXattrName(name);
  if (!node.xattrs.has(name)) throw FsError.of("ENODATA");
  state.update(node.ino, { xattrs: withXattr(node, name, undefined), ctime: change.now }, change.lsn);
}
