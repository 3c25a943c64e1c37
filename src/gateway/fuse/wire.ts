import { assert } from "../../base/assert.ts";
import type { Timestamp } from "../../base/clock.ts";
import { ERRNO } from "../../domain/errors.ts";

/**
 * Memory shared with the kernel through read and write: bytes, and the same bytes as words. FUSE speaks in the byte order of the host, which is
 * the one of typed arrays. Every structure of linux/fuse.h is made of naturally aligned fields and starts at a multiple of 8.
 */
const TWO_32 = 0x1_0000_0000;

/** Bits of a node id that hold the inode number; the rest is the view slot. */
const SLOT_SHIFT_HIGH = 8;
export const SLOT_MAX = 2 ** 23 - 1;

/** The top bit of a request's `unique` marks a re-sent request (FUSE_UNIQUE_RESEND, 7.40). */
export const RESENT_BIT_HIGH = 0x8000_0000;

/** A request that does not have the shape the protocol gives it. Answered with its errno; never a reason to stop. */
export class MalformedFrameError extends Error {
  override name = "MalformedFrameError";
  readonly errno: number = ERRNO.EINVAL;
}

/** A piece of memory with byte and word views. All offsets are in bytes and are multiples of the width read or written. */
export class Wire {
  readonly bytes: Buffer;
  readonly #u16: Uint16Array;
  readonly #u32: Uint32Array;
  readonly #u64: BigUint64Array;
  readonly #i64: BigInt64Array;

  constructor(byteLength: number) {
    assert(byteLength % 8 === 0);
    const memory = new ArrayBuffer(byteLength);
    this.bytes = Buffer.from(memory);
    this.#u16 = new Uint16Array(memory);
    this.#u32 = new Uint32Array(memory);
    this.#u64 = new BigUint64Array(memory);
    this.#i64 = new BigInt64Array(memory);
  }

  u16(at: number): number {
    return this.#u16[at >>> 1] as number;
  }

  u32(at: number): number {
    return this.#u32[at >>> 2] as number;
  }

  u64(at: number): bigint {
    return this.#u64[at >>> 3] as bigint;
  }

  i64(at: number): bigint {
    return this.#i64[at >>> 3] as bigint;
  }

  /** An unsigned 64-bit value that must be a safe integer (a handle or count of ours). Throws MalformedFrameError above 2^53-1. */
  safe64(at: number): number {
    const high = this.u32(at + 4);
    if (high > 0x1f_ffff) throw new MalformedFrameError(`64-bit value at byte ${at} is above 2^53-1`);
    return high * TWO_32 + this.u32(at);
  }

  /** The inode number (low 40 bits) of the node id at `at`. */
  nodeIno(at: number): number {
    return (this.u32(at + 4) & 0xff) * TWO_32 + this.u32(at);
  }

  /** The view slot (high 24 bits) of the node id at `at`. */
  nodeSlot(at: number): number {
    return this.u32(at + 4) >>> SLOT_SHIFT_HIGH;
  }

  setU16(at: number, value: number): void {
    this.#u16[at >>> 1] = value;
  }

  /** Stores the low 32 bits of `value`, signed or not. */
  setU32(at: number, value: number): void {
    this.#u32[at >>> 2] = value;
  }

  /** Stores the low 64 bits of `value`, signed or not. */
  setU64(at: number, value: bigint): void {
    this.#u64[at >>> 3] = value;
  }

  /** Stores a safe integer, signed or not, as 64 bits in two's complement. */
  setSafe64(at: number, value: number): void {
    this.#u32[at >>> 2] = value;
    this.#u32[(at >>> 2) + 1] = Math.floor(value / TWO_32);
  }

  /** Stores the node id of inode `ino` in view slot `slot`. */
  setNode(at: number, slot: number, ino: number): void {
    this.#u32[at >>> 2] = ino;
    this.#u32[(at >>> 2) + 1] = slot * (1 << SLOT_SHIFT_HIGH) + Math.floor(ino / TWO_32);
  }

  /** The time whose seconds are at `secondsAt` (64 bits, signed) and nanoseconds at `nanosecondsAt`. */
  time(secondsAt: number, nanosecondsAt: number): Timestamp {
    const sec = (this.u32(secondsAt + 4) | 0) * TWO_32 + this.u32(secondsAt);
    if (!Number.isSafeInteger(sec))
      throw new MalformedFrameError(`time at byte ${secondsAt} is outside the safe range`);
    const nsec = this.u32(nanosecondsAt);
    if (nsec > 999_999_999) throw new MalformedFrameError(`nanoseconds out of range: ${nsec}`);
    return { sec, nsec };
  }

  /** Zeroes `length` bytes from `at`. */
  clear(at: number, length: number): void {
    this.bytes.fill(0, at, at + length);
  }
}

/** Rounds up to the next multiple of 8 (FUSE_REC_ALIGN). */
export function align8(value: number): number {
  return (value + 7) & ~7;
}
