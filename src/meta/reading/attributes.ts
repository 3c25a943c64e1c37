import type { FileAttributes, Xattr } from "../../domain/admin-reading.ts";
import type { Lsn } from "../../domain/ids.ts";
import type { EngineCore } from "../core.ts";
import { listxattr } from "../ops/read.ts";
import type { InodeRow } from "../rows.ts";

/** An inode as the API shows it. */
export function attributesOf(row: InodeRow): FileAttributes {
  const { ino, mode, uid, gid, nlink, rdev, size, allocatedBytes, atime, mtime, ctime, btime } = row;
  return { ino, mode, uid, gid, nlink, rdev, size, allocatedBytes, atime, mtime, ctime, btime };
}

/** All extended attributes as of `at`, ACLs included, by name. `row` must be the inode as of `at`. The buffers are the caller's. */
export function xattrsAt(core: EngineCore, row: InodeRow, at: Lsn): Xattr[] {
  if (row.xattrCount === 0) return [];
  const xattrs: Xattr[] = [];
  for (const name of listxattr(core, { op: "listxattr", ino: row.ino, at })) {
    const value = core.xattr(row, name, at);
    if (value !== undefined) xattrs.push({ name, value: Buffer.from(value) });
  }
  return xattrs.sort((left, right) => Buffer.compare(left.name, right.name));
}
