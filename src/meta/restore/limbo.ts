import type { ContentId, InodeId, Lsn } from "../../domain/ids.ts";
import { type Dentry, isDirectory, S_IFDIR } from "../../domain/inode.ts";
import type { RequestContext } from "../../domain/metadata-api.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import type { EngineCore } from "../core.ts";
import { countDetail } from "../detail.ts";
import * as keys from "../keys.ts";
import { touchDirectory } from "../ops/names.ts";
import { decodeDentry, type InodeRow } from "../rows.ts";
import type { Transaction } from "../transaction.ts";

/** Names ended by one record: 0.2 MiB of it. */
const NAMES_PER_RECORD = 256;

const HASH_BYTES = 8;

/** Makes the directory for what a restore takes away: a root of its own, in no share. */
export function addLimbo(tx: Transaction): InodeId {
  const ino = tx.allocateInode();
  tx.put({
    ino,
    since: 0 as Lsn,
    generation: (tx.lsn % 0xffff_ffff) + 1,
    mode: S_IFDIR | 0o700,
    uid: 0,
    gid: 0,
    nlink: 2,
    rdev: 0,
    size: 0n,
    allocatedBytes: 0n,
    atime: tx.time,
    mtime: tx.time,
    ctime: tx.time,
    btime: tx.time,
    contentId: 0 as ContentId,
    parent: ino,
    restoredFrom: 0,
    target: Buffer.alloc(0),
    xattrCount: 0,
  });
  return ino;
}

/** Gives an inode a name in limbo, unique for each time. */
export function addToLimbo(tx: Transaction, limbo: InodeId, dentry: Dentry): void {
  const row = tx.inode(dentry.ino);
  const isDir = isDirectory(row.mode);
  tx.addDentry(limbo, Buffer.from(`${dentry.ino}-${tx.lsn}`), dentry.ino, dentry.type);
  tx.put({ ...row, ctime: tx.time, parent: isDir ? limbo : 0 });
  tx.tellInode(row.ino, false);
  touchDirectory(tx, limbo, 1n, isDir ? 1 : 0);
}

/** Takes one link from an inode that is not a directory; the last one ends it, or leaves it to those who hold it open. */
export function dropLink(tx: Transaction, ino: InodeId): void {
  const row = tx.inode(ino);
  const left = tx.put({ ...row, nlink: row.nlink - 1, ctime: tx.time });
  tx.tellInode(ino, false);
  if (left.nlink === 0) tx.unlinked(left);
}

type Child = { readonly name: Buffer; readonly dentry: Dentry; readonly row: InodeRow };

/**
 * Ends everything in limbo, some names in each record, and yields between them. Directories are closed for new names before they are emptied. May be cut
 * off anywhere and begun again. Throws FsError.
 */
export function* emptyLimbo(core: EngineCore, limbo: InodeId, context: RequestContext): Generator<void> {
  const path: InodeId[] = [limbo];
  for (let directory = path.at(-1); directory !== undefined; directory = path.at(-1)) {
    const children = listChildren(core, directory);
    const goes = children.filter(({ row }) => !isDirectory(row.mode) || row.size === 0n);
    const inner = children.find(({ row }) => isDirectory(row.mode) && row.size !== 0n);
    if (goes.length > 0) {
      endNames(core, directory, goes, context);
      yield;
    } else if (inner !== undefined) {
      closeDirectory(core, inner.row, context);
      path.push(inner.row.ino);
      yield;
    } else path.pop();
  }
}

function listChildren(core: EngineCore, directory: InodeId): Child[] {
  const prefix = keys.inoPrefix(keys.TABLE.DENTRY, directory);
  const rows = core.store.range({ gte: prefix, lt: keys.prefixEnd(prefix), limit: NAMES_PER_RECORD });
  return rows.map((row) => {
    const dentry = decodeDentry(row.value);
    return { name: Buffer.from(row.key.subarray(prefix.length + HASH_BYTES)), dentry, row: core.inode(dentry.ino) };
  });
}

function endNames(core: EngineCore, directory: InodeId, children: readonly Child[], context: RequestContext): void {
  const tx = core.begin(context);
  for (const { name, dentry, row } of children) {
    tx.removeDentry(directory, name, dentry);
    const isDir = isDirectory(row.mode);
    if (isDir) {
      const left = tx.put({ ...tx.inode(row.ino), nlink: 0, ctime: tx.time });
      tx.tellInode(row.ino, false);
      tx.unlinked(left);
    } else dropLink(tx, row.ino);
    touchDirectory(tx, directory, -1n, isDir && tx.inode(directory).nlink > 0 ? -1 : 0);
  }
  tx.commit(RECORD_OP.RESTORE_REAP, countDetail(children.length), { useReserve: true });
}

/** Without links nothing can be made in it any more. */
function closeDirectory(core: EngineCore, row: InodeRow, context: RequestContext): void {
  if (row.nlink === 0) return;
  const tx = core.begin(context);
  tx.put({ ...row, nlink: 0, ctime: tx.time });
  tx.tellInode(row.ino, false);
  tx.commit(RECORD_OP.RESTORE_REAP, countDetail(0), { useReserve: true });
}
