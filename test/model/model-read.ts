import { FsError } from "../../src/domain/errors.ts";
import { isSymlink, S_IFMT } from "../../src/domain/inode.ts";
import type { DirectoryEntry, ReadRequest, ReplyMap } from "../../src/domain/metadata-api.ts";
import { checkXattrName } from "./model-attributes.ts";
import { firstNonZero, larger, readContent } from "./model-content.ts";
import { fileNode } from "./model-data.ts";
import { type ModelNode, type ModelState, nameKey } from "./model-state.ts";

type Of<Op extends ReadRequest["op"]> = Extract<ReadRequest, { op: Op }>;

export function lookup(state: ModelState, request: Of<"lookup">): ModelNode {
  const ino = state.directory(request.parent).entries.get(nameKey(request.name));
  if (ino === undefined) throw FsError.of("ENOENT");
  return state.node(ino);
}

/** A cookie that depends on the name only, so that it survives any change (FNV-1a, 52 bits; never 0). */
function cookieOf(name: string): bigint {
  let hash = 0xcbf29ce484222325n;
  for (const byte of Buffer.from(name, "latin1")) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffffffffffffffffn;
  return (hash >> 12n) + 1n;
}

export function readdir(state: ModelState, request: Of<"readdir">): ReplyMap["readdir"] {
  const all = [...state.directory(request.ino).entries]
    .map(([name, ino]) => ({ name, ino, cookie: cookieOf(name) }))
    .filter((entry) => entry.cookie > request.cookie)
    .sort((left, right) => (left.cookie < right.cookie ? -1 : 1));
  const entries = all.slice(0, request.entriesMax).map(({ name, ino, cookie }): DirectoryEntry => {
    const inode = state.node(ino);
    const type = (inode.mode & S_IFMT) >> 12;
    return { name: Buffer.from(name, "latin1"), ino, type, cookie, ...(request.plus ? { inode } : {}) };
  });
  return { entries, end: entries.length === all.length };
}

export function readlink(state: ModelState, request: Of<"readlink">): Buffer {
  const node = state.node(request.ino);
  if (!isSymlink(node.mode)) throw FsError.of("EINVAL");
  return node.target;
}

export function getxattr(state: ModelState, request: Of<"getxattr">): Buffer {
  const node = state.node(request.ino);
  const name = request.name.toString("latin1");
  checkXattrName(name);
  const value = node.xattrs.get(name);
  if (value === undefined) throw FsError.of("ENODATA");
  return value;
}

export function listxattr(state: ModelState, request: Of<"listxattr">): Buffer[] {
  return [...state.node(request.ino).xattrs.keys()].map((name) => Buffer.from(name, "latin1"));
}

export function read(state: ModelState, request: Of<"read">): Uint8Array[] {
  const node = fileNode(state, request.ino);
  const left = node.size - request.offset;
  if (left <= 0n) return [];
  const length = left < BigInt(request.length) ? Number(left) : request.length;
  return [readContent(node.content, request.offset, length)];
}

/** One legal answer: a hole is what was never written (written zeros are data). */
export function lseek(state: ModelState, request: Of<"lseek">): bigint {
  const node = fileNode(state, request.ino);
  if (request.offset >= node.size) throw FsError.of("ENXIO");
  let at = request.offset;
  for (const piece of node.content) {
    const end = piece.offset + BigInt(piece.bytes.length);
    if (end <= at) continue;
    if (request.whence === "data") return larger(piece.offset, at);
    if (piece.offset > at) return at;
    at = end;
  }
  if (request.whence === "data") throw FsError.of("ENXIO");
  return at;
}

/** What is wrong with an engine's answer to lseek (undefined: it said ENXIO), or undefined. Any division into data and holes will do in which holes read as zeros. */
export function wrongSeek(node: ModelNode, request: Of<"lseek">, answer: bigint | undefined): string | undefined {
  const { offset, whence } = request;
  if (offset >= node.size) return answer === undefined ? undefined : "past the end, wanted ENXIO";
  if (answer === undefined) {
    const lost = whence === "data" ? firstNonZero(node.content, offset, node.size) : offset;
    return lost === undefined
      ? undefined
      : `ENXIO, but ${whence === "data" ? `byte ${lost} is not zero` : "the end is always a hole"}`;
  }
  if (answer < offset || answer > node.size) return `${answer} is outside [${offset}, ${node.size}]`;
  if (whence === "hole") {
    const wrong = answer < node.size && firstNonZero(node.content, answer, answer + 1n) !== undefined;
    return wrong ? `byte ${answer} is not zero` : undefined;
  }
  if (answer === node.size) return "data at the end of the file, wanted ENXIO";
  const skipped = firstNonZero(node.content, offset, answer);
  return skipped === undefined ? undefined : `byte ${skipped} is not zero, but taken for a hole`;
}
