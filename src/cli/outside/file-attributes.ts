import { chmodSync, closeSync, constants, fchmodSync, fchownSync, lchownSync, openSync } from "node:fs";
import type { ExportItem } from "../../domain/admin-reading.ts";
import { textFromBytes } from "../../domain/byte-text.ts";
import { isSymlink, S_ISGID, S_ISUID } from "../../domain/inode.ts";
import type { FileRef, NativeFiles } from "./native-files.ts";
import { reasonOf, type Shortfalls } from "./shortfalls.ts";

export type ExportEntry = Extract<ExportItem, { kind: "entry" }>;

/** What of an entry is needed to make the file. */
export type FileEntry = Pick<ExportEntry, "path" | "target" | "xattrs" | "contentFollows" | "linkedTo"> & {
  readonly attributes: Pick<ExportEntry["attributes"], "mode" | "uid" | "gid" | "rdev" | "size" | "atime" | "mtime">;
};

/** What the attributes are set with. `user` decides what is tried: only root gives files away. */
export type AttributeContext = {
  readonly native: NativeFiles;
  readonly shortfalls: Shortfalls;
  readonly user: { readonly uid: number; readonly gid: number };
};

const ACL_ACCESS = Buffer.from("system.posix_acl_access");
export const ACL_DEFAULT = Buffer.from("system.posix_acl_default");

/**
 * Gives `file` all that `entry` says, in the one order in which nothing is lost: chown takes set-user-id bits and capabilities
 * away, chmod changes the mask of an ACL, everything changes times. Failures are shortfalls. `inheritsAcls` false: it was just made, in a directory that gives none.
 */
export function applyAttributes(
  context: AttributeContext,
  file: FileRef,
  entry: FileEntry,
  { inheritsAcls = true }: { readonly inheritsAcls?: boolean } = {},
): void {
  const { native, shortfalls } = context;
  const { attributes, xattrs } = entry;
  const owned = applyOwner(context, file, entry);
  if (!isSymlink(attributes.mode)) {
    // As cp -p: privileges that were meant for another owner are not given to this one.
    const lost = owned ? 0 : attributes.mode & (S_ISUID | S_ISGID);
    if (lost !== 0)
      shortfalls.add({ path: entry.path, part: "mode", reason: "set-id bits are left out, as the owner is another" });
    if (inheritsAcls) removeInheritedAcls(context, file, entry);
    shortfalls.attempt(entry.path, "mode", () => changeMode(file, (attributes.mode & 0o7777) - lost));
  }
  for (const { name, value } of xattrs) {
    try {
      native.setXattr(file, name, value);
    } catch (error) {
      shortfalls.add({ path: entry.path, part: "xattr", reason: `${textFromBytes(name)}: ${reasonOf(error)}` });
    }
  }
  shortfalls.attempt(entry.path, "times", () => native.setTimes(file, attributes));
}

/** fcntl.h: the file itself, whatever its type, without opening it; with O_NOFOLLOW also a symbolic link itself. Node.js has no name for it. */
const O_PATH = 0o10000000;

/** chmod(2) follows a symbolic link, which somebody may put in the file's place in that moment: then this fails instead. */
function changeMode(file: FileRef, mode: number): void {
  if (typeof file === "number") {
    fchmodSync(file, mode);
    return;
  }
  const fd = openSync(file, O_PATH | constants.O_NOFOLLOW);
  try {
    chmodSync(`/proc/self/fd/${fd}`, mode);
  } finally {
    closeSync(fd);
  }
}

/** Answers whether the file has its owner and group now. Without root that is no shortfall of each file: it is said once, beforehand. */
function applyOwner(
  { shortfalls, user }: AttributeContext,
  file: FileRef,
  { path: shown, attributes }: FileEntry,
): boolean {
  const { uid, gid } = attributes;
  if (user.uid === 0) return shortfalls.attempt(shown, "owner", () => changeOwner(file, uid, gid));
  if (uid === user.uid && gid === user.gid) return true;
  try {
    // A group one is a member of can be given to one's own file.
    changeOwner(file, user.uid, gid);
    return uid === user.uid;
  } catch {
    return false;
  }
}

function changeOwner(file: FileRef, uid: number, gid: number): void {
  if (typeof file === "number") fchownSync(file, uid, gid);
  else lchownSync(file, uid, gid);
}

/** The folder that it was made in may have had a default ACL, which the new file took over. */
function removeInheritedAcls({ native, shortfalls }: AttributeContext, file: FileRef, entry: FileEntry): void {
  for (const acl of [ACL_ACCESS, ACL_DEFAULT]) {
    if (entry.xattrs.some(({ name }) => name.equals(acl))) continue;
    shortfalls.attempt(entry.path, "xattr", () => native.removeXattr(file, acl));
  }
}
