import { constants, openSync, readSync, writeSync, writevSync } from "node:fs";
import { ERRNO, TidemarkError } from "../../domain/errors.ts";
import { type Libc, loadLibc } from "./libc.ts";

/**
 * Reading and writing /dev/fuse. Every function answers a count of bytes or, below zero, -errno: failures are ordinary here (ENOENT: the
 * request was given up; ENODEV: unmounted), and an exception for each would cost more than the call.
 */
export interface FuseDeviceIo {
  /** Reads one request into `memory`. -EAGAIN when there is none. */
  read(fd: number, memory: Buffer): number;
  /** Writes one message, the first `bytes` of `memory`. */
  write(fd: number, memory: Buffer, bytes: number): number;
  /** Writes one message made of `pieces`, at most PIECES_MAX of them. */
  writev(fd: number, pieces: readonly Uint8Array[]): number;
}

/** IOV_MAX of Linux. */
export const PIECES_MAX = 1024;

/** EAGAIN and others that the file system core has no use for. */
const EINTR = 4;

/**
 * Opens /dev/fuse for a new connection. Non-blocking where requests are waited for with poll, blocking for the fallback that reads in
 * Node's thread pool. Throws TidemarkError UNSUPPORTED when there is no such device or it may not be opened.
 */
export function openFuseDevice(options: { nonBlocking: boolean }): number {
  try {
    return openSync("/dev/fuse", constants.O_RDWR | (options.nonBlocking ? constants.O_NONBLOCK : 0));
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    const hint =
      code === "ENOENT"
        ? "the fuse module is not loaded, or the container was started without --device /dev/fuse"
        : `it cannot be opened (${code ?? String(cause)}); mounting needs root, or CAP_SYS_ADMIN and access to the device`;
    throw new TidemarkError("UNSUPPORTED", `/dev/fuse: ${hint}`, { cause });
  }
}

/** The device through `libc` (where koffi loads), else through node:fs. */
export function fuseDeviceIo(libc: Libc | undefined = loadLibc()): FuseDeviceIo {
  return libc === undefined ? new NodeDeviceIo() : new LibcDeviceIo(libc);
}

/** Through koffi: 0.3 µs a call, and failures are numbers. */
class LibcDeviceIo implements FuseDeviceIo {
  readonly #libc: Libc;
  readonly #vector: BigUint64Array;
  readonly #vectorBytes: Buffer;

  constructor(libc: Libc) {
    this.#libc = libc;
    this.#vector = new BigUint64Array(PIECES_MAX * 2);
    this.#vectorBytes = Buffer.from(this.#vector.buffer);
  }

  read(fd: number, memory: Buffer): number {
    for (;;) {
      const count = this.#libc.read(fd, memory, memory.length);
      if (count >= 0) return count;
      const errno = this.#libc.errno();
      if (errno !== EINTR) return -errno;
    }
  }

  write(fd: number, memory: Buffer, bytes: number): number {
    const count = this.#libc.write(fd, memory, bytes);
    return count >= 0 ? count : -this.#libc.errno();
  }

  writev(fd: number, pieces: readonly Uint8Array[]): number {
    if (pieces.length > PIECES_MAX) return -ERRNO.EINVAL;
    for (let index = 0; index < pieces.length; index++) {
      const piece = pieces[index] as Uint8Array;
      this.#vector[index * 2] = this.#libc.address(piece);
      this.#vector[index * 2 + 1] = BigInt(piece.length);
    }
    const count = this.#libc.writev(fd, this.#vectorBytes, pieces.length);
    return count >= 0 ? count : -this.#libc.errno();
  }
}

/** Through node:fs: works everywhere; an exception is made for each failure. */
export class NodeDeviceIo implements FuseDeviceIo {
  read(fd: number, memory: Buffer): number {
    return negativeErrno(() => readSync(fd, memory));
  }

  write(fd: number, memory: Buffer, bytes: number): number {
    return negativeErrno(() => writeSync(fd, memory, 0, bytes));
  }

  writev(fd: number, pieces: readonly Uint8Array[]): number {
    return negativeErrno(() => writevSync(fd, pieces));
  }
}

/** The result of `call`, or -errno of what it threw. */
function negativeErrno(call: () => number): number {
  try {
    return call();
  } catch (error) {
    const errno = (error as NodeJS.ErrnoException).errno;
    return typeof errno === "number" && errno < 0 ? errno : -ERRNO.EIO;
  }
}
