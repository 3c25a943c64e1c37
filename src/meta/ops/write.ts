import { FsError } from "../../domain/errors.ts";
import { type ContentId, LIVE, type Lsn } from "../../domain/ids.ts";
import { isDirectory, isRegular, SIZE_BYTES_MAX } from "../../domain/inode.ts";
import {
  FALLOC_KEEP_SIZE,
  FALLOC_PUNCH_HOLE,
  FALLOC_ZERO_RANGE,
  type RequestContext,
  WRITE_BYTES_MAX,
  type WriteRequest,
} from "../../domain/metadata-api.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import { CHUNK_BYTES, chunkOffset, chunkPieces } from "../content.ts";
import type { EngineCore } from "../core.ts";
import { copyDetail, fallocateDetail, rangeDetail } from "../detail.ts";
import type { Extent, InodeRow } from "../rows.ts";
import type { Transaction } from "../transaction.ts";
import { dropCapability, dropPrivileges } from "./setattr.ts";

/** Most extents one copy takes from its source: about 1.8 MiB of record. A longer copy is answered short, as copy_file_range(2) allows. */
const COPY_EXTENTS_MAX = 65_536;

/** Most bytes of one copy, so that its record and the walk over chunks stay bounded. */
const COPY_BYTES_MAX = 1024n * BigInt(CHUNK_BYTES);

/** The regular file that is written to. Throws EISDIR, EINVAL. */
function target(core: EngineCore, ino: number): InodeRow {
  const inode = core.inode(ino);
  if (isDirectory(inode.mode)) throw FsError.of("EISDIR");
  if (!isRegular(inode.mode)) throw FsError.of("EINVAL");
  return inode;
}

function checkRange(offset: bigint, length: bigint): void {
  if (offset < 0n || length < 0n) throw FsError.of("EINVAL");
  if (offset + length > SIZE_BYTES_MAX) throw FsError.of("EFBIG");
}

/** Bytes allocated after `length` bytes were written at `offset`: exact for files without holes, never above the size. */
function allocatedAfter(inode: InodeRow, size: bigint, length: bigint): bigint {
  const sum = inode.allocatedBytes + length;
  return sum < size ? sum : size;
}

export function write(core: EngineCore, request: WriteRequest & { op: "write" }, context: RequestContext): number {
  const { data } = request;
  const inode = target(core, request.ino);
  const length = BigInt(data.length);
  const offset = request.append === true ? inode.size : request.offset;
  checkRange(offset, length);
  if (data.length > WRITE_BYTES_MAX) throw FsError.of("EINVAL");
  if (data.length === 0) return 0;
  const tx = core.begin(context);
  const place = tx.place(data.length);
  const contentId = inode.contentId === 0 ? (tx.lsn as number as ContentId) : inode.contentId;
  for (const piece of chunkPieces(offset, length)) {
    const extent = {
      start: piece.from,
      length: piece.to - piece.from,
      segment: place.segment,
      dataStart: place.dataStart,
      dataLength: data.length,
      skip: Number(piece.skip),
    };
    tx.addExtents(contentId, piece.chunk, [extent], isUntouched(inode, piece.chunk));
  }
  const end = offset + length;
  const size = end > inode.size ? end : inode.size;
  const allocatedBytes = allocatedAfter(inode, size, length);
  const written = { ...inode, contentId, size, allocatedBytes, mtime: tx.time, ctime: tx.time };
  tx.put(
    request.killPrivileges
      ? dropPrivileges(tx, written)
      : { ...written, xattrCount: inode.xattrCount + dropCapability(tx, inode) },
  );
  // Elsewhere than the asker's kernel thinks: it keeps the bytes in the wrong place.
  tx.tellInode(inode.ino, true, { ownMount: offset !== request.offset });
  tx.commit(RECORD_OP.WRITE, rangeDetail(inode.ino, offset, length), { data });
  return data.length;
}

/** Whether the file has nothing in the chunk for sure: it begins at or after the end, where everything is a hole. */
function isUntouched(inode: InodeRow, chunk: number): boolean {
  return inode.contentId === 0 || chunkOffset(chunk) >= inode.size;
}

/** Privileges after fallocate and copy_file_range, whose requests don't say whether the caller may keep them (CAP_FSETID): root may, as on ext4. */
function changedBy(tx: Transaction, inode: InodeRow): InodeRow {
  if (tx.context.actor.uid !== 0) return dropPrivileges(tx, inode);
  return { ...inode, xattrCount: inode.xattrCount + dropCapability(tx, inode) };
}

export function fallocate(
  core: EngineCore,
  request: WriteRequest & { op: "fallocate" },
  context: RequestContext,
): undefined {
  const { mode, offset, length } = request;
  const punch = mode === (FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE);
  const zero = mode === FALLOC_ZERO_RANGE || mode === (FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE);
  const inode = target(core, request.ino);
  if (!punch && !zero && mode !== 0 && mode !== FALLOC_KEEP_SIZE) throw FsError.of("EOPNOTSUPP");
  if (length === 0n) throw FsError.of("EINVAL");
  checkRange(offset, length);
  const end = offset + length;
  const grows = (mode & FALLOC_KEEP_SIZE) === 0 && end > inode.size;
  const size = grows ? end : inode.size;
  // Allocating without growing reserves nothing: space is the journal's, not the file's.
  if (!punch && !zero && !grows) return;
  const tx = core.begin(context);
  let allocatedBytes = inode.allocatedBytes;
  if (punch || zero) {
    tx.cut(inode.contentId, { from: offset, to: end, alone: true }, inode.size);
    const within = (end < inode.size ? end : inode.size) - offset;
    if (within > 0n) allocatedBytes = allocatedBytes > within ? allocatedBytes - within : 0n;
  }
  tx.put(changedBy(tx, { ...inode, size, allocatedBytes, mtime: tx.time, ctime: tx.time }));
  tx.tellInode(inode.ino, true);
  tx.commit(RECORD_OP.FALLOCATE, fallocateDetail(inode.ino, mode, offset, length), { useReserve: punch });
}

/** copy_file_range: the target's slices name the source's bytes. Answers the bytes copied, fewer at the end of the source or past the limits. */
export function copyRange(
  core: EngineCore,
  request: WriteRequest & { op: "copyRange" },
  context: RequestContext,
): bigint {
  const { sourceOffset, targetOffset, sourceAt } = request;
  const source = core.inodeAt(request.source, sourceAt);
  if (isDirectory(source.mode)) throw FsError.of("EISDIR");
  if (!isRegular(source.mode)) throw FsError.of("EINVAL");
  const inode = target(core, request.target);
  checkRange(sourceOffset, 0n);
  checkRange(targetOffset, 0n);
  if (sourceOffset >= source.size) return 0n;
  const available = source.size - sourceOffset;
  const wanted = request.length < available ? request.length : available;
  // What was asked for decides, as in generic_copy_file_checks(), not what one call copies.
  checkRange(targetOffset, wanted);
  const overlaps = targetOffset < sourceOffset + wanted && sourceOffset < targetOffset + wanted;
  if (request.source === request.target && sourceAt === LIVE && overlaps) throw FsError.of("EINVAL");
  const length = wanted < COPY_BYTES_MAX ? wanted : COPY_BYTES_MAX;
  if (length <= 0n) return 0n;
  return copyExtents(core, { source, inode, sourceOffset, targetOffset, length, sourceAt }, context);
}

type Copy = {
  readonly source: InodeRow;
  readonly inode: InodeRow;
  readonly sourceOffset: bigint;
  readonly targetOffset: bigint;
  readonly length: bigint;
  readonly sourceAt: Lsn;
};

function copyExtents(core: EngineCore, copy: Copy, context: RequestContext): bigint {
  const { source, inode, sourceOffset, targetOffset, sourceAt } = copy;
  const runs = core.content.runs(source.contentId, sourceOffset, copy.length, sourceAt);
  let length = copy.length;
  const cutOff = runs[COPY_EXTENTS_MAX];
  if (cutOff !== undefined) length = cutOff.offset - sourceOffset;
  const tx = core.begin(context);
  const contentId = inode.contentId === 0 ? (tx.lsn as number as ContentId) : inode.contentId;
  const chunks = new Map<number, Extent[]>();
  let copied = 0n;
  for (const { offset, run } of runs) {
    if (offset >= sourceOffset + length) break;
    if (run.segment === 0) continue;
    copied += BigInt(run.length);
    for (const piece of chunkPieces(targetOffset + (offset - sourceOffset), BigInt(run.length))) {
      const extents = chunks.get(piece.chunk) ?? [];
      extents.push({ ...run, start: piece.from, length: piece.to - piece.from, skip: run.skip + Number(piece.skip) });
      chunks.set(piece.chunk, extents);
    }
  }
  const end = targetOffset + length;
  const size = end > inode.size ? end : inode.size;
  if (targetOffset < inode.size) tx.cut(contentId, { from: targetOffset, to: end, alone: false }, inode.size);
  for (const [chunk, extents] of chunks) tx.addExtents(contentId, chunk, extents, isUntouched(inode, chunk));
  const allocatedBytes = allocatedAfter(inode, size, copied);
  tx.put(changedBy(tx, { ...inode, contentId, size, allocatedBytes, mtime: tx.time, ctime: tx.time }));
  tx.tellInode(inode.ino, true);
  tx.commit(RECORD_OP.COPY_RANGE, copyDetail(inode.ino, targetOffset, length, source.ino, sourceOffset));
  return length;
}
