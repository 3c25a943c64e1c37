import type { Timestamp } from "../../base/clock.ts";
import type { RequestFrame, RequestHeader } from "./frame.ts";
import type { Wire } from "./wire.ts";

/** What the kernel is told of an inode. The domain's `Inode` has this shape. */
export interface NodeAttributes {
  readonly ino: number;
  readonly generation: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  /** In Linux's 32-bit form (new_encode_dev). */
  readonly rdev: number;
  readonly size: bigint;
  readonly allocatedBytes: bigint;
  readonly atime: Timestamp;
  readonly mtime: Timestamp;
  readonly ctime: Timestamp;
  readonly btime: Timestamp;
}

/** How long the kernel may keep what an answer says, and in which view slot the inode is. */
export type Validity = {
  readonly slot: number;
  /** Seconds; fractions allowed, `Infinity` for ever. */
  readonly attributesSec: number;
  readonly entrySec: number;
};

/** `handle` is there when the call came through an open file. */
export type GetattrRequest = { readonly header: RequestHeader; readonly handle: number | undefined };
export type StatxRequest = {
  readonly header: RequestHeader;
  readonly handle: number | undefined;
  /** statx(2) AT_STATX_* flags and STATX_* mask. */
  readonly flags: number;
  readonly mask: number;
};
export type SetattrRequest = {
  readonly header: RequestHeader;
  readonly handle: number | undefined;
  readonly mode: number | undefined;
  readonly uid: number | undefined;
  readonly gid: number | undefined;
  readonly size: bigint | undefined;
  readonly atime: Timestamp | "now" | undefined;
  readonly mtime: Timestamp | "now" | undefined;
  readonly ctime: Timestamp | undefined;
  readonly lockOwner: bigint | undefined;
  /** Clear set-user-id and set-group-id as chown, truncate and write by others do (FUSE_HANDLE_KILLPRIV_V2). */
  readonly killPrivileges: boolean;
};

const GETATTR_FH = 1;

export function decodeGetattr(frame: RequestFrame): GetattrRequest {
  return { header: frame.header, handle: (frame.u32(0) & GETATTR_FH) !== 0 ? frame.safe64(8) : undefined };
}

export function decodeStatx(frame: RequestFrame): StatxRequest {
  return {
    header: frame.header,
    handle: (frame.u32(0) & GETATTR_FH) !== 0 ? frame.safe64(8) : undefined,
    flags: frame.u32(16),
    mask: frame.u32(20),
  };
}

/** FATTR_* (linux/fuse.h): which fields of fuse_setattr_in count. */
const FATTR = {
  MODE: 1 << 0,
  UID: 1 << 1,
  GID: 1 << 2,
  SIZE: 1 << 3,
  ATIME: 1 << 4,
  MTIME: 1 << 5,
  FH: 1 << 6,
  ATIME_NOW: 1 << 7,
  MTIME_NOW: 1 << 8,
  LOCKOWNER: 1 << 9,
  CTIME: 1 << 10,
  KILL_SUIDGID: 1 << 11,
} as const;

export function decodeSetattr(frame: RequestFrame): SetattrRequest {
  const valid = frame.u32(0);
  return {
    header: frame.header,
    handle: (valid & FATTR.FH) !== 0 ? frame.safe64(8) : undefined,
    mode: (valid & FATTR.MODE) !== 0 ? frame.u32(68) : undefined,
    uid: (valid & FATTR.UID) !== 0 ? frame.u32(76) : undefined,
    gid: (valid & FATTR.GID) !== 0 ? frame.u32(80) : undefined,
    size: (valid & FATTR.SIZE) !== 0 ? frame.i64(16) : undefined,
    atime: setTime(frame, valid, { now: FATTR.ATIME_NOW, given: FATTR.ATIME, secondsAt: 32, nanosecondsAt: 56 }),
    mtime: setTime(frame, valid, { now: FATTR.MTIME_NOW, given: FATTR.MTIME, secondsAt: 40, nanosecondsAt: 60 }),
    ctime: (valid & FATTR.CTIME) !== 0 ? frame.time(48, 64) : undefined,
    lockOwner: (valid & FATTR.LOCKOWNER) !== 0 ? frame.u64(24) : undefined,
    killPrivileges: (valid & FATTR.KILL_SUIDGID) !== 0,
  };
}

function setTime(
  frame: RequestFrame,
  valid: number,
  field: { now: number; given: number; secondsAt: number; nanosecondsAt: number },
): Timestamp | "now" | undefined {
  if ((valid & field.now) !== 0) return "now";
  return (valid & field.given) !== 0 ? frame.time(field.secondsAt, field.nanosecondsAt) : undefined;
}

/** sizeof(struct fuse_attr). */
export const ATTR_BYTES = 88;
/** sizeof(struct fuse_attr_out). */
export const ATTR_OUT_BYTES = 16 + ATTR_BYTES;
/** sizeof(struct fuse_entry_out). */
export const ENTRY_OUT_BYTES = 40 + ATTR_BYTES;
/** sizeof(struct fuse_statx_out). */
export const STATX_OUT_BYTES = 32 + 256;

/** st_blksize: what programs choose their buffers by; larger buffers mean fewer WRITE requests, more memory per stream. */
const PREFERRED_IO_BYTES = 65_536;
const SECTOR_BYTES = 512n;

/** Longest validity in seconds: a hundred years; the kernel clamps what exceeds its own clock. */
const VALID_SEC_MAX = 3_155_760_000;

/** `struct fuse_attr` at `at`. The number that stat shows carries the slot, so that no tool takes past and present for the same file. */
export function encodeAttributes(wire: Wire, at: number, from: { attributes: NodeAttributes; slot: number }): void {
  const { attributes } = from;
  wire.setNode(at, from.slot, attributes.ino);
  wire.setU64(at + 8, attributes.size);
  wire.setU64(at + 16, (attributes.allocatedBytes + SECTOR_BYTES - 1n) / SECTOR_BYTES);
  wire.setSafe64(at + 24, attributes.atime.sec);
  wire.setSafe64(at + 32, attributes.mtime.sec);
  wire.setSafe64(at + 40, attributes.ctime.sec);
  wire.setU32(at + 48, attributes.atime.nsec);
  wire.setU32(at + 52, attributes.mtime.nsec);
  wire.setU32(at + 56, attributes.ctime.nsec);
  wire.setU32(at + 60, attributes.mode);
  wire.setU32(at + 64, attributes.nlink);
  wire.setU32(at + 68, attributes.uid);
  wire.setU32(at + 72, attributes.gid);
  wire.setU32(at + 76, attributes.rdev);
  wire.setU32(at + 80, PREFERRED_IO_BYTES);
  wire.setU32(at + 84, 0);
}

/** `struct fuse_attr_out` at `at`. */
export function encodeAttrOut(wire: Wire, at: number, from: { attributes: NodeAttributes; validity: Validity }): void {
  encodeValidity(wire, at, at + 8, from.validity.attributesSec);
  wire.setU32(at + 12, 0);
  encodeAttributes(wire, at + 16, { attributes: from.attributes, slot: from.validity.slot });
}

/** `struct fuse_entry_out` at `at`. */
export function encodeEntryOut(wire: Wire, at: number, from: { attributes: NodeAttributes; validity: Validity }): void {
  const { attributes, validity } = from;
  wire.setNode(at, validity.slot, attributes.ino);
  wire.setSafe64(at + 8, attributes.generation);
  encodeValidity(wire, at + 16, at + 32, validity.entrySec);
  encodeValidity(wire, at + 24, at + 36, validity.attributesSec);
  encodeAttributes(wire, at + 40, { attributes, slot: validity.slot });
}

/** `struct fuse_entry_out` that says the name does not exist, and for how long that may be remembered. */
export function encodeNegativeEntryOut(wire: Wire, at: number, entrySec: number): void {
  wire.clear(at, ENTRY_OUT_BYTES);
  encodeValidity(wire, at + 16, at + 32, entrySec);
}

function encodeValidity(wire: Wire, secondsAt: number, nanosecondsAt: number, validSec: number): void {
  const seconds = Math.min(Math.max(validSec, 0), VALID_SEC_MAX);
  const whole = Math.floor(seconds);
  wire.setSafe64(secondsAt, whole);
  wire.setU32(nanosecondsAt, Math.floor((seconds - whole) * 1e9));
}

/** STATX_BASIC_STATS | STATX_BTIME. */
const STATX_ANSWERED = 0x7ff | 0x800;

/** `struct fuse_statx_out` at `at`. */
export function encodeStatxOut(wire: Wire, at: number, from: { attributes: NodeAttributes; validity: Validity }): void {
  const { attributes, validity } = from;
  wire.clear(at, STATX_OUT_BYTES);
  encodeValidity(wire, at, at + 8, validity.attributesSec);
  const stat = at + 32;
  wire.setU32(stat, STATX_ANSWERED);
  wire.setU32(stat + 4, PREFERRED_IO_BYTES);
  wire.setU32(stat + 16, attributes.nlink);
  wire.setU32(stat + 20, attributes.uid);
  wire.setU32(stat + 24, attributes.gid);
  wire.setU16(stat + 28, attributes.mode);
  wire.setNode(stat + 32, validity.slot, attributes.ino);
  wire.setU64(stat + 40, attributes.size);
  wire.setU64(stat + 48, (attributes.allocatedBytes + SECTOR_BYTES - 1n) / SECTOR_BYTES);
  encodeStatxTime(wire, stat + 64, attributes.atime);
  encodeStatxTime(wire, stat + 80, attributes.btime);
  encodeStatxTime(wire, stat + 96, attributes.ctime);
  encodeStatxTime(wire, stat + 112, attributes.mtime);
  // new_encode_dev: 12 bits of major between 8 low and 12 high bits of minor.
  wire.setU32(stat + 128, (attributes.rdev >>> 8) & 0xfff);
  wire.setU32(stat + 132, (attributes.rdev & 0xff) | ((attributes.rdev >>> 12) & 0xfff00));
}

function encodeStatxTime(wire: Wire, at: number, time: Timestamp): void {
  wire.setSafe64(at, time.sec);
  wire.setU32(at + 8, time.nsec);
}
