import { assert } from "../../base/assert.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { FuseDeviceIo } from "./device.ts";
import { IN_HEADER_BYTES, RequestFrame } from "./frame.ts";
import { OPCODE } from "./opcodes.ts";
import { Wire } from "./wire.ts";

/**
 * FUSE_INIT (linux/fuse.h, fuse_init_in and fuse_init_out): done once for each mount, by whoever mounts. Its result is a plain value, because
 * a gateway that takes over an existing mount never sees an INIT: it goes on under the flags its predecessor negotiated.
 */

/** Bit of each INIT flag in the 64-bit set (flags, then flags2). */
export const INIT_FLAG = {
  ASYNC_READ: 0,
  POSIX_LOCKS: 1,
  ATOMIC_O_TRUNC: 3,
  EXPORT_SUPPORT: 4,
  BIG_WRITES: 5,
  DONT_MASK: 6,
  FLOCK_LOCKS: 10,
  HAS_IOCTL_DIR: 11,
  AUTO_INVAL_DATA: 12,
  DO_READDIRPLUS: 13,
  READDIRPLUS_AUTO: 14,
  ASYNC_DIO: 15,
  WRITEBACK_CACHE: 16,
  NO_OPEN_SUPPORT: 17,
  PARALLEL_DIROPS: 18,
  HANDLE_KILLPRIV: 19,
  POSIX_ACL: 20,
  ABORT_ERROR: 21,
  MAX_PAGES: 22,
  CACHE_SYMLINKS: 23,
  NO_OPENDIR_SUPPORT: 24,
  EXPLICIT_INVAL_DATA: 25,
  HANDLE_KILLPRIV_V2: 28,
  SETXATTR_EXT: 29,
  INIT_EXT: 30,
  CREATE_SUPP_GROUP: 34,
  HAS_EXPIRE_ONLY: 35,
  DIRECT_IO_ALLOW_MMAP: 36,
  PASSTHROUGH: 37,
  HAS_RESEND: 39,
  ALLOW_IDMAP: 40,
} as const;

export type InitFlagName = keyof typeof INIT_FLAG;

/** The outcome of FUSE_INIT: serialisable, valid as long as the mount. */
export type NegotiatedInit = {
  readonly major: number;
  /** The smaller of the two minor versions. */
  readonly minor: number;
  readonly kernelMinor: number;
  /** Names of the flags both sides agreed on, sorted. */
  readonly flags: readonly InitFlagName[];
  readonly maxWriteBytes: number;
  readonly maxReadaheadBytes: number;
  readonly maxBackground: number;
};

export type InitOptions = {
  /** kernel: POSIX and flock locks stay in the kernel. service: they are requests (GETLK, SETLK, SETLKW). */
  readonly locks: "kernel" | "service";
  /**
   * explicit (also when absent): cached pages of a file are dropped when we say so. follow-attributes: also when the kernel, asking for attributes that have become too old, hears of another
   * size or mtime; for mounts that may not hear of a change in time.
   */
  readonly pages?: "explicit" | "follow-attributes";
  /**
   * Who checks modes and access lists. kernel (also when absent). service: each request may be refused, and the kernel refuses nothing by the owners it is shown: for mounts whose users are others here than in the share.
   */
  readonly access?: "kernel" | "service";
  /** Flags not to ask for, to see what an older kernel would do. */
  readonly without?: readonly InitFlagName[];
};

const MAJOR = 7;
/** The newest minor version whose structures are known here (7.45). */
const MINOR_KNOWN = 45;
/** 7.23 has the reserved space in fuse_init_out and everything before it; Linux 3.15. */
const MINOR_NEEDED = 23;

/** One WRITE or READ: as large as max_pages_limit allows by default (256 pages). */
export const MAX_WRITE_BYTES = 1024 * 1024;
const MAX_READAHEAD_BYTES = 1024 * 1024;
/** Asynchronous requests (read-ahead, write-back of mappings, direct I/O) in flight: 128 of 1 MiB keep any disk busy. */
const MAX_BACKGROUND = 128;
const CONGESTION_THRESHOLD = 96;
const PAGE_BYTES_SMALLEST = 4096;
/** sizeof(struct fuse_init_in) before 7.36 (flags2). */
const INIT_IN_BYTES = 16;
const INIT_IN_FLAGS2_BYTES = 20;
const OUT_HEADER_BYTES = 16;
const INIT_OUT_BYTES = 64;

/** A read buffer must hold the largest WRITE with its headers; the kernel adds no more than a page. */
export const FRAME_BYTES_MARGIN = 4096;

/** Flags we want, with what for where the name does not say. */
const WANTED: readonly InitFlagName[] = [
  "ABORT_ERROR",
  "ASYNC_DIO",
  "ASYNC_READ",
  "BIG_WRITES",
  "CACHE_SYMLINKS",
  "CREATE_SUPP_GROUP", // to decide about set-group-id in a set-group-id directory
  "DIRECT_IO_ALLOW_MMAP",
  "DONT_MASK", // default ACLs replace the umask
  "DO_READDIRPLUS",
  "EXPORT_SUPPORT",
  "HANDLE_KILLPRIV_V2",
  "HAS_EXPIRE_ONLY",
  "HAS_IOCTL_DIR",
  "HAS_RESEND", // a restarted gateway gets the requests of the dead one
  "INIT_EXT",
  "MAX_PAGES",
  "NO_OPENDIR_SUPPORT",
  "NO_OPEN_SUPPORT",
  "PARALLEL_DIROPS",
  "POSIX_ACL",
  "READDIRPLUS_AUTO",
  "SETXATTR_EXT",
];
const LOCK_FLAGS: readonly InitFlagName[] = ["POSIX_LOCKS", "FLOCK_LOCKS"];
// Not wanted: ATOMIC_O_TRUNC (it would put O_TRUNC into OPEN, which is never sent once OPEN is answered ENOSYS: the truncation would be lost; without it
// the kernel sends SETATTR), WRITEBACK_CACHE (dirty kernel pages belong to no moment), HANDLE_KILLPRIV (V2 is exact), PASSTHROUGH,
// ALLOW_IDMAP (it hides the caller's uid and gid from every request but creations, and records say who).

/** Whether both sides agreed on `flag`. */
export function hasInitFlag(negotiated: NegotiatedInit, flag: InitFlagName): boolean {
  return negotiated.flags.includes(flag);
}

/** Bytes that a read buffer for this connection must have. */
export function frameBytesMax(negotiated: NegotiatedInit): number {
  return negotiated.maxWriteBytes + FRAME_BYTES_MARGIN;
}

/** Decides what to answer to the kernel's INIT. Throws TidemarkError UNSUPPORTED for a kernel too old or of another major version. */
export function negotiateInit(frame: RequestFrame, options: InitOptions): NegotiatedInit {
  assert(frame.header.opcode === OPCODE.INIT);
  frame.requireBody(INIT_IN_BYTES);
  const major = frame.u32(0);
  const kernelMinor = frame.u32(4);
  if (major !== MAJOR || kernelMinor < MINOR_NEEDED) {
    throw new TidemarkError(
      "UNSUPPORTED",
      `the kernel speaks FUSE ${major}.${kernelMinor}; ${MAJOR}.${MINOR_NEEDED} or newer is needed`,
    );
  }
  const offeredLow = frame.u32(12);
  const offeredHigh =
    frame.bodyBytes >= INIT_IN_FLAGS2_BYTES && hasBit(offeredLow, INIT_FLAG.INIT_EXT) ? frame.u32(16) : 0;
  const wanted: readonly InitFlagName[] = [
    // With access lists of its own the kernel checks modes whatever the mount's options are (process_init_reply() of Linux).
    ...WANTED.filter((flag) => flag !== "POSIX_ACL" || options.access !== "service"),
    ...(options.locks === "service" ? LOCK_FLAGS : []),
    options.pages === "follow-attributes" ? "AUTO_INVAL_DATA" : "EXPLICIT_INVAL_DATA",
  ];
  const offered = wanted.filter((name) =>
    hasBit(INIT_FLAG[name] < 32 ? offeredLow : offeredHigh, INIT_FLAG[name] % 32),
  );
  const flags = offered.filter((name) => options.without?.includes(name) !== true);
  const largePages = flags.includes("MAX_PAGES");
  return {
    major,
    minor: Math.min(kernelMinor, MINOR_KNOWN),
    kernelMinor,
    flags: flags.sort(),
    maxWriteBytes: largePages ? MAX_WRITE_BYTES : 32 * PAGE_BYTES_SMALLEST,
    maxReadaheadBytes: Math.min(frame.u32(8), MAX_READAHEAD_BYTES),
    maxBackground: MAX_BACKGROUND,
  };
}

/** The INIT reply, with its header, for the request numbered `unique`. */
export function encodeInitReply(negotiated: NegotiatedInit, unique: number): Buffer {
  const wire = new Wire(OUT_HEADER_BYTES + INIT_OUT_BYTES);
  wire.setU32(0, OUT_HEADER_BYTES + INIT_OUT_BYTES);
  wire.setSafe64(8, unique);
  const body = OUT_HEADER_BYTES;
  wire.setU32(body, negotiated.major);
  wire.setU32(body + 4, negotiated.minor);
  wire.setU32(body + 8, negotiated.maxReadaheadBytes);
  wire.setU32(body + 12, flagWord(negotiated, 0));
  wire.setU16(body + 16, negotiated.maxBackground);
  wire.setU16(body + 18, Math.min(CONGESTION_THRESHOLD, negotiated.maxBackground));
  wire.setU32(body + 20, negotiated.maxWriteBytes);
  wire.setU32(body + 24, 1); // time_gran: nanoseconds
  wire.setU16(body + 28, negotiated.maxWriteBytes / PAGE_BYTES_SMALLEST);
  wire.setU32(body + 32, flagWord(negotiated, 1));
  return wire.bytes;
}

function flagWord(negotiated: NegotiatedInit, word: 0 | 1): number {
  let bits = 0;
  for (const name of negotiated.flags) {
    if (INIT_FLAG[name] >>> 5 === word) bits |= 1 << (INIT_FLAG[name] % 32);
  }
  return bits;
}

function hasBit(word: number, bit: number): boolean {
  return ((word >>> bit) & 1) !== 0;
}

/**
 * Reads the INIT that mount(2) has left on `fd` and answers it. The kernel queues it before mount(2) returns, so this never waits. Throws
 * TidemarkError UNSUPPORTED when the kernel is too old, FAILED_PRECONDITION when the descriptor belongs to no fresh mount.
 */
export function performInit(fd: number, io: FuseDeviceIo, options: InitOptions): NegotiatedInit {
  const wire = new Wire(MAX_WRITE_BYTES + FRAME_BYTES_MARGIN);
  const count = io.read(fd, wire.bytes);
  if (count < IN_HEADER_BYTES) {
    throw new TidemarkError(
      "FAILED_PRECONDITION",
      `the FUSE descriptor has no INIT request: is it mounted? (read: ${count})`,
    );
  }
  const frame = new RequestFrame(wire, 0, count);
  if (frame.header.opcode !== OPCODE.INIT) {
    throw new TidemarkError(
      "FAILED_PRECONDITION",
      `the FUSE descriptor was initialised before (request ${frame.header.opcode})`,
    );
  }
  const negotiated = negotiateInit(frame, options);
  const reply = encodeInitReply(negotiated, frame.header.unique);
  const written = io.write(fd, reply, reply.length);
  if (written < 0) throw new TidemarkError("INTERNAL", `the kernel refused our INIT reply (errno ${-written})`);
  return negotiated;
}
