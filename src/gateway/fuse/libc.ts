import { createRequire } from "node:module";

/** What of koffi (FFI) is used; its own types are `any`. */
type Koffi = {
  load(path: null): { func(definition: string): (...args: unknown[]) => unknown };
  errno(): number;
  address(memory: Uint8Array): bigint;
  view(address: bigint, bytes: number): ArrayBuffer;
  readonly node: {
    readonly env: bigint;
    poll(fd: number, options: { readable: boolean }, callback: (status: number) => void): PollHandle;
  };
};

/** A descriptor watched by Node's event loop (uv_poll_t). */
export interface PollHandle {
  start(options: { readable: boolean }, callback: (status: number) => void): void;
  stop(): void;
  close(): void;
}

/**
 * The C functions the gateway needs beyond `node:fs`, called through koffi; all of them on the caller's thread. A result below zero means
 * that `errno()`, read at once, says why.
 */
export type Libc = {
  readonly read: (fd: number, memory: Uint8Array, bytes: number) => number;
  readonly write: (fd: number, memory: Uint8Array, bytes: number) => number;
  /** `vector` holds `count` pairs of address and length. */
  readonly writev: (fd: number, vector: Uint8Array, count: number) => number;
  /** `set` holds `count` struct pollfd. */
  readonly poll: (set: Uint8Array, count: number, timeoutMs: number) => number;
  readonly mmap: (hint: null, bytes: number, protection: number, flags: number, fd: number, offset: number) => bigint;
  readonly munmap: (address: bigint, bytes: number) => number;
  readonly getxattr: (path: string, name: string, memory: Uint8Array, bytes: number) => number;
  readonly setxattr: (path: string, name: string, memory: Uint8Array, bytes: number, flags: number) => number;
  readonly syscall3: (number: number, first: number, second: number, third: number) => number;
  /** Milliseconds until this thread's event loop has something to do: 0 now, -1 nothing in sight. */
  readonly loopTimeoutMs: () => number;
  /** The descriptor that is readable when this thread's event loop has I/O. */
  readonly loopFd: number;
  readonly errno: () => number;
  readonly address: (memory: Uint8Array) => bigint;
  readonly view: (address: bigint, bytes: number) => ArrayBuffer;
  /** Calls back from the event loop whenever `fd` is readable or has failed. */
  readonly watch: (fd: number, callback: () => void) => PollHandle;
  /** Goes on after `stop`. */
  readonly resume: (handle: PollHandle, callback: () => void) => void;
};

const READABLE = { readable: true };

let cached: Libc | Error | undefined;

/** Loads libc and libuv's symbols, once. Undefined where koffi can't load (an unusual platform, a static build): slower ways exist for everything it does. */
export function loadLibc(): Libc | undefined {
  if (cached === undefined) {
    try {
      cached = bind(createRequire(import.meta.url)("koffi") as Koffi);
    } catch (error) {
      cached = error instanceof Error ? error : new Error(String(error));
    }
  }
  return cached instanceof Error ? undefined : cached;
}

/** Why `loadLibc` found nothing; undefined when it did. For `status` and logs. */
export function libcLoadError(): Error | undefined {
  loadLibc();
  return cached instanceof Error ? cached : undefined;
}

function bind(koffi: Koffi): Libc {
  const library = koffi.load(null);
  const bound = <T>(definition: string): T => library.func(definition) as T;
  // napi_get_uv_event_loop answers the loop of this thread, also in a worker; uv_default_loop would be the main thread's.
  const loopOut: (bigint | null)[] = [null];
  const status = bound<(env: bigint, out: (bigint | null)[]) => number>(
    "int napi_get_uv_event_loop(void *env, _Out_ void **loop)",
  )(koffi.node.env, loopOut);
  const loop = loopOut[0];
  if (status !== 0 || !loop) throw new Error(`napi_get_uv_event_loop: status ${status}`);
  const updateTime = bound<(loop: bigint) => void>("void uv_update_time(void *loop)");
  const backendTimeout = bound<(loop: bigint) => number>("int uv_backend_timeout(void *loop)");
  return {
    read: bound("intptr_t read(int fd, void *memory, size_t bytes)"),
    write: bound("intptr_t write(int fd, const void *memory, size_t bytes)"),
    writev: bound("intptr_t writev(int fd, const void *vector, int count)"),
    poll: bound("int poll(void *set, unsigned long count, int timeout)"),
    mmap: bound("void *mmap(void *hint, size_t bytes, int protection, int flags, int fd, long offset)"),
    munmap: bound("int munmap(uintptr_t address, size_t bytes)"),
    getxattr: bound("intptr_t getxattr(const char *path, const char *name, void *memory, size_t bytes)"),
    setxattr: bound("int setxattr(const char *path, const char *name, const void *memory, size_t bytes, int flags)"),
    syscall3: bound("long syscall(long number, long first, long second, long third)"),
    loopTimeoutMs: () => {
      updateTime(loop);
      return backendTimeout(loop);
    },
    loopFd: bound<(loop: bigint) => number>("int uv_backend_fd(void *loop)")(loop),
    errno: () => koffi.errno(),
    address: (memory) => koffi.address(memory),
    view: (address, bytes) => koffi.view(address, bytes),
    watch: (fd, callback) => koffi.node.poll(fd, READABLE, callback),
    resume: (handle, callback) => handle.start(READABLE, callback),
  };
}
