import { FsError } from "../../domain/errors.ts";
import type { InodeId, MountId } from "../../domain/ids.ts";
import type { FileLock, ReadRequest, RequestContext, WriteRequest } from "../../domain/metadata-api.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import type { EngineCore } from "../core.ts";
import { inodeDetail } from "../detail.ts";
import { wouldDeadlock } from "../lock-deadlock.ts";
import { LOCK_END_MAX } from "../lock-ranges.ts";
import type { LockOwner } from "../lock-rows.ts";
import type { LockChange } from "../locks.ts";

/** Locks that one record drops when a mount goes: 30 KiB of keys. */
const DROPPED_PER_RECORD = 1000;

/** The inode of a record that is about several. */
const SEVERAL = 0;

export function getlk(
  core: EngineCore,
  request: ReadRequest & { op: "getlk" },
  context: RequestContext,
): FileLock | undefined {
  core.inode(request.ino);
  const { locks } = core;
  const { mountId } = context.actor;
  const found = locks.blocker(request.ino, ownerOf(request, context), checked(request));
  if (found === undefined) return undefined;
  const holder = found.owner.mountId;
  const isNear = holder === mountId || !(locks.elsewhere.has(holder) || locks.elsewhere.has(mountId));
  // 0 is what NFSv4 clients say of the lock of another machine, too.
  return isNear ? found.range : { ...found.range, pid: 0 };
}

/**
 * Takes, changes or gives back a lock. One that is held already is granted again without a record, so that a request sent again after a crash never waits for itself. Only when it has to wait
 * does it answer a promise.
 */
export function setlk(
  core: EngineCore,
  request: WriteRequest & { op: "setlk" },
  context: RequestContext,
): undefined | Promise<undefined> {
  const { ino } = core.inode(request.ino);
  const owner = ownerOf(request, context);
  const lock = checked(request);
  const { locks } = core;
  if (lock.type === "unlock" || locks.blocker(ino, owner, lock) === undefined) {
    commit(core, locks.change(ino, owner, lock), context);
    settle(core, ino);
    return undefined;
  }
  if (owner.flock) letGo(core, ino, owner, context);
  if (!request.wait) throw FsError.of("EAGAIN");
  if (!owner.flock && wouldDeadlock(locks, ino, owner, lock)) throw FsError.of("EDEADLK");
  return locks.waits.add({ ino, owner, lock, context });
}

/** Drops all locks of the mounts that `isGone` says, and grants what others wait for. Answers how many. On a full disk it is recorded with the next lock that can be. */
export function dropLocks(core: EngineCore, isGone: (mountId: MountId) => boolean, context: RequestContext): number {
  const { inos, count } = core.locks.drop(isGone);
  try {
    recordDropped(core, context);
  } catch (error) {
    if (!(error instanceof FsError)) throw error;
  }
  for (const ino of inos) settle(core, ino);
  return count;
}

/** A mount is heard of again: what of it waited goes on waiting, or is granted now. */
export function mountBack(core: EngineCore, mount: MountId): void {
  const { locks } = core;
  if (!locks.away.delete(mount)) return;
  for (const ino of locks.waits.inosOf(mount)) settle(core, ino);
}

/** Throws FsError with the rest left for later. */
function recordDropped(core: EngineCore, context: RequestContext): void {
  const { dropped } = core.locks;
  while (dropped.length > 0) {
    const tx = core.begin({ ...context, unique: 0 });
    const keys = dropped.slice(0, DROPPED_PER_RECORD);
    for (const key of keys) tx.row(key, null);
    tx.commit(RECORD_OP.LOCK, inodeDetail(SEVERAL), { useReserve: true });
    dropped.splice(0, keys.length);
  }
}

function ownerOf(
  { owner, flock }: { readonly owner: bigint; readonly flock: boolean },
  { actor }: RequestContext,
): LockOwner {
  return { mountId: actor.mountId, owner, flock };
}

/** Throws EINVAL for a range or an owner that can't be. A flock(2) lock is always of the whole file. */
function checked({ lock, flock, owner }: { lock: FileLock; flock: boolean; owner: bigint }): FileLock {
  if (owner < 0n || owner >= 2n ** 64n) throw FsError.of("EINVAL");
  if (flock) return { ...lock, start: 0n, end: LOCK_END_MAX };
  if (lock.start < 0n || lock.end < lock.start || lock.end > LOCK_END_MAX) throw FsError.of("EINVAL");
  return lock;
}

/** A lock's record may use the space kept for a full disk: without locks nobody could take away what fills it. */
function commit(core: EngineCore, change: LockChange, context: RequestContext): void {
  if (change.rows.length === 0) return;
  // Others may hold what was dropped as soon as this is recorded.
  recordDropped(core, context);
  const tx = core.begin(context);
  for (const { key, value } of change.rows) tx.row(key, value);
  tx.commit(RECORD_OP.LOCK, inodeDetail(change.ino), { useReserve: true });
  core.locks.apply(change);
}

/**
 * flock(2) converts a lock by giving it back and asking anew: if the new one can't be had, the old one is lost. Recorded as nobody's request: sent again after a crash,
 * the request must not be taken for granted.
 */
function letGo(core: EngineCore, ino: InodeId, owner: LockOwner, context: RequestContext): void {
  if (core.locks.holder(ino, owner) === undefined) return;
  commit(core, core.locks.change(ino, owner, { start: 0n, end: LOCK_END_MAX, type: "unlock", pid: 0 }), {
    ...context,
    unique: 0,
  });
  settle(core, ino);
}

/** Grants what nothing is in the way of any more, first come first. */
function settle(core: EngineCore, ino: InodeId): void {
  // A grant may take something away, too: one thread's write lock, when another of the process gets the read lock that it waited for. Each pass ends a wait, or is the last.
  while (grantAll(core, ino));
}

/** One pass over who waits. Answers whether another may find more. Each grant is a record of the request that waited. */
function grantAll(core: EngineCore, ino: InodeId): boolean {
  const { locks } = core;
  let again = false;
  for (const wait of locks.waits.of(ino)) {
    if (locks.away.has(wait.owner.mountId) || locks.blocker(ino, wait.owner, wait.lock) !== undefined) continue;
    const held = locks.holder(ino, wait.owner) !== undefined;
    try {
      commit(core, locks.change(ino, wait.owner, wait.lock), wait.context);
    } catch (error) {
      locks.waits.fail(wait, error instanceof Error ? error : new Error(String(error)));
      continue;
    }
    locks.waits.grant(wait);
    again ||= held;
  }
  return again;
}
