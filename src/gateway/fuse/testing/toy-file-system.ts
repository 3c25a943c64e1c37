import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { present } from "../../../base/assert.ts";
import type { Timestamp } from "../../../base/clock.ts";
import { FsError } from "../../../domain/errors.ts";
import type { NodeAttributes } from "../attribute-codec.ts";

/**
 * The state behind the toy file system: a tree in memory, changed only by commands. With a log file every command is a line of it, written
 * before it is carried out, and a new process starts by carrying out the old lines: so it survives kill -9, and a re-sent command is found
 * by its number. Slow and without durability; for tests only.
 */

export type ToyNode = {
  ino: number;
  mode: number;
  uid: number;
  gid: number;
  nlink: number;
  rdev: number;
  data: Buffer;
  size: number;
  target: string;
  children: Map<string, number> | undefined;
  parent: number;
  xattrs: Map<string, Buffer>;
  atime: Timestamp;
  mtime: Timestamp;
  ctime: Timestamp;
  btime: Timestamp;
};

/** A change. Names and bytes are latin1 strings, so that it is one line of JSON. */
export type ToyCommand =
  | { op: "make"; parent: number; name: string; mode: number; uid: number; gid: number; rdev: number; target: string }
  | { op: "link"; ino: number; parent: number; name: string }
  | { op: "remove"; parent: number; name: string; directory: boolean }
  | { op: "rename"; parent: number; name: string; newParent: number; newName: string; flags: number }
  | { op: "write"; ino: number; offset: number; data: string }
  | {
      op: "set";
      ino: number;
      mode?: number;
      uid?: number;
      gid?: number;
      size?: number;
      atime?: Timestamp;
      mtime?: Timestamp;
    }
  | { op: "setxattr"; ino: number; name: string; value: string; flags: number }
  | { op: "removexattr"; ino: number; name: string };

type Line = { unique: number; time: Timestamp; command: ToyCommand; ino: number };

const ROOT_INO = 1;
const S_IFDIR = 0o040000;
const S_IFMT = 0o170000;
const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;

export class ToyTree {
  readonly nodes = new Map<number, ToyNode>();
  readonly #logPath: string | undefined;
  /** What each numbered command did, for re-sent ones: the inode it made. */
  readonly #done = new Map<number, number>();
  #inoNext = ROOT_INO + 1;

  constructor(logPath?: string) {
    this.#logPath = logPath;
    this.nodes.set(ROOT_INO, newNode(ROOT_INO, { mode: S_IFDIR | 0o755, time: { sec: 0, nsec: 0 } }));
    if (logPath === undefined || !existsSync(logPath)) return;
    for (const text of readFileSync(logPath, "utf8").split("\n")) {
      // The last line of a killed process may be cut off; it was not acknowledged.
      if (!text.endsWith("}")) continue;
      const line = JSON.parse(text) as Line;
      this.#apply(line.command, line.time);
      if (line.unique !== 0) this.#done.set(line.unique, line.ino);
    }
  }

  get(ino: number): ToyNode {
    const node = this.nodes.get(ino);
    if (node === undefined) throw FsError.of("ENOENT");
    return node;
  }

  child(parent: number, name: string): ToyNode {
    const ino = this.get(parent).children?.get(name);
    if (ino === undefined) throw FsError.of("ENOENT");
    return this.get(ino);
  }

  /** Carries out `command`, or finds that it was carried out before. Answers the inode it made or changed. */
  execute(command: ToyCommand, from: { unique: number; resent: boolean; time: Timestamp }): number {
    if (from.resent) {
      const before = this.#done.get(from.unique);
      if (before !== undefined) return before;
    }
    this.#check(command);
    // One append is one write: with O_APPEND it is there whole, or (killed before) not at all.
    const ino = command.op === "make" ? this.#inoNext : "ino" in command ? command.ino : 0;
    if (this.#logPath !== undefined) {
      const line: Line = { unique: from.unique, time: from.time, command, ino };
      appendFileSync(this.#logPath, `${JSON.stringify(line)}\n`);
      this.#done.set(from.unique, ino);
    }
    this.#apply(command, from.time);
    return ino;
  }

  #check(command: ToyCommand): void {
    const has = (parent: number, name: string): boolean => this.get(parent).children?.has(name) === true;
    switch (command.op) {
      case "make":
      case "link":
        if (has(command.parent, command.name)) throw FsError.of("EEXIST");
        break;
      case "remove": {
        const node = this.child(command.parent, command.name);
        if (command.directory && (node.children?.size ?? 0) > 0) throw FsError.of("ENOTEMPTY");
        break;
      }
      case "rename": {
        this.child(command.parent, command.name);
        const taken = has(command.newParent, command.newName);
        if (taken && (command.flags & RENAME_NOREPLACE) !== 0) throw FsError.of("EEXIST");
        if (!taken && (command.flags & RENAME_EXCHANGE) !== 0) throw FsError.of("ENOENT");
        if (taken && command.flags === 0 && (this.child(command.newParent, command.newName).children?.size ?? 0) > 0) {
          throw FsError.of("ENOTEMPTY");
        }
        break;
      }
      case "removexattr":
        if (!this.get(command.ino).xattrs.has(command.name)) throw FsError.of("ENODATA");
        break;
      default:
        this.get(command.ino);
    }
  }

  #apply(command: ToyCommand, time: Timestamp): void {
    switch (command.op) {
      case "make": {
        const node = newNode(this.#inoNext++, { ...command, time });
        node.parent = command.parent;
        this.nodes.set(node.ino, node);
        this.#enter(command.parent, command.name, { ino: node.ino, time });
        if (node.children !== undefined) this.get(command.parent).nlink++;
        break;
      }
      case "link":
        this.get(command.ino).nlink++;
        this.#enter(command.parent, command.name, { ino: command.ino, time });
        break;
      case "remove":
        this.#drop(command.parent, command.name, time);
        break;
      case "rename":
        this.#rename(command, time);
        break;
      case "write":
        this.#write(this.get(command.ino), command.offset, { data: Buffer.from(command.data, "latin1"), time });
        break;
      case "set":
        this.#set(this.get(command.ino), command, time);
        break;
      case "setxattr":
        this.get(command.ino).xattrs.set(command.name, Buffer.from(command.value, "latin1"));
        break;
      case "removexattr":
        this.get(command.ino).xattrs.delete(command.name);
        break;
    }
  }

  #enter(parent: number, name: string, what: { ino: number; time: Timestamp }): void {
    const directory = this.get(parent);
    present(directory.children, "directory").set(name, what.ino);
    directory.mtime = what.time;
    directory.ctime = what.time;
  }

  #drop(parent: number, name: string, time: Timestamp): void {
    const directory = this.get(parent);
    const node = this.child(parent, name);
    directory.children?.delete(name);
    directory.mtime = time;
    directory.ctime = time;
    if (node.children !== undefined) directory.nlink--;
    node.nlink -= node.children === undefined ? 1 : node.nlink;
    node.ctime = time;
  }

  #rename(command: Extract<ToyCommand, { op: "rename" }>, time: Timestamp): void {
    const source = present(this.get(command.parent).children, "directory");
    const target = present(this.get(command.newParent).children, "directory");
    const moved = this.child(command.parent, command.name);
    const replaced = target.get(command.newName);
    if ((command.flags & RENAME_EXCHANGE) !== 0) source.set(command.name, present(replaced, "exchanged name"));
    else {
      if (replaced === moved.ino) return;
      if (replaced !== undefined) this.#drop(command.newParent, command.newName, time);
      source.delete(command.name);
      if (moved.children !== undefined && command.parent !== command.newParent) {
        this.get(command.parent).nlink--;
        this.get(command.newParent).nlink++;
      }
    }
    target.set(command.newName, moved.ino);
    moved.parent = command.newParent;
    moved.ctime = time;
  }

  #write(node: ToyNode, offset: number, what: { data: Buffer; time: Timestamp }): void {
    const end = offset + what.data.length;
    reserve(node, end);
    what.data.copy(node.data, offset);
    node.size = Math.max(node.size, end);
    node.mtime = what.time;
    node.ctime = what.time;
  }

  /** WRITE without a log: the data is copied once, from the read buffer. */
  writeUnlogged(node: ToyNode, offset: number, what: { data: Buffer; time: Timestamp }): void {
    this.#write(node, offset, what);
  }

  get logged(): boolean {
    return this.#logPath !== undefined;
  }

  #set(node: ToyNode, set: Extract<ToyCommand, { op: "set" }>, time: Timestamp): void {
    if (set.mode !== undefined) node.mode = (node.mode & S_IFMT) | (set.mode & ~S_IFMT);
    if (set.uid !== undefined) node.uid = set.uid;
    if (set.gid !== undefined) node.gid = set.gid;
    if (set.size !== undefined) {
      reserve(node, set.size);
      if (set.size < node.size) node.data.fill(0, set.size, node.size);
      node.size = set.size;
      node.mtime = time;
    }
    if (set.atime !== undefined) node.atime = set.atime;
    if (set.mtime !== undefined) node.mtime = set.mtime;
    node.ctime = time;
  }
}

function newNode(
  ino: number,
  from: { mode: number; uid?: number; gid?: number; rdev?: number; target?: string; time: Timestamp },
): ToyNode {
  const directory = (from.mode & S_IFMT) === S_IFDIR;
  return {
    ino,
    mode: from.mode,
    uid: from.uid ?? 0,
    gid: from.gid ?? 0,
    nlink: directory ? 2 : 1,
    rdev: from.rdev ?? 0,
    data: Buffer.alloc(0),
    size: from.target?.length ?? 0,
    target: from.target ?? "",
    children: directory ? new Map() : undefined,
    parent: ino,
    xattrs: new Map(),
    atime: from.time,
    mtime: from.time,
    ctime: from.time,
    btime: from.time,
  };
}

/** Makes room for `bytes`, with zeros. */
function reserve(node: ToyNode, bytes: number): void {
  if (bytes <= node.data.length) return;
  const larger = Buffer.alloc(Math.max(bytes, node.data.length * 2));
  node.data.copy(larger, 0, 0, node.size);
  node.data = larger;
}

/** What the kernel is told of `node`. */
export function toyAttributes(node: ToyNode): NodeAttributes {
  return {
    ino: node.ino,
    generation: 0,
    mode: node.mode,
    uid: node.uid,
    gid: node.gid,
    nlink: node.nlink,
    rdev: node.rdev,
    size: BigInt(node.size),
    allocatedBytes: BigInt(node.size),
    atime: node.atime,
    mtime: node.mtime,
    ctime: node.ctime,
    btime: node.btime,
  };
}
