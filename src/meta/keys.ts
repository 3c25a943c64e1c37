import { writeU40Be, writeU64Be } from "../base/bytes.ts";
import type { Lsn } from "../domain/ids.ts";

/**
 * The key table (FORMAT.md beside this file is its reference). Keys are app-relative: one table byte, then big-endian fields.
 */
export const TABLE = {
  INODE: 0x49, // I
  INODE_PAST: 0x69, // i
  DENTRY: 0x44, // D
  DENTRY_PAST: 0x64, // d
  DENTRY_ENDED: 0x65, // e
  DENTRY_BEGAN: 0x45, // E
  XATTR: 0x58, // X
  XATTR_PAST: 0x78, // x
  PARENT: 0x50, // P
  PARENT_PAST: 0x70, // p
  SLICE: 0x43, // C
  CHECKPOINT: 0x4b, // K
  CUT: 0x54, // T
  ORPHAN: 0x4f, // O
  TIME: 0x57, // W
  SHARE: 0x53, // S
  SHARE_PAST: 0x73, // s
  SNAPSHOT: 0x4e, // N
  SNAPSHOT_PAST: 0x6e, // n
  COUNTER: 0x4d, // M
  CHAIN: 0x48, // H
  RELOCATION: 0x52, // R
  APPLIED: 0x41, // A
  FLOOR: 0x46, // F
  LAID: 0x6c, // l
  REFERENCE: 0x51, // Q
  PINNED: 0x47, // G
  SEGMENT_USE: 0x55, // U
  GRID: 0x67, // g
  RESTORE: 0x42, // B
  RESTORED: 0x62, // b
  APP: 0x61, // a
  MOUNT: 0x6d, // m
  VIEW: 0x76, // v
  BACKUP: 0x59, // Y
  RETENTION: 0x79, // y
  LOCK: 0x4c, // L
  PURGED: 0x75, // u
  ERASING: 0x5a, // Z
  TOKEN: 0x6b, // k
  TOKEN_KEY: 0x4a, // J
  NODE: 0x6f, // o
} as const;

/** A 63-bit name hash in two words; `high` has 31 bits. Doubles as the readdir cookie. */
export type NameHash = { readonly high: number; readonly low: number };

const NO_BYTES = Buffer.alloc(0);

/** `table` and `ino`, then room for `extra` bytes that the caller fills from offset 6. */
function inoKey(table: number, ino: number, extra: number): Buffer {
  const key = Buffer.allocUnsafe(6 + extra);
  key[0] = table;
  writeU40Be(key, ino, 1);
  return key;
}

export function inodeKey(ino: number): Buffer {
  return inoKey(TABLE.INODE, ino, 0);
}

export function inodePastKey(ino: number, until: number): Buffer {
  const key = inoKey(TABLE.INODE_PAST, ino, 8);
  writeU64Be(key, until, 6);
  return key;
}

/** Every key of `table` that belongs to `ino` starts with this. */
export function inoPrefix(table: number, ino: number): Buffer {
  return inoKey(table, ino, 0);
}

function writeHashAndName(key: Buffer, offset: number, hash: NameHash, name: Buffer): number {
  key.writeUInt32BE(hash.high, offset);
  key.writeUInt32BE(hash.low, offset + 4);
  name.copy(key, offset + 8);
  return offset + 8 + name.length;
}

export function dentryKey(parent: number, hash: NameHash, name: Buffer): Buffer {
  const key = inoKey(TABLE.DENTRY, parent, 8 + name.length);
  writeHashAndName(key, 6, hash, name);
  return key;
}

export function dentryPastKey(parent: number, hash: NameHash, name: Buffer, until: number): Buffer {
  const key = inoKey(TABLE.DENTRY_PAST, parent, 8 + name.length + 9);
  const end = writeHashAndName(key, 6, hash, name);
  key[end] = 0;
  writeU64Be(key, until, end + 1);
  return key;
}

/** Where the hash begins in the keys of a dentry, now or past by name: after table and parent. */
export const HASH_OFFSET = 6;

/** Where in a key by fork the LSN begins, and where the hash: table, parent and fork, then the LSN. */
export const FORK_LSN_OFFSET = 14;
export const FORK_HASH_OFFSET = 22;

/** Key of a past dentry by its end (`TABLE.DENTRY_ENDED`) or beginning (`TABLE.DENTRY_BEGAN`), which `lsn` is; see fork.ts. */
export function dentryForkKey(
  table: number,
  parent: number,
  place: { readonly fork: number; readonly lsn: number },
  hash: NameHash,
  name: Buffer,
): Buffer {
  const key = inoKey(table, parent, 16 + 8 + name.length);
  writeHashAndName(key, writeU64Be(key, place.lsn, writeU64Be(key, place.fork, 6)), hash, name);
  return key;
}

/** First possible key of `parent`'s dentries with a hash above `cookie` (given as words). */
export function dentryFrom(parent: number, hash: NameHash): Buffer {
  return dentryKey(parent, hash, NO_BYTES);
}

/** First possible key of past dentries of `parent` in a fork that ended or began at `lsn` or later. */
export function dentryForkFrom(table: number, parent: number, fork: number, lsn: number): Buffer {
  const key = inoKey(table, parent, 16);
  writeU64Be(key, lsn, writeU64Be(key, fork, 6));
  return key;
}

export function xattrKey(ino: number, name: Buffer): Buffer {
  const key = inoKey(TABLE.XATTR, ino, name.length);
  name.copy(key, 6);
  return key;
}

export function xattrPastKey(ino: number, name: Buffer, until: number): Buffer {
  const key = inoKey(TABLE.XATTR_PAST, ino, name.length + 9);
  name.copy(key, 6);
  key[6 + name.length] = 0;
  writeU64Be(key, until, 7 + name.length);
  return key;
}

export function parentKey(ino: number, parent: number, name: Buffer): Buffer {
  const key = inoKey(TABLE.PARENT, ino, 5 + name.length);
  writeU40Be(key, parent, 6);
  name.copy(key, 11);
  return key;
}

export function parentPastKey(ino: number, until: number, parent: number, name: Buffer): Buffer {
  const key = inoKey(TABLE.PARENT_PAST, ino, 13 + name.length);
  writeU40Be(key, parent, writeU64Be(key, until, 6));
  name.copy(key, 19);
  return key;
}

/** First possible key of parents rows of `ino` that ended at or after `until`. */
export function parentPastFrom(ino: number, until: number): Buffer {
  return parentPastKey(ino, until, 0, NO_BYTES);
}

/** Key of a slice (`TABLE.SLICE`) or checkpoint (`TABLE.CHECKPOINT`) of a chunk. */
export function chunkKey(table: number, content: number, chunk: number, lsn: number): Buffer {
  const key = Buffer.allocUnsafe(22);
  key[0] = table;
  writeU64Be(key, lsn, writeU40Be(key, chunk, writeU64Be(key, content, 1)));
  return key;
}

/** The chunk number in a slice or checkpoint key. */
export function chunkOfKey(key: Buffer): number {
  return key.readUInt8(9) * 2 ** 32 + key.readUInt32BE(10);
}

/** The LSN that ends a slice, checkpoint, cut or past key. */
export function lsnAtEnd(key: Buffer): Lsn {
  const at = key.length - 8;
  return (key.readUInt32BE(at) * 2 ** 32 + key.readUInt32BE(at + 4)) as Lsn;
}

export function cutKey(content: number, lsn: number): Buffer {
  const key = Buffer.allocUnsafe(17);
  key[0] = TABLE.CUT;
  writeU64Be(key, lsn, writeU64Be(key, content, 1));
  return key;
}

export function orphanKey(ino: number): Buffer {
  return inoKey(TABLE.ORPHAN, ino, 0);
}

/** Key of the note that `chunk` of `content` names bytes of `segment` since `lsn`, though its record is in another segment. */
export function referenceKey(segment: number, content: number, chunk: number, lsn: number): Buffer {
  const key = Buffer.allocUnsafe(30);
  key[0] = TABLE.REFERENCE;
  writeU64Be(key, lsn, writeU40Be(key, chunk, writeU64Be(key, content, writeU64Be(key, segment, 1))));
  return key;
}

/** Key of where the data at `dataStart` of a removed segment are now. */
export function relocationKey(segment: number, dataStart: number): Buffer {
  const key = Buffer.allocUnsafe(13);
  key[0] = TABLE.RELOCATION;
  key.writeUInt32BE(dataStart, writeU64Be(key, segment, 1));
  return key;
}

/** Key of the note that parts of the data at `dataStart` of a segment were erased by order. */
export function purgedKey(segment: number, dataStart: number): Buffer {
  const key = Buffer.allocUnsafe(13);
  key[0] = TABLE.PURGED;
  key.writeUInt32BE(dataStart, writeU64Be(key, segment, 1));
  return key;
}

/** Key of the note that the row `key` is there only for the kept moment `lsn`. */
export function pinnedKey(lsn: number, key: Buffer): Buffer {
  const pinned = Buffer.allocUnsafe(9 + key.length);
  pinned[0] = TABLE.PINNED;
  key.copy(pinned, writeU64Be(pinned, lsn, 1));
  return pinned;
}

/** Key of `table` that begins with a segment's number (or another u64): a segment's use, the references to it, its relocations. */
export function numberKey(table: number, number: number): Buffer {
  const key = Buffer.allocUnsafe(9);
  key[0] = table;
  writeU64Be(key, number, 1);
  return key;
}

/** Key of the wall time index: era, seconds with the sign bit flipped so that they sort, nanoseconds. */
export function timeKey(era: number, sec: number, nsec: number): Buffer {
  const key = Buffer.allocUnsafe(17);
  key[0] = TABLE.TIME;
  key.writeUInt32BE(era, 1);
  key.writeUInt32BE((Math.floor(sec / 2 ** 32) ^ 0x8000_0000) >>> 0, 5);
  key.writeUInt32BE(sec >>> 0, 9);
  key.writeUInt32BE(nsec, 13);
  return key;
}

/** A key of `table` followed by `rest` as it is: shares, snapshots, counters, apps, mounts. */
export function plainKey(table: number, rest: Uint8Array = NO_BYTES): Buffer {
  const key = Buffer.allocUnsafe(1 + rest.length);
  key[0] = table;
  key.set(rest, 1);
  return key;
}

/** The smallest key above every key that starts with `prefix`. */
export function prefixEnd(prefix: Buffer): Buffer {
  const end = Buffer.from(prefix);
  for (let at = end.length - 1; at >= 0; at--) {
    const byte = end.readUInt8(at);
    if (byte < 0xff) {
      end[at] = byte + 1;
      return end.subarray(0, at + 1);
    }
  }
  return Buffer.alloc(32, 0xff);
}
