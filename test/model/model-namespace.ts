import { FsError } from "../../src/domain/errors.ts";
import type { InodeId } from "../../src/domain/ids.ts";
import { isDirectory, S_IFBLK, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, S_ISGID } from "../../src/domain/inode.ts";
import {
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
  type WriteRequest,
} from "../../src/domain/metadata-api.ts";
import { ACL_ACCESS, ACL_DEFAULT, decodeAcl, encodeAcl, inheritAcl, isMinimal, modeOfAcl } from "./model-acl.ts";
import { withoutPrivileges } from "./model-attributes.ts";
import { EMPTY_CONTENT } from "./model-content.ts";
import { type Change, type ModelNode, type ModelState, nameKey, withEntry } from "./model-state.ts";

type Of<Op extends WriteRequest["op"]> = Extract<WriteRequest, { op: Op }>;

/** What a new inode is made of, before its directory has a say. */
type Birth = {
  readonly mode: number;
  readonly umask: number;
  readonly rdev?: number;
  readonly target?: Buffer;
  /** 0 for tmpfile. */
  readonly nlink: number;
};

/** The empty directory that a share begins with. */
export function rootNode(ino: InodeId, change: Pick<Change, "lsn" | "now">): ModelNode {
  const node = newNode(ino, { mode: S_IFDIR | 0o755, umask: 0, nlink: 2 }, { ...change, uid: 0, gid: 0 });
  return { ...node, parent: ino };
}

function newNode(ino: InodeId, birth: Birth, change: Pick<Change, "lsn" | "now" | "uid" | "gid">): ModelNode {
  const target = birth.target ?? Buffer.alloc(0);
  return {
    ino,
    since: change.lsn,
    generation: change.lsn,
    mode: birth.mode,
    uid: change.uid,
    gid: change.gid,
    nlink: birth.nlink,
    rdev: birth.rdev ?? 0,
    size: BigInt(target.length),
    allocatedBytes: 0n,
    atime: change.now,
    mtime: change.now,
    ctime: change.now,
    btime: change.now,
    contentId: 0 as ModelNode["contentId"],
    parent: 0,
    target,
    restoredFrom: 0,
    entries: new Map(),
    xattrs: new Map(),
    content: EMPTY_CONTENT,
    linkable: birth.nlink === 0,
  };
}

/** Makes an inode as inode_init_owner() and posix_acl_create() do: group of a set-group-id directory, default ACL, else umask. */
function giveBirth(state: ModelState, parent: ModelNode, birth: Birth, change: Change): ModelNode {
  const inheritsGroup = (parent.mode & S_ISGID) !== 0;
  const base = newNode(change.allocate(), birth, change);
  const directory = isDirectory(birth.mode);
  const owned: ModelNode = {
    ...base,
    gid: inheritsGroup ? parent.gid : base.gid,
    mode: inheritsGroup && directory ? base.mode | S_ISGID : base.mode,
    parent: directory ? parent.ino : 0,
  };
  return state.add(withInheritedAcl(owned, parent, birth.umask));
}

function withInheritedAcl(node: ModelNode, parent: ModelNode, umask: number): ModelNode {
  if ((node.mode & S_IFMT) === S_IFLNK) return node;
  const given = parent.xattrs.get(ACL_DEFAULT);
  if (given === undefined) return { ...node, mode: node.mode & ~umask };
  const acl = inheritAcl(decodeAcl(given), node.mode);
  const xattrs = new Map<string, Buffer>();
  if (!isMinimal(acl)) xattrs.set(ACL_ACCESS, encodeAcl(acl));
  if (isDirectory(node.mode)) xattrs.set(ACL_DEFAULT, given);
  return { ...node, mode: (node.mode & ~0o777) | modeOfAcl(acl), xattrs };
}

/** Sets or takes away a name, with the times and, for directories, the link count of the directory that holds it. */
function setName(state: ModelState, parent: InodeId, name: string, ino: InodeId | undefined, change: Change): void {
  const directory = state.node(parent);
  const entries = withEntry(directory, name, ino);
  const patch = { entries, size: BigInt(entries.size), mtime: change.now, ctime: change.now };
  state.update(parent, patch, change.lsn);
}

function addLinks(state: ModelState, ino: InodeId, count: number, change: Change): ModelNode {
  return state.update(ino, { nlink: state.node(ino).nlink + count, ctime: change.now }, change.lsn);
}

/** A name of `node` is gone: the last one leaves an orphan, which keeps everything until it is forgotten. */
function dropName(state: ModelState, node: ModelNode, change: Change): void {
  addLinks(state, node.ino, isDirectory(node.mode) ? -node.nlink : -1, change);
}

function createNamed(
  state: ModelState,
  at: { readonly parent: InodeId; readonly name: Buffer },
  birth: Birth,
  change: Change,
): ModelNode {
  const parent = state.liveDirectory(at.parent);
  const name = nameKey(at.name);
  if (parent.entries.has(name)) throw FsError.of("EEXIST");
  const node = giveBirth(state, parent, birth, change);
  setName(state, parent.ino, name, node.ino, change);
  if (isDirectory(node.mode)) addLinks(state, parent.ino, 1, change);
  return node;
}

export function mknod(state: ModelState, request: Of<"mknod">, change: Change): ModelNode {
  const type = request.mode & S_IFMT;
  if (type === S_IFDIR || type === S_IFLNK) throw FsError.of("EPERM");
  const rdev = type === S_IFCHR || type === S_IFBLK ? request.rdev : 0;
  return createNamed(state, request, { mode: request.mode, umask: request.umask, rdev, nlink: 1 }, change);
}

export function mkdir(state: ModelState, request: Of<"mkdir">, change: Change): ModelNode {
  return createNamed(state, request, { mode: S_IFDIR | request.mode, umask: request.umask, nlink: 2 }, change);
}

export function symlink(state: ModelState, request: Of<"symlink">, change: Change): ModelNode {
  const birth = { mode: S_IFLNK | 0o777, umask: 0, target: Buffer.from(request.target), nlink: 1 };
  return createNamed(state, request, birth, change);
}

/** open(O_CREAT). Answers whether something changed. */
export function create(
  state: ModelState,
  request: Of<"create">,
  change: Change,
): { node: ModelNode; changed: boolean } {
  const parent = state.liveDirectory(request.parent);
  const existing = parent.entries.get(nameKey(request.name));
  if (existing === undefined) {
    const birth = { mode: S_IFREG | (request.mode & ~S_IFMT), umask: request.umask, nlink: 1 };
    return { node: createNamed(state, request, birth, change), changed: true };
  }
  if (request.exclusive) throw FsError.of("EEXIST");
  const node = state.node(existing);
  if (isDirectory(node.mode)) throw FsError.of("EISDIR");
  if (!request.truncate) return { node, changed: false };
  const times = { mtime: change.now, ctime: change.now };
  const emptied = { size: 0n, content: EMPTY_CONTENT, ...times, ...withoutPrivileges(node) };
  return { node: state.update(existing, emptied, change.lsn), changed: true };
}

export function tmpfile(state: ModelState, request: Of<"tmpfile">, change: Change): ModelNode {
  const birth = { mode: S_IFREG | (request.mode & ~S_IFMT), umask: request.umask, nlink: 0 };
  return giveBirth(state, state.liveDirectory(request.parent), birth, change);
}

export function link(state: ModelState, request: Of<"link">, change: Change): ModelNode {
  const node = state.node(request.ino);
  const parent = state.liveDirectory(request.parent);
  const name = nameKey(request.name);
  if (parent.entries.has(name)) throw FsError.of("EEXIST");
  if (isDirectory(node.mode)) throw FsError.of("EPERM");
  setName(state, parent.ino, name, node.ino, change);
  state.update(node.ino, { linkable: false }, change.lsn);
  return addLinks(state, node.ino, 1, change);
}

function entryOf(state: ModelState, directory: ModelNode, name: string): ModelNode {
  const ino = directory.entries.get(name);
  if (ino === undefined) throw FsError.of("ENOENT");
  return state.node(ino);
}

export function unlink(state: ModelState, request: Of<"unlink">, change: Change): void {
  const name = nameKey(request.name);
  const node = entryOf(state, state.directory(request.parent), name);
  if (isDirectory(node.mode)) throw FsError.of("EISDIR");
  setName(state, request.parent, name, undefined, change);
  dropName(state, node, change);
}

export function rmdir(state: ModelState, request: Of<"rmdir">, change: Change): void {
  const name = nameKey(request.name);
  const node = entryOf(state, state.directory(request.parent), name);
  if (!isDirectory(node.mode)) throw FsError.of("ENOTDIR");
  if (node.entries.size > 0) throw FsError.of("ENOTEMPTY");
  setName(state, request.parent, name, undefined, change);
  addLinks(state, request.parent, -1, change);
  dropName(state, node, change);
}

/** Whether `ino` is `ancestor` or lies below it. */
function isInside(state: ModelState, ino: InodeId, ancestor: InodeId): boolean {
  for (let at = state.node(ino); ; at = state.node(at.parent as InodeId)) {
    if (at.ino === ancestor) return true;
    if (at.parent === at.ino || at.nlink === 0) return false;
  }
}

type Ends = {
  readonly source: ModelNode;
  readonly target: ModelNode | undefined;
  readonly from: string;
  readonly to: string;
};

/** Finds both ends of a rename and refuses, in the order of do_renameat2() and vfs_rename(). */
function renameEnds(state: ModelState, request: Of<"rename">): Ends {
  const exchange = (request.flags & RENAME_EXCHANGE) !== 0;
  const refused = RENAME_NOREPLACE | RENAME_WHITEOUT;
  if ((request.flags & ~(refused | RENAME_EXCHANGE)) !== 0) throw FsError.of("EINVAL");
  if (exchange && (request.flags & refused) !== 0) throw FsError.of("EINVAL");
  const oldParent = state.directory(request.parent);
  const newParent = state.liveDirectory(request.newParent);
  const [from, to] = [nameKey(request.name), nameKey(request.newName)];
  const source = entryOf(state, oldParent, from);
  const targetIno = newParent.entries.get(to);
  const target = targetIno === undefined ? undefined : state.node(targetIno);
  if (target !== undefined && (request.flags & RENAME_NOREPLACE) !== 0) throw FsError.of("EEXIST");
  if (target === undefined && exchange) throw FsError.of("ENOENT");
  if (isDirectory(source.mode) && isInside(state, newParent.ino, source.ino)) throw FsError.of("EINVAL");
  if (target !== undefined && isDirectory(target.mode) && isInside(state, oldParent.ino, target.ino)) {
    throw FsError.of(exchange ? "EINVAL" : "ENOTEMPTY");
  }
  return { source, target, from, to };
}

/** Answers whether something changed. */
export function rename(state: ModelState, request: Of<"rename">, change: Change): boolean {
  const ends = renameEnds(state, request);
  const { source, target } = ends;
  if (source.ino === target?.ino) return false;
  if ((request.flags & RENAME_EXCHANGE) !== 0 && target !== undefined) {
    setName(state, request.parent, ends.from, target.ino, change);
    setName(state, request.newParent, ends.to, source.ino, change);
    moved(state, source, request.parent, request.newParent, change);
    moved(state, target, request.newParent, request.parent, change);
    return true;
  }
  if (target !== undefined) makeWay(state, source, target, change);
  if (target !== undefined && isDirectory(target.mode)) addLinks(state, request.newParent, -1, change);
  setName(state, request.parent, ends.from, undefined, change);
  setName(state, request.newParent, ends.to, source.ino, change);
  moved(state, source, request.parent, request.newParent, change);
  if ((request.flags & RENAME_WHITEOUT) !== 0) leaveWhiteout(state, request.parent, ends.from, change);
  return true;
}

function makeWay(state: ModelState, source: ModelNode, target: ModelNode, change: Change): void {
  if (isDirectory(source.mode) && !isDirectory(target.mode)) throw FsError.of("ENOTDIR");
  if (!isDirectory(source.mode) && isDirectory(target.mode)) throw FsError.of("EISDIR");
  if (target.entries.size > 0) throw FsError.of("ENOTEMPTY");
  dropName(state, target, change);
}

/** `node` went from one directory to another (or the same): its ctime, its `..`, and the link counts of both. */
function moved(state: ModelState, node: ModelNode, from: InodeId, to: InodeId, change: Change): void {
  state.update(node.ino, { ctime: change.now }, change.lsn);
  if (!isDirectory(node.mode)) return;
  state.update(node.ino, { parent: to }, change.lsn);
  addLinks(state, from, -1, change);
  addLinks(state, to, 1, change);
}

/** A character device 0:0, as overlay file systems want it (RENAME_WHITEOUT). */
function leaveWhiteout(state: ModelState, parent: InodeId, name: string, change: Change): void {
  const node = giveBirth(state, state.node(parent), { mode: S_IFCHR, umask: 0, nlink: 1 }, change);
  setName(state, parent, name, node.ino, change);
}

/** The kernel let go: an orphan ends. Answers whether it was one. */
export function forget(state: ModelState, request: Of<"forget">): boolean {
  if (!state.has(request.ino) || state.node(request.ino).nlink > 0) return false;
  state.remove(request.ino);
  return true;
}
