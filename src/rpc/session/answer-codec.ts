import { crc32 } from "node:zlib";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { unreachable } from "../../base/assert.ts";
import { FsError, TidemarkError } from "../../domain/errors.ts";
import { type ContentId, inodeId } from "../../domain/ids.ts";
import type { Inode } from "../../domain/inode.ts";
import type { Invalidation, ReplyMap, Request } from "../../domain/metadata-api.ts";
import { fromIno, fromLsn, fromTime, toTime } from "../codec/common.ts";
import { buffer, defined, safeNumber, wide } from "../codec/values.ts";
import type * as pb from "../gen/tidemark/v1/session_pb.ts";
import { fromLock, type MountCall, toLock } from "./call-codec.ts";

/** Answers of the MetadataApi and what is told to caches, as messages of the session, both ways. Reading checks: INVALID_ARGUMENT. */

export type AnswerShape = NonNullable<MessageInitShape<typeof pb.AnswerSchema>["answer"]>;

/** A moment's number on a mount. */
export type SlotMoment = { readonly slot: number; readonly lsn: number };

/** Replies by operation, those about the mount included. */
export type SessionReplies = ReplyMap & {
  findMoment: SlotMoment | undefined;
  snapshotNames: readonly string[];
};

type AnyOp = (Request | MountCall)["op"];

export function toAnswer(op: AnyOp, reply: SessionReplies[AnyOp]): AnswerShape {
  // Each branch knows its reply by `op`; the compiler can't follow that through two values.
  const as = <Op extends AnyOp>(_op: Op): SessionReplies[Op] => reply as SessionReplies[Op];
  switch (op) {
    case "lookup":
    case "getattr":
    case "mknod":
    case "create":
    case "mkdir":
    case "symlink":
    case "link":
    case "tmpfile":
    case "setattr":
      return { case: "inode", value: toInode(as(op)) };
    case "readdir": {
      const { entries, end } = as(op);
      return { case: "page", value: { entries: entries.map(toEntry), end } };
    }
    case "readlink":
    case "getxattr":
      return { case: "bytes", value: as(op) };
    case "listxattr":
      return { case: "xattrNames", value: { names: [...as(op)] } };
    case "read": {
      const data = Buffer.concat(as(op));
      return { case: "data", value: { data, crc32: crc32(data) } };
    }
    case "write":
      return { case: "count", value: wide(as(op)) };
    case "lseek":
    case "copyRange":
      return { case: "count", value: as(op) };
    case "statfs":
      return { case: "space", value: as(op) };
    case "getlk": {
      const lock = as(op);
      return { case: "lock", value: lock === undefined ? {} : { lock: toLock(lock) } };
    }
    case "map":
      return { case: "map", value: { pieces: as(op).map(toPiece) } };
    case "findMoment": {
      const found = as(op);
      const moment = found === undefined ? {} : { moment: { slot: found.slot, lsn: wide(found.lsn) } };
      return { case: "moment", value: moment };
    }
    case "snapshotNames":
      return { case: "snapshotNames", value: { names: [...as(op)] } };
    case "unlink":
    case "rmdir":
    case "rename":
    case "fallocate":
    case "setxattr":
    case "removexattr":
    case "fsync":
    case "setlk":
    case "forget":
      return { case: "done", value: {} };
    default:
      return unreachable(op);
  }
}

/** Throws FsError for a failure that is the answer, and EIO for data whose checksum is not theirs. */
export function fromAnswer(op: AnyOp, answer: pb.Answer["answer"]): SessionReplies[AnyOp] {
  switch (answer.case) {
    case "failure":
      throw FsError.ofErrno(answer.value.errno);
    case "done":
      return undefined;
    case "inode":
      return fromInode(answer.value);
    case "page":
      return { entries: answer.value.entries.map(fromEntry), end: answer.value.end };
    case "bytes":
      return buffer(answer.value);
    case "xattrNames":
      return answer.value.names.map(buffer);
    case "data": {
      const { data } = answer.value;
      if (crc32(data) !== answer.value.crc32)
        throw new FsError("EIO", "data arrived damaged from the service: their checksum is another");
      return [data];
    }
    case "count":
      return op === "write" ? safeNumber(answer.value, "count") : answer.value;
    case "space": {
      const { blockBytes, blocksTotal, blocksFree, inodesTotal, inodesFree } = answer.value;
      return { blockBytes, blocksTotal, blocksFree, inodesTotal, inodesFree };
    }
    case "lock":
      return answer.value.lock === undefined ? undefined : fromLock(answer.value.lock);
    case "map":
      return answer.value.pieces.map(fromPiece);
    case "moment": {
      const found = answer.value.moment;
      return found === undefined ? undefined : { slot: found.slot, lsn: fromLsn(found.lsn, "lsn") };
    }
    case "snapshotNames":
      return answer.value.names;
    default:
      throw new TidemarkError("INVALID_ARGUMENT", "the service gave an answer that this version does not know");
  }
}

export function toInode(inode: Inode): MessageInitShape<typeof pb.InodeRowSchema> {
  const { atime, mtime, ctime, btime } = inode;
  return {
    ino: wide(inode.ino),
    since: wide(inode.since),
    generation: inode.generation,
    mode: inode.mode,
    uid: inode.uid,
    gid: inode.gid,
    nlink: inode.nlink,
    rdev: inode.rdev,
    size: inode.size,
    allocatedBytes: inode.allocatedBytes,
    atime: toTime(atime),
    mtime: toTime(mtime),
    ctime: toTime(ctime),
    btime: toTime(btime),
    contentId: wide(inode.contentId),
    parent: wide(inode.parent),
    target: inode.target,
    restoredFrom: wide(inode.restoredFrom),
  };
}

export function fromInode(row: pb.InodeRow): Inode {
  return {
    ino: inodeId(safeNumber(row.ino, "ino")),
    since: fromLsn(row.since, "since"),
    generation: row.generation,
    mode: row.mode,
    uid: row.uid,
    gid: row.gid,
    nlink: row.nlink,
    rdev: row.rdev,
    size: row.size,
    allocatedBytes: row.allocatedBytes,
    atime: fromTime(row.atime, "atime"),
    mtime: fromTime(row.mtime, "mtime"),
    ctime: fromTime(row.ctime, "ctime"),
    btime: fromTime(row.btime, "btime"),
    contentId: safeNumber(row.contentId, "content id") as ContentId,
    parent: fromIno(row.parent, "parent"),
    target: buffer(row.target),
    restoredFrom: fromIno(row.restoredFrom, "restored from"),
  };
}

const NO_TARGET = Buffer.alloc(0);

type Entry = ReplyMap["readdir"]["entries"][number];

function toEntry({ name, ino, type, cookie, inode }: Entry): MessageInitShape<typeof pb.DirectoryEntrySchema> {
  // Where links lead is asked for when somebody follows them: 4,096 of them would not fit a message.
  const known = inode === undefined ? {} : { inode: { ...toInode(inode), target: NO_TARGET } };
  return { name, ino: wide(ino), type, cookie, ...known };
}

function fromEntry(entry: pb.DirectoryEntry): Entry {
  const { name, ino, type, cookie, inode } = entry;
  return defined({
    name: buffer(name),
    ino: inodeId(safeNumber(ino, "ino")),
    type,
    cookie,
    inode: inode === undefined ? undefined : fromInode(inode),
  });
}

type Piece = ReplyMap["map"][number];

function toPiece({ offset, length, place }: Piece): MessageInitShape<typeof pb.FilePieceSchema> {
  const where = place === undefined ? {} : { place: { segment: wide(place.segment), position: place.position } };
  return { offset, length, ...where };
}

function fromPiece({ offset, length, place }: pb.FilePiece): Piece {
  const where =
    place === undefined ? undefined : { segment: safeNumber(place.segment, "segment"), position: place.position };
  return defined({ offset, length, place: where });
}

export function toInvalidation(invalidation: Invalidation): MessageInitShape<typeof pb.InvalidationSchema> {
  switch (invalidation.kind) {
    case "inode":
      return {
        what: {
          case: "inode",
          value: { ino: wide(invalidation.ino), data: invalidation.data, listing: invalidation.listing === true },
        },
      };
    case "entry": {
      const { parent, name, before } = invalidation;
      const value = { parent: wide(parent), name, ...(before === undefined ? {} : { before: wide(before) }) };
      return { what: { case: "entry", value } };
    }
    case "snapshot":
      return { what: { case: "snapshot", value: invalidation.name } };
    default:
      return unreachable(invalidation);
  }
}

/** `excluding` is nobody: the service has left out the mount that knows. Undefined: of a newer version. */
export function fromInvalidation({ what }: pb.Invalidation): Invalidation | undefined {
  switch (what.case) {
    case "inode": {
      const { data, listing } = what.value;
      const ino = inodeId(safeNumber(what.value.ino, "ino"));
      return { kind: "inode", ino, data, excluding: 0, ...(listing ? { listing } : {}) };
    }
    case "entry": {
      const { name, before } = what.value;
      const parent = inodeId(safeNumber(what.value.parent, "parent"));
      const told = { kind: "entry" as const, parent, name: buffer(name), excluding: 0 };
      return before === undefined ? told : { ...told, before: fromIno(before, "before") };
    }
    case "snapshot":
      return { kind: "snapshot", name: buffer(what.value), excluding: 0 };
    default:
      return undefined;
  }
}
