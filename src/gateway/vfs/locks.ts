import { FsError } from "../../domain/errors.ts";
import { type InodeId, LIVE } from "../../domain/ids.ts";
import type { FileLock, RequestContext } from "../../domain/metadata-api.ts";
import type * as codec from "../fuse/file-codec.ts";
import type { RequestHeader } from "../fuse/frame.ts";
import type * as lock from "../fuse/lock-codec.ts";
import type { FuseOperations } from "../fuse/operations.ts";
import type { Reply } from "../fuse/reply.ts";
import { type SharedLocks, unlessRefused, type VfsContext, whenDone } from "./context.ts";

/** Who may hold locks, remembered at most: 200 bytes each. Beyond it every close asks, as after a restart. */
const HOLDERS_REMEMBERED_MAX = 65_536;

/** F_RDLCK, F_WRLCK, F_UNLCK (asm-generic/fcntl.h). */
const TYPES = ["read", "write", "unlock"] as const;
const F_UNLCK = 2;

const WHOLE = { start: 0n, end: 2n ** 63n - 1n } as const;

/** An owner of locks of a file, as the kernel of this mount names it. */
type Holder = { readonly ino: InodeId; readonly owner: bigint; readonly flock: boolean };

/**
 * Locks that the service keeps, for mounts with `sharedLocks`. The kernel then asks for each lock, and says when a file is closed, since that unlocks: FLUSH at each close (of the locks of the
 * process), RELEASE at the last one of an open file (flock(2) locks, and those of F_OFD_SETLK). It does so for every file, locked or not, so who has locks is remembered here, and only for those the service is asked.
 */
export function lockOperations(vfs: VfsContext): FuseOperations {
  if (vfs.options.sharedLocks === undefined) return {};
  const locks = new VfsLocks(vfs, vfs.options.sharedLocks);
  return {
    getlk: (request, reply) => locks.getlk(request, reply),
    setlk: (request, reply) => locks.setlk(request, reply, false),
    setlkw: (request, reply) => locks.setlk(request, reply, true),
    flush: (request, reply) => locks.flush(request, reply),
    release: (request, reply) => locks.release(request, reply),
  };
}

class VfsLocks {
  readonly #vfs: VfsContext;
  readonly #stopping: AbortSignal;
  readonly #holders = new Map<string, { readonly holder: Holder; readonly handle: number }>();
  /** By the number of the open file that they were last asked for through. */
  readonly #byHandle = new Map<number, Set<string>>();
  /** There may be holders that are not remembered: a process before this one served the mount, or there were too many. */
  #isDoubtful: boolean;
  readonly #waiting = new Set<Reply>();

  constructor(vfs: VfsContext, { resumed, stopping }: SharedLocks) {
    this.#vfs = vfs;
    this.#isDoubtful = resumed;
    this.#stopping = stopping;
    stopping.addEventListener("abort", () => this.#stop(), { once: true });
  }

  getlk(request: lock.LockRequest, reply: Reply): void | Promise<void> {
    const { header, owner, flock } = request;
    const ino = this.#live(header);
    const free = { ...request.lock, type: F_UNLCK };
    if (ino === undefined) return reply.lock(free);
    const wanted = { op: "getlk", ino, owner, flock, lock: asked(request.lock) } as const;
    return whenDone(this.#vfs.api.execute(wanted, this.#vfs.context(header, reply)), (found) =>
      reply.lock(found === undefined ? free : { ...found, type: TYPES.indexOf(found.type) }),
    );
  }

  setlk(request: lock.LockRequest, reply: Reply, wait: boolean): void | Promise<void> {
    const { header, owner, flock } = request;
    const ino = this.#live(header);
    // What is past never changes: nobody has to be kept out.
    if (ino === undefined) return reply.ok();
    const holder = { ino, owner, flock };
    const taken = asked(request.lock);
    // Before asking, in case the answer gets lost; and when it is granted, since it may have waited while a close forgot it.
    const note = (): void => {
      if (taken.type !== "unlock") this.#remember(holder, request.handle);
    };
    note();
    const context = wait ? { ...this.#own(header), signal: reply.signal } : this.#vfs.context(header, reply);
    const done = this.#vfs.api.execute({ op: "setlk", ino, owner, flock, lock: taken, wait }, context);
    if (!(done instanceof Promise)) return reply.ok();
    return this.#wait(reply, done, note);
  }

  /** A descriptor is closed: fcntl(2) takes away all locks that the process has on the file, through whichever descriptor it got them. */
  flush(request: codec.FlushRequest, reply: Reply): void | Promise<void> {
    const { header, lockOwner } = request;
    const ino = this.#live(header);
    if (ino === undefined) return reply.ok();
    const done = this.#unlock({ ino, owner: lockOwner, flock: false }, this.#vfs.context(header, reply));
    return whenDone(done, () => reply.ok());
  }

  /** An open file is closed for good: its flock(2) lock goes, and those of F_OFD_SETLK, which are its own too (those of a process are gone by now). */
  release(request: codec.ReleaseRequest, reply: Reply): void | Promise<void> {
    const { header, handle, lockOwner } = request;
    const ino = this.#live(header);
    if (ino === undefined) return reply.ok();
    const own = [...(this.#byHandle.get(handle) ?? [])].flatMap((key) => this.#holders.get(key)?.holder ?? []);
    const holders = own.filter(({ flock }) => !flock);
    if (request.flockUnlock) holders.push({ ino, owner: lockOwner, flock: true });
    // Nobody's request, so that each of several is done if it is sent again: unlocking twice does no harm to an owner that is no more.
    const done = holders.map((holder) => this.#unlock(holder, { ...this.#own(header), unique: 0, resent: false }));
    if (!done.some((each) => each instanceof Promise)) return reply.ok();
    return Promise.all(done).then(() => reply.ok());
  }

  /** The inode of a live file; undefined: it is one of the past. */
  #live(header: RequestHeader): InodeId | undefined {
    if (this.#vfs.isViews(header.slot)) return undefined;
    const { ino, at } = this.#vfs.node(header.slot, header.ino);
    return at === LIVE ? ino : undefined;
  }

  #own(header: RequestHeader): RequestContext {
    const { mountId } = this.#vfs.options;
    const { uid, gid, pid, unique, resent } = header;
    return { actor: { mountId, uid, gid, pid, label: "" }, unique, resent };
  }

  async #wait(reply: Reply, done: Promise<undefined>, granted: () => void): Promise<void> {
    this.#waiting.add(reply);
    if (this.#stopping.aborted) reply.interrupted();
    try {
      await done;
    } catch (error) {
      if (this.#stopping.aborted) return reply.leaveUnanswered();
      throw error;
    } finally {
      this.#waiting.delete(reply);
    }
    granted();
    reply.ok();
  }

  /** This process serves the mount no longer: who waits for a lock goes on waiting, with the next. */
  #stop(): void {
    for (const reply of this.#waiting) reply.interrupted();
  }

  #unlock(holder: Holder, context: RequestContext): undefined | Promise<undefined> {
    const key = keyOf(holder);
    const known = this.#holders.get(key);
    if (known === undefined && !this.#isDoubtful) return undefined;
    // Forgotten before it is done: a lock that is taken meanwhile is another one.
    this.#forget(key);
    const again = (error: unknown): never => {
      this.#remember(holder, known?.handle ?? 0);
      throw error;
    };
    const wanted = { op: "setlk", ...holder, lock: { ...WHOLE, type: "unlock", pid: 0 }, wait: false } as const;
    try {
      const done = unlessRefused("ESTALE", () => this.#vfs.api.execute(wanted, context), undefined);
      return done instanceof Promise ? done.catch(again) : done;
    } catch (error) {
      return again(error);
    }
  }

  #remember(holder: Holder, handle: number): void {
    const key = keyOf(holder);
    this.#forget(key);
    if (this.#holders.size >= HOLDERS_REMEMBERED_MAX) {
      this.#isDoubtful = true;
      return;
    }
    this.#holders.set(key, { holder, handle });
    const keys = this.#byHandle.get(handle);
    if (keys === undefined) this.#byHandle.set(handle, new Set([key]));
    else keys.add(key);
  }

  #forget(key: string): void {
    const known = this.#holders.get(key);
    if (known === undefined) return;
    this.#holders.delete(key);
    const keys = this.#byHandle.get(known.handle);
    keys?.delete(key);
    if (keys?.size === 0) this.#byHandle.delete(known.handle);
  }
}

/** Throws EINVAL for a type that is none. */
function asked({ start, end, type, pid }: lock.FileLock): FileLock {
  const name = TYPES[type];
  if (name === undefined) throw FsError.of("EINVAL");
  return { start, end, type: name, pid };
}

function keyOf({ ino, owner, flock }: Holder): string {
  return `${ino}${flock ? "f" : "p"}${owner}`;
}
