import { compareTimestamps } from "../../base/clock.ts";
import type { Xattr } from "../../domain/admin-reading.ts";
import { isRegular } from "../../domain/inode.ts";
import { xattrsAt } from "./attributes.ts";
import { type FileThen, hasSameContent } from "./content-compare.ts";
import type { Work } from "./work.ts";

/** What can differ between two states of inodes of one type. */
export type RowChange = "content" | "mode" | "owner" | "times" | "xattrs" | "target" | "device";

/** What differs between two states of files of one type, links and change time left aside. In a stable order. */
export async function rowChanges(before: FileThen, after: FileThen, work: Work): Promise<RowChange[]> {
  const left = before.row;
  const right = after.row;
  if (before.core === after.core && left.ino === right.ino && left.since === right.since) return [];
  const changes: RowChange[] = [];
  const isSameSpace = left.allocatedBytes === right.allocatedBytes;
  if (isRegular(left.mode) && !(isSameSpace && (await hasSameContent(before, after, work)))) changes.push("content");
  if (left.mode !== right.mode) changes.push("mode");
  if (left.uid !== right.uid || left.gid !== right.gid) changes.push("owner");
  if (compareTimestamps(left.mtime, right.mtime) !== 0 || compareTimestamps(left.atime, right.atime) !== 0)
    changes.push("times");
  if (!hasSameXattrs(xattrsAt(before.core, left, before.at), xattrsAt(after.core, right, after.at)))
    changes.push("xattrs");
  if (!left.target.equals(right.target)) changes.push("target");
  if (left.rdev !== right.rdev) changes.push("device");
  return changes;
}

/** Both sorted by name. */
export function hasSameXattrs(left: readonly Xattr[], right: readonly Xattr[]): boolean {
  if (left.length !== right.length) return false;
  return left.every(({ name, value }, index) => {
    const other = right[index];
    return other !== undefined && name.equals(other.name) && value.equals(other.value);
  });
}
