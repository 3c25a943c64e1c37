import { LIVE, NAME_BYTES_MAX } from "../../src/domain/ids.ts";
import { isDirectory, isRegular, isSymlink, SIZE_BYTES_MAX } from "../../src/domain/inode.ts";
import { RENAME_EXCHANGE, RENAME_WHITEOUT, type Request } from "../../src/domain/metadata-api.ts";
import { ACL_ACCESS, ACL_DEFAULT } from "./model-acl.ts";
import { hasPrivileges } from "./model-attributes.ts";
import { overlaps } from "./model-data.ts";
import type { ModelNode, ModelState } from "./model-state.ts";

type InodeIdOf = ModelNode["ino"];

/**
 * Whether the answer to `request` in this state is nobody's promise: the kernel refuses it before the engine is asked, or two rules
 * apply and either error will do. The model test passes over such requests.
 */
export function isUnspecified(state: ModelState, request: Request): boolean {
  const find = (ino: InodeIdOf): ModelNode | undefined => (state.has(ino) ? state.node(ino) : undefined);
  const notRegular = (ino: InodeIdOf): boolean => find(ino) !== undefined && !isRegular(state.node(ino).mode);
  switch (request.op) {
    case "read":
    case "lseek":
    case "write":
      return notRegular(request.ino);
    case "fallocate":
      return notRegular(request.ino) || keepsPrivileges(find(request.ino));
    case "copyRange":
      return isUnspecifiedCopy(state, request);
    case "create":
      return isUnspecifiedName(state, request) || isSpecial(state, request);
    case "mknod":
    case "mkdir":
    case "symlink":
    case "unlink":
    case "rmdir":
    case "lookup":
      return isUnspecifiedName(state, request);
    case "tmpfile":
      return find(request.parent)?.nlink === 0;
    case "link":
      return isUnspecifiedLink(state, request);
    case "rename":
      return isUnspecifiedRename(state, request);
    case "setattr":
      return isUnspecifiedSetattr(find(request.ino), request);
    case "setxattr":
    case "getxattr":
    case "removexattr":
      return isUnspecifiedXattr(find(request.ino), request);
    case "fsync":
      return find(request.ino) === undefined;
    default:
      return false;
  }
}

type Place = { readonly parent: InodeIdOf; readonly name: Buffer };
type Of<Op extends Request["op"]> = Extract<Request, { op: Op }>;

const isLiveDirectory = (state: ModelState, ino: InodeIdOf): boolean =>
  state.has(ino) && isDirectory(state.node(ino).mode) && state.node(ino).nlink > 0;

/** A bad name in a bad directory. */
function isUnspecifiedName(state: ModelState, place: Place): boolean {
  return place.name.length > NAME_BYTES_MAX && !isLiveDirectory(state, place.parent);
}

/** open(O_CREAT) of an existing device or symbolic link: the kernel follows or opens those itself. Or privileges, see below. */
function isSpecial(state: ModelState, request: Of<"create">): boolean {
  if (!isLiveDirectory(state, request.parent) || request.exclusive) return false;
  const ino = state.node(request.parent).entries.get(request.name.toString("latin1"));
  if (ino === undefined) return false;
  const { mode } = state.node(ino);
  if (request.truncate && isRegular(mode)) return keepsPrivileges(state.node(ino));
  return !isRegular(mode) && !isDirectory(mode);
}

/**
 * Linux takes privileges away for callers without CAP_FSETID also on fallocate, copy_file_range and O_TRUNC, but these requests do not
 * carry who asks, so the engine may do either.
 */
const keepsPrivileges = (node: ModelNode | undefined): boolean => node !== undefined && hasPrivileges(node);

function isUnspecifiedLink(state: ModelState, request: Of<"link">): boolean {
  const badPlace =
    !isLiveDirectory(state, request.parent) || request.name.length > NAME_BYTES_MAX || isTaken(state, request);
  if (!state.has(request.ino) || isDirectory(state.node(request.ino).mode)) return badPlace;
  const { nlink, linkable } = state.node(request.ino);
  return isUnspecifiedName(state, request) || (nlink === 0 && !linkable);
}

const isTaken = (state: ModelState, place: Place): boolean =>
  state.node(place.parent).entries.has(place.name.toString("latin1"));

function isUnspecifiedRename(state: ModelState, request: Of<"rename">): boolean {
  const bad = [request.parent, request.newParent].filter((ino) => !isLiveDirectory(state, ino));
  const longNames = [request.name, request.newName].filter((name) => name.length > NAME_BYTES_MAX);
  if (bad.length + longNames.length > 1) return true;
  if (bad.length + longNames.length === 1) {
    // One end is bad: only specified when the other end has nothing to complain of.
    const source = isLiveDirectory(state, request.parent) && isTaken(state, request);
    return !source && request.parent !== bad[0];
  }
  if (isOntoAncestor(state, request)) return true;
  // Linux gives the whiteout the default ACL of its directory, which nobody relies on.
  return (request.flags & RENAME_WHITEOUT) !== 0 && state.node(request.parent).xattrs.has(ACL_DEFAULT);
}

/** A file renamed over a directory above it, which is a directory and not empty: either will do. The exchange is specified. */
function isOntoAncestor(state: ModelState, request: Of<"rename">): boolean {
  const target = state.node(request.newParent).entries.get(request.newName.toString("latin1"));
  if (target === undefined || (request.flags & RENAME_EXCHANGE) !== 0) return false;
  return isDirectory(state.node(target).mode) && state.node(target).entries.size > 0;
}

function isUnspecifiedSetattr(node: ModelNode | undefined, { set }: Of<"setattr">): boolean {
  if (node === undefined) return false;
  if (set.size !== undefined && !isRegular(node.mode)) return true;
  const keys = Object.keys(set).filter((key) => key !== "killPrivileges");
  if (set.killPrivileges !== true) return keys.length === 0;
  return !isRegular(node.mode) || set.mode !== undefined || (keys.length === 0 && !hasPrivileges(node));
}

/** The kernel allows user.* only on files and directories, ACLs not on symbolic links, and has its own idea of absent ACLs. */
function isUnspecifiedXattr(
  node: ModelNode | undefined,
  request: Of<"setxattr" | "getxattr" | "removexattr">,
): boolean {
  if (node === undefined) return false;
  const name = request.name.toString("latin1");
  if (name.startsWith("user.")) return !isRegular(node.mode) && !isDirectory(node.mode);
  if (name !== ACL_ACCESS && name !== ACL_DEFAULT) return false;
  if (isSymlink(node.mode)) return true;
  // The kernel sends removexattr for an empty list, and no flags with any.
  if (request.op === "setxattr" && (request.flags !== 0 || request.value.length === 0)) return true;
  if (request.op === "setxattr" && request.killSgid && name === ACL_ACCESS && request.value.length <= 4) return true;
  const removes = request.op === "removexattr" || (request.op === "setxattr" && request.value.length <= 4);
  return removes && !node.xattrs.has(name);
}

function isUnspecifiedCopy(state: ModelState, request: Of<"copyRange">): boolean {
  const nodes = [request.source, request.target].filter((ino) => state.has(ino)).map((ino) => state.node(ino));
  if (nodes.some((node) => !isRegular(node.mode))) return true;
  if (state.has(request.target) && keepsPrivileges(state.node(request.target))) return true;
  // Numbers past the end of off_t, though the bytes that there are would fit.
  if (request.sourceOffset + request.length > SIZE_BYTES_MAX) return true;
  if (request.targetOffset + request.length > SIZE_BYTES_MAX) return true;
  const [source] = nodes;
  if (source === undefined || request.sourceAt !== LIVE || request.source !== request.target) return false;
  // Ranges that only overlap past the end of the source: the kernel cuts first, others may not.
  const available = source.size - request.sourceOffset;
  return available < request.length && overlaps(request, request.length);
}
