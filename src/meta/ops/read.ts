import { ErasedError, FsError } from "../../domain/errors.ts";
import { type InodeId, LIVE, type Lsn } from "../../domain/ids.ts";
import { isDirectory, isRegular, isSymlink } from "../../domain/inode.ts";
import { type MappedPiece, type ReadRequest, WRITE_BYTES_MAX } from "../../domain/metadata-api.ts";
import { CHUNK_BYTES, chunkOffset } from "../content.ts";
import { checkName, type EngineCore } from "../core.ts";
import type { Run } from "../extent-list.ts";
import * as keys from "../keys.ts";
import { decodeSince, type InodeRow } from "../rows.ts";
import { checkXattrName } from "./xattr.ts";

const ZEROS = Buffer.alloc(WRITE_BYTES_MAX);

/** Xattr rows read for one listing: the limit of names of an inode, and past rows of names set over and over. */
const XATTR_ROWS_MAX = 10_000;

export function lookup(core: EngineCore, request: ReadRequest & { op: "lookup" }): InodeRow {
  const { parent, name, at } = request;
  core.directory(parent, at);
  checkName(name);
  const dentry = core.dentry(parent, name, at);
  if (dentry === undefined) throw FsError.of("ENOENT");
  return core.inodeAt(dentry.ino, at);
}

export function readlink(core: EngineCore, request: ReadRequest & { op: "readlink" }): Buffer {
  const inode = core.inodeAt(request.ino, request.at);
  if (!isSymlink(inode.mode)) throw FsError.of("EINVAL");
  return inode.target;
}

export function getxattr(core: EngineCore, request: ReadRequest & { op: "getxattr" }): Buffer {
  const inode = core.inodeAt(request.ino, request.at);
  // The usual question (security.capability before a write, ACLs) is about a file without any: answer before looking at the name.
  const value = inode.xattrCount === 0 ? undefined : core.xattr(inode, request.name, request.at);
  if (value === undefined) {
    checkXattrName(request.name);
    throw FsError.of("ENODATA");
  }
  return value;
}

export function listxattr(core: EngineCore, request: ReadRequest & { op: "listxattr" }): Buffer[] {
  const { at } = request;
  const inode = core.inodeAt(request.ino, at);
  if (inode.xattrCount === 0) return [];
  const names = new Map<string, Buffer>();
  const prefix = keys.inoPrefix(keys.TABLE.XATTR, inode.ino);
  for (const row of core.store.range({ gte: prefix, lt: keys.prefixEnd(prefix), limit: XATTR_ROWS_MAX })) {
    if (decodeSince(row.value).since <= at) collect(names, row.key.subarray(prefix.length) as Buffer);
  }
  if (at !== LIVE) {
    const past = keys.inoPrefix(keys.TABLE.XATTR_PAST, inode.ino);
    for (const row of core.store.range({ gte: past, lt: keys.prefixEnd(past), limit: XATTR_ROWS_MAX })) {
      if (keys.lsnAtEnd(row.key) <= at || decodeSince(row.value).since > at) continue;
      collect(names, row.key.subarray(past.length, row.key.length - 9) as Buffer);
    }
  }
  return [...names.values()];
}

function collect(names: Map<string, Buffer>, name: Buffer): void {
  names.set(name.toString("latin1"), Buffer.from(name));
}

/** The regular file as of `at`. Throws EISDIR, EINVAL. */
function regular(core: EngineCore, ino: InodeId, at: Lsn): InodeRow {
  const inode = core.inodeAt(ino, at);
  if (isDirectory(inode.mode)) throw FsError.of("EISDIR");
  if (!isRegular(inode.mode)) throw FsError.of("EINVAL");
  return inode;
}

export function read(
  core: EngineCore,
  request: ReadRequest & { op: "read" },
): readonly Uint8Array[] | Promise<readonly Uint8Array[]> {
  const { offset, at } = request;
  const inode = regular(core, request.ino, at);
  if (offset < 0n || request.length < 0 || request.length > WRITE_BYTES_MAX) throw FsError.of("EINVAL");
  if (offset >= inode.size || request.length === 0) return [];
  const left = inode.size - offset;
  const length = left < BigInt(request.length) ? left : BigInt(request.length);
  const runs = core.content.runs(inode.contentId, offset, length, at);
  refuseErased(core, runs);
  const pieces: (Uint8Array | Promise<Uint8Array>)[] = [];
  let waits = false;
  for (const { run } of runs) {
    const piece = readRun(core, run);
    if (piece instanceof Promise) waits = true;
    pieces.push(piece);
  }
  return waits ? Promise.all(pieces) : (pieces as Uint8Array[]);
}

/**
 * Where the bytes of a range are: what `read` would read. Throws EAGAIN for a file whose last change is not durable yet: after a power loss its places could come to mean other bytes, and who asks
 * for places keeps them for ever. And ErasedError as `read` does: who asks may have the bytes still.
 */
export function map(core: EngineCore, request: ReadRequest & { op: "map" }): MappedPiece[] {
  const { offset, at } = request;
  const inode = regular(core, request.ino, at);
  if (offset < 0n || request.length < 0 || request.length > WRITE_BYTES_MAX) throw FsError.of("EINVAL");
  if (inode.since > core.journal.durableLsn) throw FsError.of("EAGAIN");
  if (offset >= inode.size || request.length === 0) return [];
  const left = inode.size - offset;
  const length = left < BigInt(request.length) ? left : BigInt(request.length);
  const runs = core.content.runs(inode.contentId, offset, length, at);
  refuseErased(core, runs);
  return runs.map(({ offset: start, run }) => {
    const piece = { offset: start, length: run.length };
    if (run.segment === 0) return piece;
    return { ...piece, place: { segment: run.segment, position: run.dataStart + run.skip } };
  });
}

/** Throws ErasedError when any of these bytes was erased by order: before anything is read. */
function refuseErased(core: EngineCore, runs: readonly { readonly run: Run }[]): void {
  if (core.data.hasErased && runs.some(({ run }) => core.data.isErased(run))) throw new ErasedError();
}

function readRun(core: EngineCore, run: Run): Uint8Array | Promise<Uint8Array> {
  if (run.segment === 0) return ZEROS.subarray(0, run.length);
  return core.data.read({
    segment: run.segment,
    dataStart: run.dataStart,
    dataLength: run.dataLength,
    skip: run.skip,
    length: run.length,
  });
}

/** SEEK_DATA and SEEK_HOLE. The end of the file counts as a hole. Throws ENXIO at or past the end, or when there is no more data. */
export function lseek(core: EngineCore, request: ReadRequest & { op: "lseek" }): bigint {
  const inode = regular(core, request.ino, request.at);
  if (request.offset < 0n || request.offset >= inode.size) throw FsError.of("ENXIO");
  const wantsHole = request.whence === "hole";
  if (inode.contentId === 0) {
    if (wantsHole) return request.offset;
    throw FsError.of("ENXIO");
  }
  let offset = request.offset;
  while (offset < inode.size) {
    const chunk = Number(offset / BigInt(CHUNK_BYTES));
    const next = core.content.nextChunk(inode.contentId, chunk);
    if (next === undefined) {
      if (wantsHole) return offset;
      break;
    }
    if (next > chunk) {
      if (wantsHole) return offset;
      offset = chunkOffset(next);
      continue;
    }
    const end = chunkOffset(chunk) + BigInt(CHUNK_BYTES);
    const limit = end < inode.size ? end : inode.size;
    for (const { offset: start, run } of core.content.runs(inode.contentId, offset, limit - offset, request.at)) {
      if ((run.segment === 0) === wantsHole) return start;
    }
    offset = limit;
  }
  if (wantsHole) return inode.size;
  throw FsError.of("ENXIO");
}
