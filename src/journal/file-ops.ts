import fs from "node:fs";
import { lastErrorName, nativeCalls } from "./native.ts";

/** linux/fs.h */
const RWF_NOWAIT = 8;
/** linux/fs.h: start writing what is dirty, wait for nothing. */
const SYNC_FILE_RANGE_WRITE = 2;
/** asm-generic: drop clean pages. */
const POSIX_FADV_DONTNEED = 4;

/**
 * What the journal asks of the file system. Errors are Node's, with `code`. Nothing is retried below this line. Buffers belong to the
 * caller and are not kept after the call (the promise) ended. Positions and lengths are safe numbers.
 */
export interface FileOps {
  /** Creates `path` (mode 0600) for reading and writing. EEXIST if it is there. */
  create(path: string): number;
  /** Opens an existing file. */
  open(path: string, mode: "read" | "write"): number;
  close(fd: number): void;
  /** Writes `parts` one after the other, from `position`. Returns how many bytes went in, which may be fewer. */
  write(fd: number, parts: readonly Uint8Array[], position: number): number;
  truncate(fd: number, length: number): void;
  /** Fills `target` from `position`; fewer bytes at the end of the file. May wait for the disk. */
  readNow(fd: number, target: Buffer, position: number): number;
  /** The same without waiting for the disk: -1 when not all of it is in memory. */
  readCached(fd: number, target: Buffer, position: number): number;
  /** The same in the thread pool. */
  readLater(fd: number, target: Buffer, position: number): Promise<number>;
  /** Starts writing a range to the disk, in the thread pool; says when it has been handed over. A hint: failures show at the next `sync`. */
  startWriteBack(fd: number, range: { readonly position: number; readonly length: number }): Promise<void>;
  /** fdatasync, in the thread pool: everything written before the call survives power loss when it resolves. */
  sync(fd: number): Promise<void>;
}

/** Forgets what memory holds of a file and is not waiting to be written, so that the next read shows the disk. Answers false where that can't be asked for (no koffi). */
export function dropCached(fd: number): boolean {
  return nativeCalls()?.fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) === 0;
}

/** The machine's file system. */
export class SystemFileOps implements FileOps {
  readonly #native = nativeCalls();
  readonly #vector = Buffer.alloc(16);

  create(path: string): number {
    return fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_EXCL, 0o600);
  }

  open(path: string, mode: "read" | "write"): number {
    return fs.openSync(path, mode === "read" ? fs.constants.O_RDONLY : fs.constants.O_RDWR);
  }

  close(fd: number): void {
    fs.closeSync(fd);
  }

  write(fd: number, parts: readonly Uint8Array[], position: number): number {
    const [first] = parts;
    if (parts.length === 1 && first !== undefined) return fs.writeSync(fd, first, 0, first.length, position);
    return fs.writevSync(fd, parts, position);
  }

  truncate(fd: number, length: number): void {
    fs.ftruncateSync(fd, length);
  }

  readNow(fd: number, target: Buffer, position: number): number {
    let done = 0;
    while (done < target.length) {
      const count = fs.readSync(fd, target, done, target.length - done, position + done);
      if (count === 0) break;
      done += count;
    }
    return done;
  }

  readCached(fd: number, target: Buffer, position: number): number {
    const native = this.#native;
    if (native === undefined) return -1;
    // One iovec: base and length, as this machine writes them (x86-64 and arm64 are little endian).
    this.#vector.writeBigUInt64LE(native.address(target), 0);
    this.#vector.writeBigUInt64LE(BigInt(target.length), 8);
    const count = native.preadv2(fd, this.#vector, 1, position, RWF_NOWAIT);
    return count === target.length ? count : -1;
  }

  readLater(fd: number, target: Buffer, position: number): Promise<number> {
    return new Promise((resolve, reject) => {
      const step = (done: number): void => {
        fs.read(fd, target, done, target.length - done, position + done, (error, count) => {
          if (error !== null) reject(error);
          else if (count === 0 || done + count === target.length) resolve(done + count);
          else step(done + count);
        });
      };
      step(0);
    });
  }

  startWriteBack(fd: number, range: { readonly position: number; readonly length: number }): Promise<void> {
    const native = this.#native;
    if (native === undefined) return Promise.resolve();
    return new Promise((resolve) =>
      native.syncFileRange(fd, range.position, range.length, SYNC_FILE_RANGE_WRITE, resolve),
    );
  }

  sync(fd: number): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.fdatasync(fd, (error) => (error === null ? resolve() : reject(error)));
    });
  }
}

/** An error of a native call, in Node's form. */
export function nativeError(call: string): NodeJS.ErrnoException {
  const native = nativeCalls();
  const code = native === undefined ? "ENOSYS" : lastErrorName(native);
  return Object.assign(new Error(`${code}: ${call}`), { code, syscall: call });
}
