import { assert } from "../base/assert.ts";
import { ByteReader, ByteWriter } from "../base/bytes.ts";
import type { Timestamp } from "../base/clock.ts";
import type { ContentId, InodeId, Lsn } from "../domain/ids.ts";
import type { Dentry, Inode } from "../domain/inode.ts";

/** An inode as it is kept: with the count of its xattrs, so that the usual file without any costs no look-up. */
export type InodeRow = Inode & { readonly xattrCount: number };

/**
 * A piece of a chunk: `length` bytes at `start` of the chunk are at dataStart + skip of the segment; segment 0 is a hole.
 * `dataStart` and `dataLength` are those of the record's whole data, which its checksums cover.
 */
export type Extent = {
  readonly start: number;
  readonly length: number;
  readonly segment: number;
  readonly dataStart: number;
  readonly dataLength: number;
  readonly skip: number;
};

export type Cut = { readonly lsn: Lsn; readonly from: bigint; readonly to: bigint };

const NO_BYTES = Buffer.alloc(0);
const scratch = new ByteWriter(512);

function putTime(writer: ByteWriter, time: Timestamp): void {
  writer.i64(time.sec).u32(time.nsec);
}

function readTime(reader: ByteReader): Timestamp {
  return { sec: reader.i64(), nsec: reader.u32() };
}

/** Where the mode is in an encoded inode: after since and generation. */
export const INODE_MODE_OFFSET = 8 + 4;

/** Where the allocated-bytes field is in an encoded inode: the counters of the applier read it without decoding the row. */
export const INODE_ALLOCATED_OFFSET = 8 + 4 * 6 + 8;

/** Where the content id is in an encoded inode: after the allocated bytes and four times. */
export const INODE_CONTENT_OFFSET = INODE_ALLOCATED_OFFSET + 8 + 4 * 12;

export function encodeInode(inode: InodeRow): Buffer {
  scratch.reset();
  scratch
    .u64(inode.since)
    .u32(inode.generation)
    .u32(inode.mode)
    .u32(inode.uid)
    .u32(inode.gid)
    .u32(inode.nlink)
    .u32(inode.rdev);
  scratch.big64(inode.size).big64(inode.allocatedBytes);
  putTime(scratch, inode.atime);
  putTime(scratch, inode.mtime);
  putTime(scratch, inode.ctime);
  putTime(scratch, inode.btime);
  scratch.u64(inode.contentId).u40(inode.parent).u40(inode.restoredFrom).u32(inode.xattrCount);
  scratch.u16(inode.target.length).bytes(inode.target);
  return scratch.finish();
}

export function decodeInode(ino: InodeId, value: Buffer): InodeRow {
  const reader = new ByteReader(value);
  const since = reader.u64() as Lsn;
  const generation = reader.u32();
  const mode = reader.u32();
  const uid = reader.u32();
  const gid = reader.u32();
  const nlink = reader.u32();
  const rdev = reader.u32();
  const size = reader.big64();
  const allocatedBytes = reader.big64();
  const atime = readTime(reader);
  const mtime = readTime(reader);
  const ctime = readTime(reader);
  const btime = readTime(reader);
  const contentId = reader.u64() as ContentId;
  const parent = reader.u40() as InodeId | 0;
  const restoredFrom = reader.u40() as InodeId | 0;
  const xattrCount = reader.u32();
  const targetLength = reader.u16();
  const target = targetLength === 0 ? NO_BYTES : Buffer.from(reader.bytes(targetLength));
  return {
    ino,
    since,
    generation,
    mode,
    uid,
    gid,
    nlink,
    rdev,
    size,
    allocatedBytes,
    atime,
    mtime,
    ctime,
    btime,
    contentId,
    parent,
    restoredFrom,
    xattrCount,
    target,
  };
}

export function encodeDentry(dentry: Dentry): Buffer {
  scratch.reset();
  return scratch.u64(dentry.since).u40(dentry.ino).u8(dentry.type).finish();
}

export function decodeDentry(value: Buffer): Dentry {
  const reader = new ByteReader(value);
  return { since: reader.u64() as Lsn, ino: reader.u40() as InodeId, type: reader.u8() };
}

/** A row that is an LSN and bytes: xattrs, parents (no bytes), snapshots. */
export function encodeSince(since: Lsn, bytes: Uint8Array = NO_BYTES): Buffer {
  scratch.reset();
  return scratch.u64(since).bytes(bytes).finish();
}

export function decodeSince(value: Buffer): { readonly since: Lsn; readonly bytes: Buffer } {
  const reader = new ByteReader(value);
  const since = reader.u64() as Lsn;
  return { since, bytes: reader.bytes(reader.remaining) };
}

export function encodeExtents(extents: readonly Extent[]): Buffer {
  const writer = new ByteWriter(4 + extents.length * 28);
  writer.u32(extents.length);
  for (const extent of extents) {
    writer.u32(extent.start).u32(extent.length).u64(extent.segment);
    writer.u32(extent.dataStart).u32(extent.dataLength).u32(extent.skip);
  }
  return writer.finish();
}

export function decodeExtents(value: Buffer): Extent[] {
  const reader = new ByteReader(value);
  const count = reader.u32();
  assert(count * 28 <= reader.remaining, "extent list longer than its row");
  const extents: Extent[] = [];
  for (let index = 0; index < count; index++) {
    const start = reader.u32();
    const length = reader.u32();
    const segment = reader.u64();
    extents.push({ start, length, segment, dataStart: reader.u32(), dataLength: reader.u32(), skip: reader.u32() });
  }
  return extents;
}

export function encodeCut(from: bigint, to: bigint): Buffer {
  scratch.reset();
  return scratch.big64(from).big64(to).finish();
}

export function decodeCut(lsn: Lsn, value: Buffer): Cut {
  const reader = new ByteReader(value);
  return { lsn, from: reader.big64(), to: reader.big64() };
}

export function encodeLsn(lsn: Lsn): Buffer {
  scratch.reset();
  return scratch.u64(lsn).finish();
}

export function decodeLsn(value: Buffer): Lsn {
  return new ByteReader(value).u64() as Lsn;
}

/** JSON rows (shares, snapshots, catalogue): small and rare, so readability wins. */
export function encodeJson(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value), "utf8");
}

export function decodeJson<T>(value: Buffer): T {
  return JSON.parse(value.toString("utf8")) as T;
}
