import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Timestamp } from "../../base/clock.ts";
import { FsError, TidemarkError } from "../../domain/errors.ts";
import { type InodeId, inodeId, LIVE, type Lsn, lsn } from "../../domain/ids.ts";
import { SIZE_BYTES_MAX } from "../../domain/inode.ts";
import type { FileLock, Request, SetAttributes } from "../../domain/metadata-api.ts";
import type { SessionGrant } from "../../domain/session-api.ts";
import { fromTime, toTime } from "../codec/common.ts";
import { buffer, defined, maybe, need, safeNumber, WordCodec, wide } from "../codec/values.ts";
import type * as pb from "../gen/tidemark/v1/session_pb.ts";
import { LockType, ViewsAllowed } from "../gen/tidemark/v1/session_pb.ts";

/**
 * Requests of the MetadataApi as calls of the session, both ways. `toCall` makes the oneof; `fromCall` checks and reads it: INVALID_ARGUMENT for numbers out of range and for a call that this version does not
 * know. Names and data are views of the message.
 */

type CallShape = NonNullable<MessageInitShape<typeof pb.CallSchema>["request"]>;

export const LOCK_TYPES = new WordCodec<FileLock["type"], LockType>("lock type", {
  read: LockType.READ,
  write: LockType.WRITE,
  unlock: LockType.UNLOCK,
});

/** Who may look into `.tidemark`. */
export const VIEWS = new WordCodec<SessionGrant["views"], ViewsAllowed>("views", {
  off: ViewsAllowed.OFF,
  root: ViewsAllowed.ROOT,
  users: ViewsAllowed.USERS,
});

/** What asks about the mount rather than about files. */
export type MountCall = { readonly op: "findMoment"; readonly name: string } | { readonly op: "snapshotNames" };

type Of<Op extends Request["op"]> = Extract<Request, { op: Op }>;

/** How one request travels. */
type CallCodec<Op extends Request["op"]> = { to(request: Of<Op>): CallShape };

const CALLS: { readonly [Op in Request["op"]]: CallCodec<Op>["to"] } = {
  lookup: ({ parent, name, at }) => ({ case: "lookup", value: { parent: wide(parent), name, ...moment(at) } }),
  getattr: ({ ino, at, tells }) => ({
    case: "getattr",
    value: { ino: wide(ino), tells: tells === true, ...moment(at) },
  }),
  readdir: ({ ino, cookie, entriesMax, plus, at }) => ({
    case: "readdir",
    value: { ino: wide(ino), cookie, entriesMax, plus, ...moment(at) },
  }),
  readlink: ({ ino, at }) => ({ case: "readlink", value: { ino: wide(ino), ...moment(at) } }),
  getxattr: ({ ino, name, at }) => ({ case: "getxattr", value: { ino: wide(ino), name, ...moment(at) } }),
  listxattr: ({ ino, at }) => ({ case: "listxattr", value: { ino: wide(ino), ...moment(at) } }),
  read: ({ ino, offset, length, at }) => ({
    case: "read",
    value: { ino: wide(ino), offset: size(offset), length, ...moment(at) },
  }),
  map: ({ ino, offset, length, at }) => ({
    case: "map",
    value: { ino: wide(ino), offset: size(offset), length, ...moment(at) },
  }),
  lseek: ({ ino, offset, whence, at }) => ({
    case: "lseek",
    value: { ino: wide(ino), offset: size(offset), hole: whence === "hole", ...moment(at) },
  }),
  statfs: () => ({ case: "statfs", value: {} }),
  getlk: ({ ino, owner, flock, lock }) => ({
    case: "getlk",
    value: { ino: wide(ino), owner, flock, lock: toLock(lock), wait: false },
  }),
  setlk: ({ ino, owner, flock, lock, wait }) => ({
    case: "setlk",
    value: { ino: wide(ino), owner, flock, lock: toLock(lock), wait },
  }),
  mknod: ({ parent, name, mode, umask, rdev }) => ({
    case: "mknod",
    value: { parent: wide(parent), name, mode, umask, rdev },
  }),
  create: ({ parent, name, mode, umask, exclusive, truncate }) => ({
    case: "create",
    value: { parent: wide(parent), name, mode, umask, exclusive, truncate },
  }),
  mkdir: ({ parent, name, mode, umask }) => ({ case: "mkdir", value: { parent: wide(parent), name, mode, umask } }),
  symlink: ({ parent, name, target }) => ({ case: "symlink", value: { parent: wide(parent), name, target } }),
  link: ({ ino, parent, name }) => ({ case: "link", value: { ino: wide(ino), parent: wide(parent), name } }),
  tmpfile: ({ parent, mode, umask }) => ({ case: "tmpfile", value: { parent: wide(parent), mode, umask } }),
  unlink: ({ parent, name }) => ({ case: "unlink", value: { parent: wide(parent), name } }),
  rmdir: ({ parent, name }) => ({ case: "rmdir", value: { parent: wide(parent), name } }),
  rename: ({ parent, name, newParent, newName, flags }) => ({
    case: "rename",
    value: { parent: wide(parent), name, newParent: wide(newParent), newName, flags },
  }),
  // The checksum is put in where the data came from the kernel (session-client.ts).
  write: ({ ino, offset, data, killPrivileges, append }) => ({
    case: "write",
    value: { ino: wide(ino), offset: size(offset), data, killPrivileges, append: append === true },
  }),
  setattr: ({ ino, set }) => ({ case: "setattr", value: { ino: wide(ino), ...toSet(set) } }),
  fallocate: ({ ino, mode, offset, length }) => ({
    case: "fallocate",
    value: { ino: wide(ino), mode, offset: size(offset), length: size(length) },
  }),
  copyRange: ({ source, sourceOffset, target, targetOffset, length, sourceAt }) => ({
    case: "copyRange",
    value: {
      source: wide(source),
      sourceOffset: size(sourceOffset),
      target: wide(target),
      targetOffset: size(targetOffset),
      length: size(length),
      ...(sourceAt === LIVE ? {} : { sourceAt: wide(sourceAt) }),
    },
  }),
  setxattr: ({ ino, name, value, flags, killSgid }) => ({
    case: "setxattr",
    value: { ino: wide(ino), name, value, flags, killSgid },
  }),
  removexattr: ({ ino, name }) => ({ case: "removexattr", value: { ino: wide(ino), name } }),
  fsync: ({ ino }) => ({ case: "fsync", value: { ino: wide(ino) } }),
  forget: ({ ino, lookups }) => ({
    case: "forget",
    value: { ino: wide(ino), ...(lookups === undefined ? {} : { lookups }) },
  }),
};

/** Throws FsError EINVAL for offsets and lengths that no file has: on the wire they would be an error of the whole stream. */
export function toCall(request: Request | MountCall): CallShape {
  if (request.op === "findMoment") return { case: "findMoment", value: { name: request.name } };
  if (request.op === "snapshotNames") return { case: "snapshotNames", value: {} };
  // The table has the right function for each `op`; the compiler can't follow that through the union.
  return (CALLS[request.op] as (request: Request) => CallShape)(request);
}

export function fromCall(call: pb.Call["request"]): Request | MountCall {
  switch (call.case) {
    case "lookup": {
      const { parent, name, at } = call.value;
      return { op: "lookup", parent: ino(parent), name: buffer(name), at: fromMoment(at) };
    }
    case "getattr":
      return {
        op: "getattr",
        ino: ino(call.value.ino),
        tells: call.value.tells,
        at: fromMoment(call.value.at),
      };
    case "readdir": {
      const { cookie, entriesMax, plus, at } = call.value;
      return { op: "readdir", ino: ino(call.value.ino), cookie, entriesMax, plus, at: fromMoment(at) };
    }
    case "readlink":
    case "listxattr":
      return { op: call.case, ino: ino(call.value.ino), at: fromMoment(call.value.at) };
    case "getxattr":
      return {
        op: "getxattr",
        ino: ino(call.value.ino),
        name: buffer(call.value.name),
        at: fromMoment(call.value.at),
      };
    case "read":
    case "map": {
      const { offset, length, at } = call.value;
      return { op: call.case, ino: ino(call.value.ino), offset: off(offset), length, at: fromMoment(at) };
    }
    case "lseek": {
      const { offset, hole, at } = call.value;
      const whence = hole ? "hole" : "data";
      return { op: "lseek", ino: ino(call.value.ino), offset: off(offset), whence, at: fromMoment(at) };
    }
    case "statfs":
      return { op: "statfs" };
    case "findMoment":
      return { op: "findMoment", name: call.value.name };
    case "snapshotNames":
      return { op: "snapshotNames" };
    default:
      return fromChange(call);
  }
}

function fromChange(call: pb.Call["request"]): Request {
  switch (call.case) {
    case "mknod":
    case "mkdir":
    case "tmpfile": {
      const { name, mode, umask, rdev } = call.value;
      return { op: call.case, parent: ino(call.value.parent), name: buffer(name), mode, umask, rdev };
    }
    case "create": {
      const { name, mode, umask, exclusive, truncate } = call.value;
      return { op: "create", parent: ino(call.value.parent), name: buffer(name), mode, umask, exclusive, truncate };
    }
    case "symlink": {
      const { parent, name, target } = call.value;
      return { op: "symlink", parent: ino(parent), name: buffer(name), target: buffer(target) };
    }
    case "link": {
      const { parent, name } = call.value;
      return { op: "link", ino: ino(call.value.ino), parent: ino(parent), name: buffer(name) };
    }
    case "unlink":
    case "rmdir":
      return { op: call.case, parent: ino(call.value.parent), name: buffer(call.value.name) };
    case "rename": {
      const { parent, name, newParent, newName, flags } = call.value;
      const target = { newParent: ino(newParent), newName: buffer(newName) };
      return { op: "rename", parent: ino(parent), name: buffer(name), ...target, flags };
    }
    case "setattr":
      return { op: "setattr", ino: ino(call.value.ino), set: fromSet(call.value) };
    case "setxattr": {
      const { name, value, flags, killSgid } = call.value;
      return {
        op: "setxattr",
        ino: ino(call.value.ino),
        name: buffer(name),
        value: buffer(value),
        flags,
        killSgid,
      };
    }
    case "removexattr":
      return { op: "removexattr", ino: ino(call.value.ino), name: buffer(call.value.name) };
    default:
      return fromContent(call);
  }
}

function fromContent(call: pb.Call["request"]): Request {
  switch (call.case) {
    case "write": {
      const { offset, data, killPrivileges, append } = call.value;
      return { op: "write", ino: ino(call.value.ino), offset: off(offset), data, killPrivileges, append };
    }
    case "fallocate": {
      const { mode, offset, length } = call.value;
      return { op: "fallocate", ino: ino(call.value.ino), mode, offset: off(offset), length: off(length) };
    }
    case "copyRange": {
      const { source, sourceOffset, target, targetOffset, length, sourceAt } = call.value;
      return {
        op: "copyRange",
        source: ino(source),
        sourceOffset: off(sourceOffset),
        target: ino(target),
        targetOffset: off(targetOffset),
        length: off(length),
        sourceAt: fromMoment(sourceAt),
      };
    }
    case "fsync":
      return { op: "fsync", ino: ino(call.value.ino) };
    case "forget":
      return defined({ op: "forget" as const, ino: ino(call.value.ino), lookups: call.value.lookups });
    case "getlk":
    case "setlk": {
      const { owner, flock, lock, wait } = call.value;
      const wanted = { ino: ino(call.value.ino), owner, flock, lock: fromLock(need(lock, "lock")) };
      return call.case === "getlk" ? { op: "getlk", ...wanted } : { op: "setlk", ...wanted, wait };
    }
    default:
      throw new TidemarkError("INVALID_ARGUMENT", "the call has no request that this version knows");
  }
}

export function toLock(lock: FileLock): MessageInitShape<typeof pb.LockSchema> {
  return { start: size(lock.start), end: size(lock.end), type: LOCK_TYPES.to(lock.type), pid: lock.pid };
}

export function fromLock(lock: pb.Lock): FileLock {
  return { start: off(lock.start), end: off(lock.end), type: LOCK_TYPES.from(lock.type), pid: lock.pid };
}

function moment(at: Lsn): { at?: bigint } {
  return at === LIVE ? {} : { at: wide(at) };
}

function fromMoment(at: bigint | undefined): Lsn {
  return at === undefined ? LIVE : lsn(safeNumber(at, "at"));
}

/** An offset, size or length on its way out. */
function size(value: bigint): bigint {
  if (value < 0n || value > SIZE_BYTES_MAX) throw FsError.of("EINVAL");
  return value;
}

/** An inode number of a call. */
function ino(value: bigint): InodeId {
  if (value < 1n || value >= 2n ** 40n)
    throw new TidemarkError("INVALID_ARGUMENT", `the inode number ${value} is out of range`);
  return inodeId(Number(value));
}

/** An offset, size or length: what off_t can hold. */
function off(value: bigint): bigint {
  if (value > SIZE_BYTES_MAX) throw new TidemarkError("INVALID_ARGUMENT", `${value} is more than a file can have`);
  return value;
}

function toSet(set: SetAttributes): Omit<MessageInitShape<typeof pb.SetattrCallSchema>, "$typeName" | "ino"> {
  const { mode, uid, gid, atime, mtime, ctime, killPrivileges } = set;
  return defined({
    mode,
    uid,
    gid,
    size: maybe(set.size, size),
    atime: maybe(atime, toSetTime),
    mtime: maybe(mtime, toSetTime),
    ctime: maybe(ctime, toTime),
    killPrivileges,
  });
}

function toSetTime(time: Timestamp | "now"): MessageInitShape<typeof pb.SetTimeSchema> {
  return time === "now" ? {} : { time: toTime(time) };
}

function fromSetTime(value: pb.SetTime): Timestamp | "now" {
  return value.time === undefined ? "now" : fromTime(value.time, "time");
}

function fromSet(call: pb.SetattrCall): SetAttributes {
  const { mode, uid, gid, size, atime, mtime, ctime, killPrivileges } = call;
  return defined({
    mode,
    uid,
    gid,
    size: maybe(size, off),
    atime: maybe(atime, fromSetTime),
    mtime: maybe(mtime, fromSetTime),
    ctime: maybe(ctime, (time) => fromTime(time, "ctime")),
    killPrivileges,
  });
}
