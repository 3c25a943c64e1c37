import { createRequire } from "node:module";
import { getSystemErrorName } from "node:util";
import type { Timestamp } from "../../base/clock.ts";
import { TidemarkError } from "../../domain/errors.ts";

/**
 * The calls on files that Node.js has not, through koffi (FFI): extended attributes, times in nanoseconds, device nodes.
 * All act on the name itself, never on what a symbolic link points to. Failures are SystemCallError with the errno's name.
 */
export interface NativeFiles {
  setXattr(path: Buffer, name: Buffer, value: Buffer): void;
  /** Removing an absent one, or on a file system without them, succeeds. */
  removeXattr(path: Buffer, name: Buffer): void;
  setTimes(path: Buffer, times: { readonly atime: Timestamp; readonly mtime: Timestamp }): void;
  /** Makes a FIFO, socket or device node; `rdev` in Linux's 32-bit form. */
  makeNode(path: Buffer, node: { readonly mode: number; readonly rdev: number }): void;
}

/** A system call that failed, with its errno as `code` ("EPERM"), as Node.js's own errors have it. */
export class SystemCallError extends Error {
  override name = "SystemCallError";
  readonly code: string;

  constructor(call: string, code: string) {
    super(`${call}: ${code}`);
    this.code = code;
  }
}

/** fcntl.h */
const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;

type Call = (...args: (number | bigint | Buffer)[]) => number;

/** The calls of this machine's libc. Throws UNSUPPORTED where koffi has no build for it. */
export function nativeFiles(): NativeFiles {
  const { libc, errno } = load();
  const lsetxattr: Call = libc.func("int lsetxattr(void *path, void *name, void *value, size_t size, int flags)");
  const lremovexattr: Call = libc.func("int lremovexattr(void *path, void *name)");
  const utimensat: Call = libc.func("int utimensat(int folder, void *path, void *times, int flags)");
  const mknod: Call = libc.func("int mknod(void *path, uint32_t mode, uint64_t device)");
  const check = (call: string, result: number): void => {
    if (result !== 0) throw new SystemCallError(call, getSystemErrorName(-errno()));
  };
  return {
    setXattr: (path, name, value) => check("lsetxattr", lsetxattr(zeroed(path), zeroed(name), value, value.length, 0)),
    removeXattr: (path, name) => {
      if (lremovexattr(zeroed(path), zeroed(name)) === 0) return;
      const code = getSystemErrorName(-errno());
      if (code !== "ENODATA" && code !== "ENOTSUP" && code !== "EOPNOTSUPP")
        throw new SystemCallError("lremovexattr", code);
    },
    setTimes: (path, { atime, mtime }) =>
      check("utimensat", utimensat(AT_FDCWD, zeroed(path), timespecs(atime, mtime), AT_SYMLINK_NOFOLLOW)),
    makeNode: (path, { mode, rdev }) => check("mknod", mknod(zeroed(path), mode, BigInt(rdev))),
  };
}

/** struct timespec[2] on 64-bit Linux: seconds i64, nanoseconds i64, in the machine's byte order (little endian on all that we run on). */
function timespecs(...times: readonly Timestamp[]): Buffer {
  const bytes = Buffer.alloc(16 * times.length);
  times.forEach((time, index) => {
    bytes.writeBigInt64LE(BigInt(time.sec), index * 16);
    bytes.writeBigInt64LE(BigInt(time.nsec), index * 16 + 8);
  });
  return bytes;
}

function zeroed(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(1)]);
}

type Koffi = {
  load(path: string | null): { func(prototype: string): Call };
  errno(): number;
};

function load(): { libc: { func(prototype: string): Call }; errno: () => number } {
  try {
    const koffi: Koffi = createRequire(import.meta.url)("koffi");
    return { libc: koffi.load(null), errno: () => koffi.errno() };
  } catch (cause) {
    const message =
      "restoring outside a share needs koffi, which has no build for this machine; restore into a share, or mount a view and copy from it";
    throw new TidemarkError("UNSUPPORTED", message, { cause });
  }
}
