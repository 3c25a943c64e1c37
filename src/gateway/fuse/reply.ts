import { assert } from "../../base/assert.ts";
import { ERRNO } from "../../domain/errors.ts";
import {
  ATTR_OUT_BYTES,
  ENTRY_OUT_BYTES,
  encodeAttrOut,
  encodeEntryOut,
  encodeNegativeEntryOut,
  encodeStatxOut,
  type NodeAttributes,
  STATX_OUT_BYTES,
  type Validity,
} from "./attribute-codec.ts";
import type { FuseDeviceIo } from "./device.ts";
import { PIECES_MAX } from "./device.ts";
import { DirectoryBuffer } from "./directory-codec.ts";
import { encodeOpenOut, OPEN_OUT_BYTES } from "./file-codec.ts";
import type { RequestHeader } from "./frame.ts";
import { encodeLkOut, type FileLock, LK_OUT_BYTES } from "./lock-codec.ts";
import {
  encodeIoctlOut,
  encodeStatfsOut,
  type FileSystemSpace,
  IOCTL_OUT_BYTES,
  STATFS_OUT_BYTES,
} from "./misc-codec.ts";
import { OPCODE } from "./opcodes.ts";
import { RESENT_BIT_HIGH, Wire } from "./wire.ts";

/** sizeof(struct fuse_out_header): len, error, unique. */
const OUT_HEADER_BYTES = 16;
const TWO_32 = 0x1_0000_0000;

/** Data up to this is copied behind the header and written with one plain write, which costs less than a vector. */
const COPY_BYTES_MAX = 4096;

/** Listings collected at once: one for each READDIR that is being answered; more than these are allocated and dropped. */
const DIRECTORY_BUFFERS_KEPT = 4;

/** What a reply tells the one who keeps the books. */
export interface ReplyOwner {
  /** The answer to `reply` is with the kernel. `errno` is why it did not take it, else 0. Called once for each reply. */
  replied(reply: Reply, errno: number): void;
}

/** Where replies are encoded: one for a loop, since each is encoded and written within one call. */
export class ReplyWriter {
  readonly io: FuseDeviceIo;
  readonly scratch = new Wire(OUT_HEADER_BYTES + Math.max(COPY_BYTES_MAX, STATX_OUT_BYTES));
  readonly #directories: DirectoryBuffer[] = [];

  constructor(io: FuseDeviceIo) {
    this.io = io;
  }

  takeDirectory(): DirectoryBuffer {
    return this.#directories.pop() ?? new DirectoryBuffer();
  }

  returnDirectory(buffer: DirectoryBuffer): void {
    if (this.#directories.length < DIRECTORY_BUFFERS_KEPT) this.#directories.push(buffer);
  }
}

/**
 * The answer to one request. Exactly one of its methods is called, once; each writes the answer to the kernel before it returns. A caller that
 * gave up in the meantime is not an error. An operation that returns without answering (or whose promise settles so) is answered EIO.
 */
export class Reply {
  readonly header: RequestHeader;
  readonly #fd: number;
  readonly #writer: ReplyWriter;
  readonly #owner: ReplyOwner;
  #directory: DirectoryBuffer | undefined;
  #interrupt: AbortController | undefined;
  #interrupted = false;
  #answered = false;

  constructor(header: RequestHeader, to: { fd: number; writer: ReplyWriter; owner: ReplyOwner }) {
    this.header = header;
    this.#fd = to.fd;
    this.#writer = to.writer;
    this.#owner = to.owner;
  }

  get answered(): boolean {
    return this.#answered;
  }

  /** Aborts when the caller gave up (a signal arrived). Whoever waits then stops and answers EINTR; who is nearly done just answers. */
  get signal(): AbortSignal {
    this.#interrupt ??= new AbortController();
    if (this.#interrupted) this.#interrupt.abort();
    return this.#interrupt.signal;
  }

  /** For the connection: the caller gave up. */
  interrupted(): void {
    this.#interrupted = true;
    this.#interrupt?.abort();
  }

  /** Leaves the request unanswered: this process stops serving the mount, and whoever goes on with it is sent the request again (FUSE_NOTIFY_RESEND). */
  leaveUnanswered(): void {
    assert(!this.#answered, "a request was answered twice");
    this.#answered = true;
  }

  /** Failure, as a positive errno. */
  error(errno: number): void {
    this.#header(0, -errno);
    this.#send(0);
  }

  /** Success with nothing to say: SETXATTR, UNLINK, FSYNC and the like. */
  ok(): void {
    this.#header(0, 0);
    this.#send(0);
  }

  /** LOOKUP, MKNOD, MKDIR, SYMLINK, LINK: the kernel counts one more lookup of the inode. */
  entry(attributes: NodeAttributes, validity: Validity): void {
    encodeEntryOut(this.#writer.scratch, OUT_HEADER_BYTES, { attributes, validity });
    this.#header(ENTRY_OUT_BYTES, 0);
    this.#send(ENTRY_OUT_BYTES);
  }

  /** LOOKUP: no such name, and the kernel may remember that for `entrySec`. */
  noEntry(entrySec: number): void {
    encodeNegativeEntryOut(this.#writer.scratch, OUT_HEADER_BYTES, entrySec);
    this.#header(ENTRY_OUT_BYTES, 0);
    this.#send(ENTRY_OUT_BYTES);
  }

  /** CREATE, TMPFILE: an entry and an open file. */
  created(attributes: NodeAttributes, options: { validity: Validity; handle: number; flags: number }): void {
    const { scratch } = this.#writer;
    encodeEntryOut(scratch, OUT_HEADER_BYTES, { attributes, validity: options.validity });
    encodeOpenOut(scratch, OUT_HEADER_BYTES + ENTRY_OUT_BYTES, options);
    this.#header(ENTRY_OUT_BYTES + OPEN_OUT_BYTES, 0);
    this.#send(ENTRY_OUT_BYTES + OPEN_OUT_BYTES);
  }

  /** GETATTR, SETATTR. */
  attributes(attributes: NodeAttributes, validity: Validity): void {
    encodeAttrOut(this.#writer.scratch, OUT_HEADER_BYTES, { attributes, validity });
    this.#header(ATTR_OUT_BYTES, 0);
    this.#send(ATTR_OUT_BYTES);
  }

  /** STATX. */
  statx(attributes: NodeAttributes, validity: Validity): void {
    encodeStatxOut(this.#writer.scratch, OUT_HEADER_BYTES, { attributes, validity });
    this.#header(STATX_OUT_BYTES, 0);
    this.#send(STATX_OUT_BYTES);
  }

  /** OPEN, OPENDIR: `handle` (a safe integer) comes back in every request of this open file; `flags` are FOPEN. */
  opened(handle: number, flags: number): void {
    encodeOpenOut(this.#writer.scratch, OUT_HEADER_BYTES, { handle, flags });
    this.#header(OPEN_OUT_BYTES, 0);
    this.#send(OPEN_OUT_BYTES);
  }

  /** READ, READLINK, GETXATTR, LISTXATTR: the bytes, at most as many as were asked for. Not kept after the call. */
  data(pieces: Uint8Array | readonly Uint8Array[]): void {
    const list: readonly Uint8Array[] = pieces instanceof Uint8Array ? [pieces] : pieces;
    let bytes = 0;
    for (const piece of list) bytes += piece.length;
    const { scratch } = this.#writer;
    this.#header(bytes, 0);
    if (bytes <= COPY_BYTES_MAX) {
      let at = OUT_HEADER_BYTES;
      for (const piece of list) {
        scratch.bytes.set(piece, at);
        at += piece.length;
      }
      this.#send(bytes);
      return;
    }
    this.#sendPieces([
      scratch.bytes.subarray(0, OUT_HEADER_BYTES),
      ...(list.length < PIECES_MAX ? list : [Buffer.concat(list)]),
    ]);
  }

  /** WRITE: bytes taken, never more than were sent. */
  written(bytes: number): void {
    this.#twoWords(bytes, 0);
  }

  /** COPY_FILE_RANGE: bytes copied. The older opcode takes 32 bits: more is answered as the largest multiple of a page below it. */
  copied(bytes: bigint): void {
    if (this.header.opcode === OPCODE.COPY_FILE_RANGE_64) {
      this.#word64(bytes);
      return;
    }
    this.#twoWords(Number(bytes > COPIED_32_MAX ? COPIED_32_MAX : bytes), 0);
  }

  /** GETXATTR, LISTXATTR with `sizeBytes` 0: the length the value has. */
  xattrSize(bytes: number): void {
    this.#twoWords(bytes, 0);
  }

  /** STATFS. */
  space(space: FileSystemSpace): void {
    encodeStatfsOut(this.#writer.scratch, OUT_HEADER_BYTES, space);
    this.#header(STATFS_OUT_BYTES, 0);
    this.#send(STATFS_OUT_BYTES);
  }

  /** GETLK: the lock that stands in the way, or one of type F_UNLCK (2). */
  lock(lock: FileLock): void {
    encodeLkOut(this.#writer.scratch, OUT_HEADER_BYTES, lock);
    this.#header(LK_OUT_BYTES, 0);
    this.#send(LK_OUT_BYTES);
  }

  /** LSEEK. */
  position(offset: bigint): void {
    this.#word64(offset);
  }

  /** IOCTL: `result` is what ioctl(2) returns; `output` at most `outputBytesMax` bytes. */
  ioctl(result: number, output: Uint8Array): void {
    encodeIoctlOut(this.#writer.scratch, OUT_HEADER_BYTES, result);
    this.#header(IOCTL_OUT_BYTES + output.length, 0);
    const head = this.#writer.scratch.bytes.subarray(0, OUT_HEADER_BYTES + IOCTL_OUT_BYTES);
    this.#sendPieces(output.length === 0 ? [head] : [head, output]);
  }

  /** POLL: the events that are ready. */
  poll(events: number): void {
    this.#twoWords(events, 0);
  }

  /**
   * READDIR, READDIRPLUS: a buffer to add entries to, of at most `sizeBytes` (the request's). Then `directoryDone`. Nothing added means
   * the end of the directory.
   */
  directory(sizeBytes: number): DirectoryBuffer {
    this.#directory ??= this.#writer.takeDirectory();
    this.#directory.start(sizeBytes);
    return this.#directory;
  }

  /** Sends what was added to `directory`. */
  directoryDone(): void {
    assert(this.#directory !== undefined, "directoryDone without directory");
    this.data(this.#directory.view());
  }

  #twoWords(first: number, second: number): void {
    const { scratch } = this.#writer;
    scratch.setU32(OUT_HEADER_BYTES, first);
    scratch.setU32(OUT_HEADER_BYTES + 4, second);
    this.#header(8, 0);
    this.#send(8);
  }

  #word64(value: bigint): void {
    this.#writer.scratch.setU64(OUT_HEADER_BYTES, value);
    this.#header(8, 0);
    this.#send(8);
  }

  #header(bodyBytes: number, error: number): void {
    assert(!this.#answered, "a request was answered twice");
    this.#answered = true;
    const { scratch } = this.#writer;
    const { unique, resent } = this.header;
    scratch.setU32(0, OUT_HEADER_BYTES + bodyBytes);
    scratch.setU32(4, error);
    scratch.setU32(8, unique);
    const high = Math.floor(unique / TWO_32);
    scratch.setU32(12, resent ? high | RESENT_BIT_HIGH : high);
  }

  #send(bodyBytes: number): void {
    const { io, scratch } = this.#writer;
    this.#sent(io.write(this.#fd, scratch.bytes, OUT_HEADER_BYTES + bodyBytes));
  }

  #sendPieces(pieces: readonly Uint8Array[]): void {
    this.#sent(this.#writer.io.writev(this.#fd, pieces));
  }

  #sent(result: number): void {
    if (this.#directory !== undefined) {
      this.#writer.returnDirectory(this.#directory);
      this.#directory = undefined;
    }
    // ENOENT: the caller was killed or the request aborted meanwhile; nobody waits for the answer.
    this.#owner.replied(this, result >= 0 || result === -ERRNO.ENOENT ? 0 : -result);
  }
}

const COPIED_32_MAX = 0xffff_f000n;
