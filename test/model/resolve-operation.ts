import { unreachable } from "../../src/base/assert.ts";
import type { InodeId, Lsn } from "../../src/domain/ids.ts";
import type { Request, SetAttributes, WriteRequest } from "../../src/domain/metadata-api.ts";
import { type Bytes, nameBytes, type Operation, type SetText, type Slot } from "./operations.ts";
import { Random } from "./random.ts";

/** What slots and moments of an operation stand for in a run. */
export type Meaning = { inode(slot: Slot): InodeId | undefined; moment(index: number): Lsn };

/** A slot of the operation is empty: an earlier step that would have filled it failed or was taken out. */
class EmptySlot extends Error {}

/** The request that `operation` stands for, or undefined when one of its slots is empty. */
export function resolveOperation(operation: Operation, meaning: Meaning): Request | undefined {
  const slots: Slots = (slot) => {
    const ino = meaning.inode(slot);
    if (ino === undefined) throw new EmptySlot();
    return ino;
  };
  try {
    return "moment" in operation ? resolveRead(operation, slots, meaning) : resolveWrite(operation, slots);
  } catch (error) {
    if (error instanceof EmptySlot) return undefined;
    throw error;
  }
}

type Slots = (slot: Slot) => InodeId;

function resolveRead(operation: Extract<Operation, { moment: number }>, slots: Slots, meaning: Meaning): Request {
  const at = meaning.moment(operation.moment);
  switch (operation.op) {
    case "lookup":
      return { op: "lookup", parent: slots(operation.dir), name: nameBytes(operation.name), at };
    case "getattr":
    case "readlink":
    case "listxattr":
      return { op: operation.op, ino: slots(operation.ino), at };
    case "getxattr":
      return { op: "getxattr", ino: slots(operation.ino), name: nameBytes(operation.name), at };
    case "read":
      return { op: "read", ino: slots(operation.ino), offset: BigInt(operation.offset), length: operation.length, at };
    case "lseek":
      return { op: "lseek", ino: slots(operation.ino), offset: BigInt(operation.offset), whence: operation.whence, at };
    case "copyRange":
      return {
        op: "copyRange",
        source: slots(operation.source),
        sourceOffset: BigInt(operation.sourceOffset),
        target: slots(operation.target),
        targetOffset: BigInt(operation.targetOffset),
        length: BigInt(operation.length),
        sourceAt: at,
      };
    default:
      return unreachable(operation);
  }
}

function resolveWrite(operation: Exclude<Operation, { moment: number }>, slots: Slots): WriteRequest {
  switch (operation.op) {
    case "link":
      return { op: "link", ino: slots(operation.ino), parent: slots(operation.dir), name: nameBytes(operation.name) };
    case "tmpfile":
      return { op: "tmpfile", parent: slots(operation.dir), mode: operation.mode, umask: operation.umask };
    case "rename":
      return {
        op: "rename",
        parent: slots(operation.dir),
        name: nameBytes(operation.name),
        newParent: slots(operation.newDir),
        newName: nameBytes(operation.newName),
        flags: operation.flags,
      };
    case "mknod":
    case "create":
    case "mkdir":
    case "symlink":
    case "unlink":
    case "rmdir":
      return resolveNamed(operation, { parent: slots(operation.dir), name: nameBytes(operation.name) });
    default:
      return resolveInode(operation, slots(operation.ino));
  }
}

type NamedOp = "mknod" | "create" | "mkdir" | "symlink" | "unlink" | "rmdir";
type Named = Extract<Operation, { op: NamedOp }>;
type OfInode = Exclude<Extract<Operation, { ino: Slot }>, { op: "link" } | { moment: number }>;

function resolveNamed(operation: Named, place: { readonly parent: InodeId; readonly name: Buffer }): WriteRequest {
  switch (operation.op) {
    case "mknod":
      return { op: "mknod", ...place, mode: operation.mode, umask: operation.umask, rdev: operation.rdev };
    case "create": {
      const { mode, umask, exclusive, truncate } = operation;
      return { op: "create", ...place, mode, umask, exclusive, truncate };
    }
    case "mkdir":
      return { op: "mkdir", ...place, mode: operation.mode, umask: operation.umask };
    case "symlink":
      return { op: "symlink", ...place, target: bytesOf(operation.target) };
    case "unlink":
    case "rmdir":
      return { op: operation.op, ...place };
    default:
      return unreachable(operation);
  }
}

function resolveInode(operation: OfInode, ino: InodeId): WriteRequest {
  switch (operation.op) {
    case "write": {
      const { killPrivileges, append = false } = operation;
      const offset = BigInt(operation.offset);
      return { op: "write", ino, offset, data: bytesOf(operation.data), killPrivileges, append };
    }
    case "setattr":
      return { op: "setattr", ino, set: setOf(operation.set) };
    case "fallocate": {
      const { mode, offset, length } = operation;
      return { op: "fallocate", ino, mode, offset: BigInt(offset), length: BigInt(length) };
    }
    case "setxattr": {
      const { flags, killSgid } = operation;
      return { op: "setxattr", ino, name: nameBytes(operation.name), value: bytesOf(operation.value), flags, killSgid };
    }
    case "removexattr":
      return { op: "removexattr", ino, name: nameBytes(operation.name) };
    case "fsync":
    case "forget":
      return { op: operation.op, ino };
    default:
      return unreachable(operation);
  }
}

function bytesOf(bytes: Bytes): Buffer {
  return "hex" in bytes ? Buffer.from(bytes.hex, "hex") : new Random(bytes.seed).bytes(bytes.length);
}

function setOf({ size, ...rest }: SetText): SetAttributes {
  return size === undefined ? rest : { ...rest, size: BigInt(size) };
}
