import { createRequire } from "node:module";
import { getSystemErrorName } from "node:util";
import type { Timestamp } from "../../base/clock.ts";
import { TidemarkError } from "../../domain/errors.ts";

/** A file: its path, or the descriptor of one that is open, which costs no search for the name and is the same file whatever becomes of that. */
export type FileRef = Buffer | number;

/**
 * The calls on files that Node.js has not, through koffi (FFI): extended attributes, times in nanoseconds, device nodes.
 * All act on the name itself, never on what a symbolic link points to. Failures are SystemCallError with the errno's name.
 */
export interface NativeFiles {
  /** Whether there is one of that name. On a file system without them, there is none. */
  hasXattr(path: Buffer, name: Buffer): boolean;
  setXattr(file: FileRef, name: Buffer, value: Buffer): void;
  /** Removing an absent one, or on a file system without them, succeeds. */
  removeXattr(file: FileRef, name: Buffer): void;
  setTimes(file: FileRef, times: { readonly atime: Timestamp; readonly mtime: Timestamp }): void;
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
  const lgetxattr: Call = libc.func("int64_t lgetxattr(void *path, void *name, void *value, size_t size)");
  const lsetxattr: Call = libc.func("int lsetxattr(void *path, void *name, void *value, size_t size, int flags)");
  const fsetxattr: Call = libc.func("int fsetxattr(int file, void *name, void *value, size_t size, int flags)");
  const lremovexattr: Call = libc.func("int lremovexattr(void *path, void *name)");
  const fremovexattr: Call = libc.func("int fremovexattr(int file, void *name)");
  const utimensat: Call = libc.func("int utimensat(int folder, void *path, void *times, int flags)");
  const futimens: Call = libc.func("int futimens(int file, void *times)");
  const mknod: Call = libc.func("int mknod(void *path, uint32_t mode, uint64_t device)");
  const check = (call: string, result: number): void => {
    if (result !== 0) throw new SystemCallError(call, getSystemErrorName(-errno()));
  };
  /** For calls on an attribute that may be absent: whether it was there. */
  const checkPresent = (call: string, result: number): boolean => {
    if (result >= 0) return true;
    const code = getSystemErrorName(-errno());
    if (code === "ENODATA" || code === "ENOTSUP" || code === "EOPNOTSUPP") return false;
    throw new SystemCallError(call, code);
  };
  return {
    hasXattr: (path, name) => checkPresent("lgetxattr", lgetxattr(zeroed(path), zeroed(name), NO_BYTES, 0)),
    setXattr: (file, name, value) => {
      const rest = [zeroed(name), value, value.length, 0] as const;
      if (typeof file === "number") check("fsetxattr", fsetxattr(file, ...rest));
      else check("lsetxattr", lsetxattr(zeroed(file), ...rest));
    },
    removeXattr: (file, name) => {
      if (typeof file === "number") checkPresent("fremovexattr", fremovexattr(file, zeroed(name)));
      else checkPresent("lremovexattr", lremovexattr(zeroed(file), zeroed(name)));
    },
    setTimes: (file, { atime, mtime }) => {
      const times = timespecs(atime, mtime);
      if (typeof file === "number") check("futimens", futimens(file, times));
      else check("utimensat", utimensat(AT_FDCWD, zeroed(file), times, AT_SYMLINK_NOFOLLOW));
    },
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

const NO_BYTES = Buffer.alloc(0);

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
