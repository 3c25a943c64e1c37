import { createRequire } from "node:module";
import { getSystemErrorName } from "node:util";
import type { LibraryHandle } from "koffi";

/** A pointer as libc takes it: a buffer, whose memory koffi passes on. */
type Calls = {
  readonly flock: (fd: number, operation: number) => number;
  readonly preadv2: (fd: number, vector: Buffer, count: number, position: number, flags: number) => number;
  readonly fadvise: (fd: number, position: number, length: number, advice: number) => number;
  readonly fallocate: (fd: number, mode: number, position: number, length: number) => number;
  /** In the thread pool. */
  readonly syncFileRange: (fd: number, position: number, length: number, flags: number, done: () => void) => void;
  readonly errno: () => number;
  readonly address: (buffer: Buffer) => bigint;
};

type Koffi = {
  load(path: string | null): LibraryHandle;
  errno(): number;
  address(value: unknown): bigint;
};

let calls: Calls | null | undefined;

/** The libc calls that Node.js lacks, through koffi; undefined where koffi has no build for this machine. Every caller says what it does without. */
export function nativeCalls(): Calls | undefined {
  if (calls === undefined) calls = load();
  return calls ?? undefined;
}

/** The name of the last native call's error, as in Node's own errors ("EAGAIN"). */
export function lastErrorName(native: Calls): string {
  return getSystemErrorName(-native.errno());
}

function load(): Calls | null {
  try {
    const koffi: Koffi = createRequire(import.meta.url)("koffi");
    const libc = koffi.load(null);
    const syncFileRange = libc.func("int sync_file_range(int fd, int64_t position, int64_t length, uint flags)");
    return {
      flock: libc.func("int flock(int fd, int operation)") as Calls["flock"],
      preadv2: libc.func(
        "long preadv2(int fd, void *vector, int count, int64_t position, int flags)",
      ) as Calls["preadv2"],
      fadvise: libc.func("int posix_fadvise(int fd, int64_t position, int64_t length, int advice)") as Calls["fadvise"],
      fallocate: libc.func("int fallocate(int fd, int mode, int64_t position, int64_t length)") as Calls["fallocate"],
      syncFileRange: (fd, position, length, flags, done) =>
        syncFileRange.async(fd, position, length, flags, () => done()),
      errno: () => koffi.errno(),
      address: (buffer) => koffi.address(buffer),
    };
  } catch {
    return null;
  }
}
