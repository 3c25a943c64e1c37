import { FsError } from "../domain/errors.ts";
import type { InodeId, MountId } from "../domain/ids.ts";
import type { FileLock, RequestContext } from "../domain/metadata-api.ts";
import { type LockOwner, ownerKey } from "./lock-rows.ts";

/** Requests of an app that wait for locks, as many as a mount's kernel may have waiting at once. */
const WAITS_MAX = 16_384;

/** A request that waits for a lock. */
export type LockWait = {
  readonly ino: InodeId;
  readonly owner: LockOwner;
  readonly lock: FileLock;
  readonly context: RequestContext;
  /** Ends the wait with success or an error; only once, by `LockWaits`. */
  readonly end: (error: Error | undefined) => void;
};

/** Requests that wait for locks: in memory only, since whoever waits asks again when the service comes back. Of each inode the first come are tried first. */
export class LockWaits {
  readonly #inodes = new Map<InodeId, Set<LockWait>>();
  readonly #owners = new Map<string, Set<LockWait>>();
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** Waits, until granted, failed or interrupted by the context's signal (EINTR). Throws ENOLCK when too many wait, EINTR when it was interrupted already. */
  add(wanted: Omit<LockWait, "end">): Promise<undefined> {
    if (this.#count >= WAITS_MAX) throw new FsError("ENOLCK", `${this.#count} requests wait for locks: no more can`);
    const { signal } = wanted.context;
    if (signal?.aborted === true) throw FsError.of("EINTR");
    return new Promise((resolve, reject) => {
      const interrupt = (): void => this.fail(wait, FsError.of("EINTR"));
      const wait: LockWait = {
        ...wanted,
        end: (error) => {
          signal?.removeEventListener("abort", interrupt);
          if (error === undefined) resolve(undefined);
          else reject(error);
        },
      };
      signal?.addEventListener("abort", interrupt, { once: true });
      addTo(this.#inodes, wait.ino, wait);
      addTo(this.#owners, ownerKey(wait.owner), wait);
      this.#count++;
    });
  }

  /** Who waits for locks of the inode, in the order they came: a copy. */
  of(ino: InodeId): LockWait[] {
    return [...(this.#inodes.get(ino) ?? [])];
  }

  /** What an owner waits for: several when it has several threads. */
  ofOwner(owner: LockOwner): Iterable<LockWait> {
    return this.#owners.get(ownerKey(owner)) ?? NONE;
  }

  /** Inodes with locks that a mount waits for. */
  inosOf(mountId: MountId): InodeId[] {
    const waited = [...this.#inodes].filter(([, waits]) => [...waits].some(({ owner }) => owner.mountId === mountId));
    return waited.map(([ino]) => ino);
  }

  /** The wait is over: the lock is taken. Nothing when it has ended already. */
  grant(wait: LockWait): void {
    if (this.#remove(wait)) wait.end(undefined);
  }

  /** The wait is over without the lock. Nothing when it has ended already. */
  fail(wait: LockWait, error: Error): void {
    if (this.#remove(wait)) wait.end(error);
  }

  /** Ends the waits of a mount; without one, all. */
  failAll(error: Error, mountId?: MountId): void {
    for (const waits of [...this.#inodes.values()])
      for (const wait of [...waits])
        if (mountId === undefined || wait.owner.mountId === mountId) this.fail(wait, error);
  }

  #remove(wait: LockWait): boolean {
    if (!removeFrom(this.#inodes, wait.ino, wait)) return false;
    removeFrom(this.#owners, ownerKey(wait.owner), wait);
    this.#count--;
    return true;
  }
}

const NONE: readonly LockWait[] = [];

function addTo<K>(map: Map<K, Set<LockWait>>, key: K, wait: LockWait): void {
  const waits = map.get(key);
  if (waits === undefined) map.set(key, new Set([wait]));
  else waits.add(wait);
}

function removeFrom<K>(map: Map<K, Set<LockWait>>, key: K, wait: LockWait): boolean {
  const waits = map.get(key);
  if (waits?.delete(wait) !== true) return false;
  if (waits.size === 0) map.delete(key);
  return true;
}
