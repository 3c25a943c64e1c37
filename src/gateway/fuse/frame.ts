import type { Timestamp } from "../../base/clock.ts";
import { ERRNO } from "../../domain/errors.ts";
import { MalformedFrameError, RESENT_BIT_HIGH, type Wire } from "./wire.ts";

/** sizeof(struct fuse_in_header). */
export const IN_HEADER_BYTES = 40;

/** FUSE_EXT_GROUPS (7.38, with FUSE_CREATE_SUPP_GROUP): a list of supplementary groups follows the request. */
const EXTENSION_GROUPS = 32;

const TWO_32 = 0x1_0000_0000;

/** `struct fuse_in_header`, decoded. `node` is the inode the request is about (a parent directory for requests with a name). */
export type RequestHeader = {
  readonly opcode: number;
  /** Number of the request on its connection, without the resend bit. */
  readonly unique: number;
  /** The kernel delivers it again after FUSE_NOTIFY_RESEND: a former process may have carried it out already. */
  readonly resent: boolean;
  readonly slot: number;
  readonly ino: number;
  readonly uid: number;
  readonly gid: number;
  /** Process of the caller in the mounter's pid namespace; 0 for one outside it and for the kernel's own requests. */
  readonly pid: number;
};

/**
 * One request as it lies in the read buffer: header, fixed body, names or data, extensions. Everything that is not a number is handed out as a
 * view of the buffer: valid until the operation has returned or, if that returned a promise, until the promise is settled.
 */
export class RequestFrame {
  readonly #wire: Wire;
  readonly #start: number;
  /** End of the body in the buffer, extensions excluded. */
  #end: number;
  /** End of the frame in the buffer. */
  readonly #frameEnd: number;
  readonly header: RequestHeader;

  /**
   * Decodes the header of the frame of `length` bytes at `start` (a multiple of 8). Throws MalformedFrameError when it is shorter than a
   * header: such a frame cannot even be answered.
   */
  constructor(wire: Wire, start: number, length: number) {
    if (length < IN_HEADER_BYTES) throw new MalformedFrameError(`frame of ${length} bytes is shorter than its header`);
    this.#wire = wire;
    this.#start = start;
    this.#frameEnd = start + length;
    this.#end = this.#frameEnd;
    const uniqueHigh = wire.u32(start + 12);
    this.header = {
      opcode: wire.u32(start + 4),
      unique: (uniqueHigh & ~RESENT_BIT_HIGH) * TWO_32 + wire.u32(start + 8),
      resent: (uniqueHigh & RESENT_BIT_HIGH) !== 0,
      slot: wire.nodeSlot(start + 16),
      ino: wire.nodeIno(start + 16),
      uid: wire.u32(start + 24),
      gid: wire.u32(start + 28),
      pid: wire.u32(start + 32),
    };
  }

  /** Checks that the declared length is the read one and the fixed body of `bytes` is there. Call before reading any field. */
  requireBody(bytes: number): void {
    const declared = this.#wire.u32(this.#start);
    if (declared !== this.#frameEnd - this.#start) {
      throw new MalformedFrameError(`frame says ${declared} bytes and has ${this.#frameEnd - this.#start}`);
    }
    this.#end = this.#frameEnd - this.#wire.u16(this.#start + 36) * 8;
    if (this.#end < this.#start + IN_HEADER_BYTES + bytes) {
      throw new MalformedFrameError(`body of opcode ${this.header.opcode} is shorter than ${bytes} bytes`, {
        cause: ERRNO.EINVAL,
      });
    }
  }

  /** Bytes of the body, extensions excluded. */
  get bodyBytes(): number {
    return this.#end - this.#start - IN_HEADER_BYTES;
  }

  /** A field of the body; `at` counts from the end of the header. */
  u32(at: number): number {
    return this.#wire.u32(this.#start + IN_HEADER_BYTES + at);
  }

  u64(at: number): bigint {
    return this.#wire.u64(this.#start + IN_HEADER_BYTES + at);
  }

  i64(at: number): bigint {
    return this.#wire.i64(this.#start + IN_HEADER_BYTES + at);
  }

  safe64(at: number): number {
    return this.#wire.safe64(this.#start + IN_HEADER_BYTES + at);
  }

  time(secondsAt: number, nanosecondsAt: number): Timestamp {
    const body = this.#start + IN_HEADER_BYTES;
    return this.#wire.time(body + secondsAt, body + nanosecondsAt);
  }

  nodeSlot(at: number): number {
    return this.#wire.nodeSlot(this.#start + IN_HEADER_BYTES + at);
  }

  nodeIno(at: number): number {
    return this.#wire.nodeIno(this.#start + IN_HEADER_BYTES + at);
  }

  /** A request's number stored in the body (INTERRUPT), without the resend bit. */
  unique(at: number): number {
    const word = this.#start + IN_HEADER_BYTES + at;
    return (this.#wire.u32(word + 4) & ~RESENT_BIT_HIGH) * TWO_32 + this.#wire.u32(word);
  }

  /** The NUL-terminated name that starts at `at`, without its NUL; a view. The next field starts at `at + name.length + 1`. */
  name(at: number): Buffer {
    const from = this.#start + IN_HEADER_BYTES + at;
    const end = this.#wire.bytes.indexOf(0, from);
    if (end < 0 || end >= this.#end) throw new MalformedFrameError(`name in opcode ${this.header.opcode} has no end`);
    return this.#wire.bytes.subarray(from, end);
  }

  /** `length` bytes from `at`; a view. */
  bytes(at: number, length: number): Buffer {
    const from = this.#start + IN_HEADER_BYTES + at;
    if (length > this.#end - from)
      throw new MalformedFrameError(`opcode ${this.header.opcode} has fewer than ${length} bytes of data`);
    return this.#wire.bytes.subarray(from, from + length);
  }

  /** The supplementary groups of the caller that the kernel chose to tell (with FUSE_CREATE_SUPP_GROUP: the parent's group, if the caller is in it). */
  supplementaryGids(): readonly number[] {
    if (this.#end === this.#frameEnd) return NO_GIDS;
    // Extensions follow a name of any length without padding: they are not aligned in the buffer, so their words are copied out.
    const words = new Uint32Array(Uint8Array.from(this.#wire.bytes.subarray(this.#end, this.#frameEnd)).buffer);
    let at = 0;
    while (at + 2 <= words.length) {
      const size = words[at] as number;
      if (size < 8 || at + size / 4 > words.length) throw new MalformedFrameError("extension is longer than its frame");
      if (words[at + 1] === EXTENSION_GROUPS) return groupsOf(words.subarray(at + 2, at + Math.floor(size / 4)));
      at += ((size + 7) & ~7) / 4;
    }
    return NO_GIDS;
  }
}

/** `struct fuse_supp_groups`: a count, then as many ids. */
function groupsOf(words: Uint32Array): readonly number[] {
  const count = words[0] ?? 0;
  if (count > words.length - 1) throw new MalformedFrameError("group list is longer than its extension");
  return [...words.subarray(1, 1 + count)];
}

const NO_GIDS: readonly number[] = [];
