import type { InodeId } from "../domain/ids.ts";
import type { FileLock } from "../domain/metadata-api.ts";
import { type LockOwner, ownerKey } from "./lock-rows.ts";
import type { Locks } from "./locks.ts";

/** Waiting requests looked at: a longer chain is taken for none, and its members wait until somebody is interrupted. Linux looks at 10. */
const WAITS_LOOKED_AT_MAX = 256;

/**
 * Whether an owner that now began to wait would wait for itself: somebody in its way waits, directly or through others, for a lock that it holds. As on Linux an owner with
 * one waiting thread counts as waiting, whatever its other threads do.
 */
export function wouldDeadlock(locks: Locks, ino: InodeId, owner: LockOwner, lock: FileLock): boolean {
  const own = ownerKey(owner);
  const seen = new Set<string>();
  const inTheWay = ownersOf(locks, { ino, owner, lock });
  let looked = 0;
  for (let next = inTheWay.pop(); next !== undefined; next = inTheWay.pop()) {
    const key = ownerKey(next);
    if (key === own) return true;
    if (seen.has(key)) continue;
    seen.add(key);
    for (const wait of locks.waits.ofOwner(next)) {
      if (++looked > WAITS_LOOKED_AT_MAX) return false;
      inTheWay.push(...ownersOf(locks, wait));
    }
  }
  return false;
}

function ownersOf(
  locks: Locks,
  { ino, owner, lock }: { readonly ino: InodeId; readonly owner: LockOwner; readonly lock: FileLock },
): LockOwner[] {
  return [...locks.blockers(ino, owner, lock)].map((blocker) => blocker.owner);
}
