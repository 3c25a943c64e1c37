import { assert } from "../../src/base/assert.ts";
import type { Timestamp } from "../../src/base/clock.ts";
import { FsError } from "../../src/domain/errors.ts";
import { type InodeId, type Lsn, NAME_BYTES_MAX } from "../../src/domain/ids.ts";
import { type Inode, isDirectory } from "../../src/domain/inode.ts";
import { type Content, writtenBytes } from "./model-content.ts";

/**
 * An inode of the model with all that belongs to it. Immutable. `since` is the last LSN at which an attribute took another value;
 * `contentId` means nothing here. Names are bytes written as latin1 text.
 */
export type ModelNode = Inode & {
  readonly entries: ReadonlyMap<string, InodeId>;
  readonly xattrs: ReadonlyMap<string, Buffer>;
  readonly content: Content;
  /** Made by tmpfile and never linked: Linux's I_LINKABLE. */
  readonly linkable: boolean;
};

/** The tree at one moment. Immutable. */
export type Snapshot = ReadonlyMap<InodeId, ModelNode>;

/** What a mutation needs to know besides its request. */
export type Change = {
  /** LSN of the record it will be. */
  readonly lsn: Lsn;
  readonly now: Timestamp;
  readonly uid: number;
  readonly gid: number;
  /** A number for a new inode, never given before. */
  allocate(): InodeId;
  /** The tree as it was at an earlier moment. */
  past(at: Lsn): ModelState;
  /** copy_file_range may copy less than asked: what it did copy, where that is known. */
  readonly copiedBytes?: bigint;
};

/** Attributes that a test can compare; the others are the engine's own. */
const COMPARED = ["mode", "uid", "gid", "nlink", "rdev", "size", "parent"] as const;
const COMPARED_TIMES = ["atime", "mtime", "ctime", "btime"] as const;

/** All inodes by number: linked ones and orphans. The functions of model-*.ts change it. */
export class ModelState {
  #nodes: Map<InodeId, ModelNode>;

  constructor(nodes: Snapshot = new Map()) {
    this.#nodes = new Map(nodes);
  }

  /** The tree as it is now, for ever. */
  snapshot(): Snapshot {
    return new Map(this.#nodes);
  }

  /** Goes back to `snapshot`. */
  restore(snapshot: Snapshot): void {
    this.#nodes = new Map(snapshot);
  }

  has(ino: InodeId): boolean {
    return this.#nodes.has(ino);
  }

  nodes(): IterableIterator<ModelNode> {
    return this.#nodes.values();
  }

  /** The inode; ESTALE when there is none. */
  node(ino: InodeId): ModelNode {
    const node = this.#nodes.get(ino);
    if (node === undefined) throw FsError.of("ESTALE");
    return node;
  }

  /** The inode; ENOTDIR when it is no directory. */
  directory(ino: InodeId): ModelNode {
    const node = this.node(ino);
    if (!isDirectory(node.mode)) throw FsError.of("ENOTDIR");
    return node;
  }

  /** A directory into which a name can be put: ENOENT when it has been removed. */
  liveDirectory(ino: InodeId): ModelNode {
    const node = this.directory(ino);
    if (node.nlink === 0) throw FsError.of("ENOENT");
    return node;
  }

  add(node: ModelNode): ModelNode {
    assert(!this.#nodes.has(node.ino), "an inode number is given twice");
    this.#nodes.set(node.ino, node);
    return node;
  }

  update(ino: InodeId, patch: Partial<ModelNode>, lsn: Lsn): ModelNode {
    const before = this.node(ino);
    const merged = { ...before, ...patch };
    const after = { ...merged, allocatedBytes: writtenBytes(merged.content) };
    const node = sameAttributes(before, after) ? after : { ...after, since: lsn };
    this.#nodes.set(ino, node);
    return node;
  }

  remove(ino: InodeId): void {
    this.#nodes.delete(ino);
  }
}

function sameAttributes(left: ModelNode, right: ModelNode): boolean {
  return (
    COMPARED.every((key) => left[key] === right[key]) && COMPARED_TIMES.every((key) => sameTime(left[key], right[key]))
  );
}

export const sameTime = (left: Timestamp, right: Timestamp): boolean =>
  left.sec === right.sec && left.nsec === right.nsec;

/** Bytes of a name as the key of `entries`. Throws EINVAL, ENAMETOOLONG. */
export function nameKey(name: Buffer): string {
  if (name.length > NAME_BYTES_MAX) throw FsError.of("ENAMETOOLONG");
  const key = name.toString("latin1");
  if (key === "" || key === "." || key === ".." || key.includes("/") || key.includes("\0")) throw FsError.of("EINVAL");
  return key;
}

/** `entries` with `name` set to `ino`, or taken away. */
export function withEntry(node: ModelNode, name: string, ino: InodeId | undefined): ReadonlyMap<string, InodeId> {
  const entries = new Map(node.entries);
  if (ino === undefined) entries.delete(name);
  else entries.set(name, ino);
  return entries;
}

/** `xattrs` with `name` set to `value`, or taken away. */
export function withXattr(node: ModelNode, name: string, value: Buffer | undefined): ReadonlyMap<string, Buffer> {
  const xattrs = new Map(node.xattrs);
  if (value === undefined) xattrs.delete(name);
  else xattrs.set(name, value);
  return xattrs;
}
