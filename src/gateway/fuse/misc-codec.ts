import { IN_HEADER_BYTES, type RequestFrame, type RequestHeader } from "./frame.ts";
import { MalformedFrameError, type Wire } from "./wire.ts";

/** Requests whose body says nothing more: READLINK, STATFS. */
export type PlainRequest = { readonly header: RequestHeader };
export type IoctlRequest = {
  readonly header: RequestHeader;
  readonly handle: number;
  /** FUSE_IOCTL_* flags. */
  readonly flags: number;
  readonly command: number;
  readonly argument: bigint;
  readonly input: Buffer;
  /** Bytes the caller can take. */
  readonly outputBytesMax: number;
};
export type PollRequest = {
  readonly header: RequestHeader;
  readonly handle: number;
  /** Names the waiter in FUSE_NOTIFY_POLL. */
  readonly kernelHandle: bigint;
  readonly notify: boolean;
  readonly events: number;
};

/** One inode the kernel no longer holds, or holds `lookups` times less. */
export type Forgotten = { readonly slot: number; readonly ino: number; readonly lookups: number };

const POLL_SCHEDULE_NOTIFY = 1;

export function decodePlain(frame: RequestFrame): PlainRequest {
  return { header: frame.header };
}

export function decodeIoctl(frame: RequestFrame): IoctlRequest {
  return {
    header: frame.header,
    handle: frame.safe64(0),
    flags: frame.u32(8),
    command: frame.u32(12),
    argument: frame.u64(16),
    input: frame.bytes(32, frame.u32(24)),
    outputBytesMax: frame.u32(28),
  };
}

export function decodePoll(frame: RequestFrame): PollRequest {
  return {
    header: frame.header,
    handle: frame.safe64(0),
    kernelHandle: frame.u64(8),
    notify: (frame.u32(16) & POLL_SCHEDULE_NOTIFY) !== 0,
    events: frame.u32(20),
  };
}

/** FORGET: the node of the header. */
export function decodeForget(frame: RequestFrame): readonly Forgotten[] {
  return [{ slot: frame.header.slot, ino: frame.header.ino, lookups: frame.safe64(0) }];
}

/** sizeof(struct fuse_forget_one). */
const FORGET_ONE_BYTES = 16;

/** BATCH_FORGET. */
export function decodeBatchForget(frame: RequestFrame): readonly Forgotten[] {
  const count = frame.u32(0);
  if (count > (frame.bodyBytes - 8) / FORGET_ONE_BYTES) {
    throw new MalformedFrameError(`BATCH_FORGET of ${count} in ${frame.bodyBytes + IN_HEADER_BYTES} bytes`);
  }
  const forgotten: Forgotten[] = [];
  for (let index = 0; index < count; index++) {
    const at = 8 + index * FORGET_ONE_BYTES;
    forgotten.push({ slot: frame.nodeSlot(at), ino: frame.nodeIno(at), lookups: frame.safe64(at + 8) });
  }
  return forgotten;
}

/** INTERRUPT: the number of the request that the caller gave up. */
export function decodeInterrupt(frame: RequestFrame): number {
  return frame.unique(0);
}

/** What statfs(2) answers. */
export type FileSystemSpace = {
  readonly blockBytes: number;
  readonly blocksTotal: bigint;
  readonly blocksFree: bigint;
  /** Free to unprivileged callers. */
  readonly blocksAvailable: bigint;
  readonly inodesTotal: bigint;
  readonly inodesFree: bigint;
  readonly nameBytesMax: number;
};

/** sizeof(struct fuse_statfs_out). */
export const STATFS_OUT_BYTES = 80;

/** `struct fuse_statfs_out` at `at`. */
export function encodeStatfsOut(wire: Wire, at: number, space: FileSystemSpace): void {
  wire.clear(at, STATFS_OUT_BYTES);
  wire.setU64(at, space.blocksTotal);
  wire.setU64(at + 8, space.blocksFree);
  wire.setU64(at + 16, space.blocksAvailable);
  wire.setU64(at + 24, space.inodesTotal);
  wire.setU64(at + 32, space.inodesFree);
  wire.setU32(at + 40, space.blockBytes);
  wire.setU32(at + 44, space.nameBytesMax);
  wire.setU32(at + 48, space.blockBytes);
}

/** sizeof(struct fuse_ioctl_out). */
export const IOCTL_OUT_BYTES = 16;

/** `struct fuse_ioctl_out` at `at`; the output data follows it. */
export function encodeIoctlOut(wire: Wire, at: number, result: number): void {
  wire.setU32(at, result);
  wire.setU32(at + 4, 0);
  wire.setU32(at + 8, 0);
  wire.setU32(at + 12, 0);
}
