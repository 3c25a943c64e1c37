import { FsError } from "../../domain/errors.ts";
import { type InodeId, LIVE, type Lsn } from "../../domain/ids.ts";
import { isDirectory, S_IFBLK, S_IFCHR, S_IFMT, S_ISVTX } from "../../domain/inode.ts";
import { RENAME_EXCHANGE, type Request, type SetAttributes } from "../../domain/metadata-api.ts";
import { ACL_ACCESS, ACL_DEFAULT, decodeAcl, grants } from "../acl.ts";
import type { EngineCore } from "../core.ts";
import type { InodeRow } from "../rows.ts";

/** Permissions, as in a mode. */
const READ = 4;
const WRITE = 2;
const EXECUTE = 1;

const USER_NAMESPACE = Buffer.from("user.");

export type Caller = { readonly uid: number; readonly gid: number };

/**
 * What modes and access lists allow a user whom the service itself has named: the checks that a kernel makes otherwise, here, since a node that is not trusted to say who asks is not trusted
 * to check either. As a server of NFS does it: an inode by its number is enough (whoever has it passed the directories above, or guessed it inside of the subtree), the owner of a file may read and
 * write it whatever its mode (it may have been opened before that was changed), and what may be executed may be read. Of the caller's groups only his own one is known.
 */
export class AccessCheck {
  readonly #core: EngineCore;

  constructor(core: EngineCore) {
    this.#core = core;
  }

  /** Throws EACCES or EPERM. */
  check(request: Request, caller: Caller): void {
    if (caller.uid === 0) return;
    switch (request.op) {
      case "lookup":
        this.#may(request.parent, request.at, caller, EXECUTE);
        break;
      case "readdir":
        this.#may(request.ino, request.at, caller, READ);
        break;
      case "read":
      case "map":
      case "lseek":
        this.#mayRead(request.ino, request.at, caller);
        break;
      case "getxattr":
        this.#mayReadXattr(request, caller);
        break;
      case "write":
      case "fallocate":
        this.#mayWrite(request.ino, caller);
        break;
      case "copyRange":
        this.#mayRead(request.source, request.sourceAt, caller);
        this.#mayWrite(request.target, caller);
        break;
      case "setlk":
        if (request.lock.type === "read") this.#mayRead(request.ino, LIVE, caller);
        else if (request.lock.type === "write") this.#mayWrite(request.ino, caller);
        return;
      case "setattr":
        this.#maySet(request.ino, request.set, caller);
        break;
      case "setxattr":
      case "removexattr":
        this.#maySetXattr(request.ino, request.name, caller);
        break;
      case "getattr":
      case "readlink":
      case "listxattr":
      case "statfs":
      case "getlk":
      case "fsync":
      case "forget":
        return;
      default:
        this.#mayName(request, caller);
        break;
    }
  }

  /** Requests that make, move or end names. */
  #mayName(
    request: Extract<
      Request,
      { op: "mknod" | "create" | "mkdir" | "symlink" | "link" | "tmpfile" | "unlink" | "rmdir" | "rename" }
    >,
    caller: Caller,
  ): void {
    switch (request.op) {
      case "mknod":
        if (isDevice(request)) throw FsError.of("EPERM");
        break;
      case "create":
        this.#mayCreate(request, caller);
        return;
      case "unlink":
      case "rmdir":
        this.#mayEnd(request.parent, request.name, caller);
        break;
      case "rename":
        this.#mayRename(request, caller);
        return;
    }
    this.#may(request.parent, LIVE, caller, WRITE | EXECUTE);
  }

  /** open(2) of what is there takes the file's permission, not the directory's. */
  #mayCreate(request: Extract<Request, { op: "create" }>, caller: Caller): void {
    const there = this.#core.dentry(request.parent, request.name);
    if (there === undefined || request.exclusive) {
      this.#may(request.parent, LIVE, caller, WRITE | EXECUTE);
      return;
    }
    this.#may(request.parent, LIVE, caller, EXECUTE);
    if (request.truncate) this.#mayWrite(there.ino, caller);
  }

  #mayRename(request: Extract<Request, { op: "rename" }>, caller: Caller): void {
    const { parent, name, newParent, newName, flags } = request;
    this.#may(parent, LIVE, caller, WRITE | EXECUTE);
    this.#may(newParent, LIVE, caller, WRITE | EXECUTE);
    this.#mayEnd(parent, name, caller);
    this.#mayEnd(newParent, newName, caller);
    if (parent === newParent) return;
    this.#mayMove(parent, name, caller);
    if ((flags & RENAME_EXCHANGE) !== 0) this.#mayMove(newParent, newName, caller);
  }

  /** A directory that gets another parent is itself changed: its "..". */
  #mayMove(parent: InodeId, name: Buffer, caller: Caller): void {
    const child = this.#child(parent, name);
    if (child !== undefined && isDirectory(child.mode)) this.#may(child.ino, LIVE, caller, WRITE);
  }

  /** Restricted deletion: in a directory with S_ISVTX a name is its file's owner's, and the directory's. */
  #mayEnd(parent: InodeId, name: Buffer, caller: Caller): void {
    const directory = this.#core.inode(parent);
    if ((directory.mode & S_ISVTX) === 0 || directory.uid === caller.uid) return;
    const child = this.#child(parent, name);
    if (child !== undefined && child.uid !== caller.uid) throw FsError.of("EPERM");
  }

  #child(parent: InodeId, name: Buffer): InodeRow | undefined {
    if (name.length === 0 || name.length > 255) return undefined;
    const dentry = this.#core.dentry(parent, name);
    return dentry === undefined ? undefined : this.#core.findInodeNow(dentry.ino);
  }

  #mayRead(ino: InodeId, at: Lsn, caller: Caller): void {
    if (at === LIVE && this.#core.inode(ino).uid === caller.uid) return;
    if (this.#allows(ino, at, caller, EXECUTE)) return;
    this.#may(ino, at, caller, READ);
  }

  #mayWrite(ino: InodeId, caller: Caller): void {
    if (this.#core.inode(ino).uid === caller.uid) return;
    this.#may(ino, LIVE, caller, WRITE);
  }

  #maySet(ino: InodeId, set: SetAttributes, caller: Caller): void {
    const inode = this.#core.inode(ino);
    const isOwner = inode.uid === caller.uid;
    const givenTimes = [set.atime, set.mtime, set.ctime].some((time) => time !== undefined && time !== "now");
    if ((set.mode !== undefined || givenTimes) && !isOwner) throw FsError.of("EPERM");
    // S_ISGID of a group that one is not in: the kernel takes it off itself, but it is not trusted.
    if (set.mode !== undefined && (set.mode & 0o2000) !== 0 && inode.gid !== caller.gid && !isDirectory(inode.mode))
      throw FsError.of("EPERM");
    if (set.uid !== undefined && (set.uid !== inode.uid || !isOwner)) throw FsError.of("EPERM");
    if (set.gid !== undefined && set.gid !== inode.gid && (!isOwner || set.gid !== caller.gid))
      throw FsError.of("EPERM");
    if (set.size !== undefined) this.#mayWrite(ino, caller);
    else if ((set.atime === "now" || set.mtime === "now") && !isOwner) this.#may(ino, LIVE, caller, WRITE);
  }

  #mayReadXattr(request: Extract<Request, { op: "getxattr" }>, caller: Caller): void {
    if (startsWith(request.name, USER_NAMESPACE)) this.#mayRead(request.ino, request.at, caller);
    else if (startsWith(request.name, TRUSTED_NAMESPACE)) throw FsError.of("EPERM");
  }

  #maySetXattr(ino: InodeId, name: Buffer, caller: Caller): void {
    if (startsWith(name, USER_NAMESPACE)) {
      this.#mayWrite(ino, caller);
      return;
    }
    const isAcl = name.equals(ACL_ACCESS) || name.equals(ACL_DEFAULT);
    if (!isAcl || this.#core.inode(ino).uid !== caller.uid) throw FsError.of("EPERM");
  }

  #may(ino: InodeId, at: Lsn, caller: Caller, wanted: number): void {
    if (!this.#allows(ino, at, caller, wanted)) throw FsError.of("EACCES");
  }

  /** In the past: what the file allowed then, and what it allows today, if it is there; what is gone is for its last owner. */
  #allows(ino: InodeId, at: Lsn, caller: Caller, wanted: number): boolean {
    const then = this.#core.inodeAt(ino, at);
    if (!this.#rowAllows(then, at, caller, wanted)) return false;
    if (at === LIVE) return true;
    const today = this.#core.findInodeNow(ino);
    if (today === undefined || today.nlink === 0) return then.uid === caller.uid;
    return this.#rowAllows(today, LIVE, caller, wanted);
  }

  #rowAllows(inode: InodeRow, at: Lsn, { uid, gid }: Caller, wanted: number): boolean {
    const list = this.#core.xattr(inode, ACL_ACCESS, at);
    return grants(inode, list === undefined ? undefined : decodeAcl(list), { uid, gids: [gid] }, wanted);
  }
}

const TRUSTED_NAMESPACE = Buffer.from("trusted.");

function startsWith(name: Buffer, prefix: Buffer): boolean {
  return name.subarray(0, prefix.length).equals(prefix);
}

/** A device node but for the whiteout of overlayfs (0:0), which opens nothing. */
function isDevice({ mode, rdev }: Extract<Request, { op: "mknod" }>): boolean {
  const type = mode & S_IFMT;
  return type === S_IFBLK || (type === S_IFCHR && rdev !== 0);
}
