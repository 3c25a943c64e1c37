import { FsError } from "../../domain/errors.ts";
import { type InodeId, LIVE } from "../../domain/ids.ts";
import { type Dentry, isDirectory, S_IFCHR, S_IFMT } from "../../domain/inode.ts";
import {
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
  type RequestContext,
  type WriteRequest,
} from "../../domain/metadata-api.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import { checkName, type EngineCore } from "../core.ts";
import { nameDetail, renameDetail } from "../detail.ts";
import type { InodeRow } from "../rows.ts";
import type { Transaction } from "../transaction.ts";
import { newInode } from "./create.ts";

/** Most hard links of an inode: ext4's 65,000 has users; u32 would do, but tools keep 16 or 32 bits. */
const LINKS_MAX = 1_000_000;

/** Longest chain of parents walked: PATH_MAX / 2 names can't be deeper than what a rename could ever have built with paths, and a cycle would be our bug. */
const DEPTH_MAX = 1_000_000;

export function link(core: EngineCore, request: WriteRequest & { op: "link" }, context: RequestContext): InodeRow {
  checkName(request.name);
  const inode = core.inode(request.ino);
  const parent = core.directory(request.parent);
  if (parent.nlink === 0) throw FsError.of("ENOENT");
  if (core.dentry(request.parent, request.name) !== undefined) throw FsError.of("EEXIST");
  if (isDirectory(inode.mode)) throw FsError.of("EPERM");
  if (inode.nlink >= LINKS_MAX) throw FsError.of("EMLINK");
  const tx = core.begin(context);
  tx.addDentry(request.parent, request.name, inode.ino, (inode.mode & S_IFMT) >> 12);
  const linked = tx.put({ ...inode, nlink: inode.nlink + 1, ctime: tx.time });
  touchDirectory(tx, request.parent, 1n, 0);
  tx.settled(inode.ino);
  tx.tellInode(inode.ino, false);
  tx.commit(RECORD_OP.LINK, nameDetail(inode.ino, request.parent, request.name));
  return linked;
}

export function unlink(core: EngineCore, request: WriteRequest & { op: "unlink" }, context: RequestContext): undefined {
  const dentry = existing(core, request.parent, request.name);
  const inode = core.inode(dentry.ino);
  if (isDirectory(inode.mode)) throw FsError.of("EISDIR");
  const tx = core.begin(context);
  tx.removeDentry(request.parent, request.name, dentry);
  dropLink(tx, inode);
  touchDirectory(tx, request.parent, -1n, 0);
  tx.commit(RECORD_OP.UNLINK, nameDetail(dentry.ino, request.parent, request.name), { useReserve: true });
}

export function rmdir(core: EngineCore, request: WriteRequest & { op: "rmdir" }, context: RequestContext): undefined {
  const dentry = existing(core, request.parent, request.name);
  const inode = core.inode(dentry.ino);
  if (!isDirectory(inode.mode)) throw FsError.of("ENOTDIR");
  if (inode.size !== 0n) throw FsError.of("ENOTEMPTY");
  const tx = core.begin(context);
  tx.removeDentry(request.parent, request.name, dentry);
  dropDirectory(tx, inode);
  touchDirectory(tx, request.parent, -1n, -1);
  tx.commit(RECORD_OP.RMDIR, nameDetail(dentry.ino, request.parent, request.name), { useReserve: true });
}

/** The name in the directory. Throws ENOTDIR, ENOENT, or what `checkName` throws. */
function existing(core: EngineCore, parent: InodeId, name: Buffer): Dentry {
  checkName(name);
  core.directory(parent);
  const dentry = core.dentry(parent, name, LIVE);
  if (dentry === undefined) throw FsError.of("ENOENT");
  return dentry;
}

/** Takes one link from an inode that is not a directory. */
function dropLink(tx: Transaction, inode: InodeRow): void {
  const left = tx.put({ ...inode, nlink: inode.nlink - 1, ctime: tx.time });
  tx.tellInode(inode.ino, false);
  if (left.nlink === 0) tx.unlinked(left);
}

function dropDirectory(tx: Transaction, inode: InodeRow): void {
  const left = tx.put({ ...inode, nlink: 0, ctime: tx.time });
  tx.tellInode(inode.ino, false);
  tx.unlinked(left);
}

/** Entries came or went: count, links of subdirectories, times. */
export function touchDirectory(tx: Transaction, ino: InodeId, entries: bigint, links: number): void {
  const parent = tx.inode(ino);
  tx.put({ ...parent, size: parent.size + entries, nlink: parent.nlink + links, mtime: tx.time, ctime: tx.time });
  tx.tellInode(ino, false);
}

const KNOWN_FLAGS = RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT;

export function rename(core: EngineCore, request: WriteRequest & { op: "rename" }, context: RequestContext): undefined {
  const { parent, name, newParent, newName, flags } = request;
  if ((flags & ~KNOWN_FLAGS) !== 0) throw FsError.of("EINVAL");
  if ((flags & RENAME_EXCHANGE) !== 0 && (flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)) !== 0)
    throw FsError.of("EINVAL");
  checkName(newName);
  const source = existing(core, parent, name);
  const target = core.directory(newParent);
  if (target.nlink === 0) throw FsError.of("ENOENT");
  const replaced = core.dentry(newParent, newName);
  if (replaced !== undefined && (flags & RENAME_NOREPLACE) !== 0) throw FsError.of("EEXIST");
  if (replaced === undefined && (flags & RENAME_EXCHANGE) !== 0) throw FsError.of("ENOENT");
  const moved = core.inode(source.ino);
  if (isDirectory(moved.mode)) refuseCycle(core, moved.ino, newParent);
  // POSIX rename(): two names of one file, nothing happens.
  if (replaced?.ino === source.ino) return;
  const tx = core.begin(context);
  const move = { parent, name, newParent, newName, source, replaced, moved };
  if (replaced !== undefined && (flags & RENAME_EXCHANGE) !== 0) exchange(core, tx, { ...move, replaced });
  else moveOver(core, tx, move, (flags & RENAME_WHITEOUT) !== 0);
  const detail = { ino: source.ino, parent, name, newParent, newName, replaced: replaced?.ino ?? 0, flags };
  tx.commit(RECORD_OP.RENAME, renameDetail(detail), { useReserve: replaced !== undefined });
}

type Move = {
  readonly parent: InodeId;
  readonly name: Buffer;
  readonly newParent: InodeId;
  readonly newName: Buffer;
  readonly source: Dentry;
  readonly replaced: Dentry | undefined;
  readonly moved: InodeRow;
};

function moveOver(core: EngineCore, tx: Transaction, move: Move, whiteout: boolean): void {
  const { parent, name, newParent, newName, source, replaced, moved } = move;
  const isDir = isDirectory(moved.mode);
  tx.removeDentry(parent, name, source);
  touchDirectory(tx, parent, -1n, isDir ? -1 : 0);
  if (replaced !== undefined) removeReplaced(core, tx, move, replaced);
  tx.addDentry(newParent, newName, source.ino, source.type);
  touchDirectory(tx, newParent, 1n, isDir ? 1 : 0);
  tx.put({ ...tx.inode(moved.ino), ctime: tx.time, parent: isDir ? newParent : 0 });
  tx.tellInode(moved.ino, false);
  if (!whiteout) return;
  // overlayfs: a character device 0:0 stays in the old place (rename(2), RENAME_WHITEOUT).
  const left = newInode(core, tx, tx.inode(parent), { mode: S_IFCHR, umask: 0 });
  tx.addDentry(parent, name, left.ino, S_IFCHR >> 12);
  touchDirectory(tx, parent, 1n, 0);
}

function removeReplaced(core: EngineCore, tx: Transaction, move: Move, replaced: Dentry): void {
  const victim = core.inode(replaced.ino);
  const victimIsDir = isDirectory(victim.mode);
  const movedIsDir = isDirectory(move.moved.mode);
  if (movedIsDir && !victimIsDir) throw FsError.of("ENOTDIR");
  if (!movedIsDir && victimIsDir) throw FsError.of(isAbove(core, victim.ino, move.parent) ? "ENOTEMPTY" : "EISDIR");
  if (victimIsDir && victim.size !== 0n) throw FsError.of("ENOTEMPTY");
  tx.removeDentry(move.newParent, move.newName, replaced);
  if (victimIsDir) dropDirectory(tx, victim);
  else dropLink(tx, victim);
  touchDirectory(tx, move.newParent, -1n, victimIsDir ? -1 : 0);
}

function exchange(core: EngineCore, tx: Transaction, move: Move & { readonly replaced: Dentry }): void {
  const { parent, name, newParent, newName, source, replaced, moved } = move;
  const other = core.inode(replaced.ino);
  if (isDirectory(other.mode)) refuseCycle(core, other.ino, parent);
  tx.removeDentry(parent, name, source);
  tx.removeDentry(newParent, newName, replaced);
  tx.addDentry(newParent, newName, source.ino, source.type);
  tx.addDentry(parent, name, replaced.ino, replaced.type);
  const links = (isDirectory(other.mode) ? 1 : 0) - (isDirectory(moved.mode) ? 1 : 0);
  touchDirectory(tx, parent, 0n, links);
  touchDirectory(tx, newParent, 0n, -links);
  tx.put({ ...tx.inode(moved.ino), ctime: tx.time, parent: isDirectory(moved.mode) ? newParent : 0 });
  tx.put({ ...tx.inode(other.ino), ctime: tx.time, parent: isDirectory(other.mode) ? parent : 0 });
  tx.tellInode(moved.ino, false);
  tx.tellInode(other.ino, false);
}

/** Throws EINVAL if `directory` is `into` or above it. */
function refuseCycle(core: EngineCore, directory: InodeId, into: InodeId): void {
  if (isAbove(core, directory, into)) throw FsError.of("EINVAL");
}

/** Whether `directory` is `below` or one of its ancestors. */
function isAbove(core: EngineCore, directory: InodeId, below: InodeId): boolean {
  let at: InodeId = below;
  for (let depth = 0; depth < DEPTH_MAX; depth++) {
    if (at === directory) return true;
    const inode = core.inode(at);
    if (inode.parent === at || inode.parent === 0) return false;
    at = inode.parent;
  }
  return false;
}
