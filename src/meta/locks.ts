import { FsError } from "../domain/errors.ts";
import type { InodeId, MountId } from "../domain/ids.ts";
import type { FileLock } from "../domain/metadata-api.ts";
import type { RowOp } from "../journal/record.ts";
import { changeBy, conflicting, type LockRange } from "./lock-ranges.ts";
import { encodeLock, type LockOwner, lockKey, ownerKey, readLocks } from "./lock-rows.ts";
import { LockWaits } from "./lock-waits.ts";
import type { RowStore } from "./row-store.ts";

/**
 * Locks of one inode: every request looks at all its owners, 8,192 take half a millisecond. Databases with a lock for each of their processes' slots hold some hundreds.
 */
const LOCKS_PER_INODE_MAX = 8192;

/** Locks of an app: about 300 bytes of memory each, 20 MiB. */
const LOCKS_PER_APP_MAX = 65_536;

/** What one owner holds of an inode. */
export type Holder = { readonly owner: LockOwner; readonly ranges: readonly LockRange[] };

/** A lock that is in the way, and whose it is. */
export type Blocker = { readonly owner: LockOwner; readonly range: LockRange };

/** A change of what an owner holds, computed and not made yet. `rows` empty: nothing changes. */
export type LockChange = {
  readonly ino: InodeId;
  readonly owner: LockOwner;
  readonly after: readonly LockRange[];
  readonly rows: readonly RowOp[];
};

type Inode = { readonly holders: Map<string, Holder>; count: number };

/**
 * Which locks are held in an app, and who waits. POSIX and flock(2) locks don't see each other, as on every Linux file system.
 *
 * Invariants
 * L1  What is held here is what the rows of `TABLE.LOCK` say, as of the last record, but for `dropped` ones: they go with, or before, the next record that changes locks.
 * L2  Of one kind no two owners hold overlapping ranges of which one is a write lock; the ranges of one owner are in order, don't overlap, and neighbours differ in type.
 */
export class Locks {
  readonly waits = new LockWaits();
  /** Keys of rows whose locks are held no more. */
  readonly dropped: Buffer[] = [];
  /** Mounts of other machines, whose processes have other numbers. */
  readonly elsewhere = new Set<MountId>();
  /** Mounts that nobody hears of at present: nothing is granted to them, since nobody could give it back. */
  readonly away = new Set<MountId>();
  readonly #inodes = new Map<InodeId, Inode>();
  #count = 0;

  /** Reads what an earlier process left. */
  load(store: RowStore): void {
    for (const { ino, owner, range } of readLocks(store, LOCKS_PER_APP_MAX)) {
      const before = this.holder(ino, owner);
      this.#set(ino, { owner, ranges: [...(before?.ranges ?? []), range] });
    }
  }

  /** Locks held in the app. */
  get count(): number {
    return this.#count;
  }

  holder(ino: InodeId, owner: LockOwner): Holder | undefined {
    return this.#inodes.get(ino)?.holders.get(ownerKey(owner));
  }

  /** The first lock (by its start) of somebody else that is in the way. */
  blocker(ino: InodeId, owner: LockOwner, lock: FileLock): Blocker | undefined {
    let first: Blocker | undefined;
    for (const { owner: holder, range } of this.blockers(ino, owner, lock))
      if (first === undefined || range.start < first.range.start) first = { owner: holder, range };
    return first;
  }

  /** One lock of each other owner that has any in the way: its first. */
  *blockers(ino: InodeId, owner: LockOwner, lock: FileLock): Generator<Blocker> {
    const inode = this.#inodes.get(ino);
    if (inode === undefined) return;
    const own = ownerKey(owner);
    for (const [key, holder] of inode.holders) {
      if (key === own || holder.owner.flock !== owner.flock) continue;
      const range = conflicting(holder.ranges, lock);
      if (range !== undefined) yield { owner: holder.owner, range };
    }
  }

  /** Computes what a lock (or an unlock) that nothing is in the way of comes to. Throws ENOLCK when there would be too many. */
  change(ino: InodeId, owner: LockOwner, lock: FileLock): LockChange {
    const before = this.holder(ino, owner)?.ranges ?? NOTHING;
    const change = changeBy(before, lock);
    if (change === undefined) return { ino, owner, after: before, rows: [] };
    const { from, to, added } = change;
    const grows = added.length - (to - from);
    if (grows > 0) this.#refuseTooMany(ino, grows);
    const rows = rowsOf({ ino, owner }, before.slice(from, to), added);
    return { ino, owner, after: before.toSpliced(from, to - from, ...added), rows };
  }

  /** Makes a change that is recorded. */
  apply({ ino, owner, after }: LockChange): void {
    this.#set(ino, { owner, ranges: after });
  }

  /** Keys of the rows of an inode's locks. */
  keysOf(ino: InodeId): Buffer[] {
    const inode = this.#inodes.get(ino);
    if (inode === undefined) return [];
    return [...inode.holders.values()].flatMap((holder) => keysOfHolder(ino, holder));
  }

  /** The inode is gone, with its rows: so are its locks, and who waits for one is told ESTALE. */
  inodeGone(ino: InodeId): void {
    const inode = this.#inodes.get(ino);
    if (inode !== undefined) {
      this.#count -= inode.count;
      this.#inodes.delete(ino);
    }
    for (const wait of this.waits.of(ino)) this.waits.fail(wait, FsError.of("ESTALE"));
  }

  /** Takes away all locks of the mounts that `isGone` says; their rows are `dropped`. Answers where they were, and how many. */
  drop(isGone: (mountId: MountId) => boolean): { readonly inos: readonly InodeId[]; readonly count: number } {
    const inos: InodeId[] = [];
    const before = this.#count;
    for (const [ino, { holders }] of this.#inodes) {
      const gone = [...holders.values()].filter(({ owner }) => isGone(owner.mountId));
      if (gone.length === 0) continue;
      inos.push(ino);
      for (const holder of gone) {
        this.dropped.push(...keysOfHolder(ino, holder));
        this.#set(ino, { owner: holder.owner, ranges: NOTHING });
      }
    }
    return { inos, count: before - this.#count };
  }

  #set(ino: InodeId, holder: Holder): void {
    const key = ownerKey(holder.owner);
    let inode = this.#inodes.get(ino);
    const before = inode?.holders.get(key)?.ranges.length ?? 0;
    const { length } = holder.ranges;
    if (inode === undefined) {
      if (length === 0) return;
      inode = { holders: new Map(), count: 0 };
      this.#inodes.set(ino, inode);
    }
    if (length === 0) inode.holders.delete(key);
    else inode.holders.set(key, holder);
    inode.count += length - before;
    this.#count += length - before;
    if (inode.holders.size === 0) this.#inodes.delete(ino);
  }

  #refuseTooMany(ino: InodeId, grows: number): void {
    if (this.#count + grows > LOCKS_PER_APP_MAX)
      throw new FsError("ENOLCK", `the app holds ${this.#count} locks: at most ${LOCKS_PER_APP_MAX}`);
    const here = this.#inodes.get(ino)?.count ?? 0;
    if (here + grows > LOCKS_PER_INODE_MAX)
      throw new FsError("ENOLCK", `the file has ${here} locks: at most ${LOCKS_PER_INODE_MAX}`);
  }
}

const NOTHING: readonly LockRange[] = [];

function keysOfHolder(ino: InodeId, { owner, ranges }: Holder): Buffer[] {
  return ranges.map(({ start }) => lockKey(ino, owner, start));
}

/** The rows of some ranges that give way to others; some may stay. */
function rowsOf(
  { ino, owner }: { readonly ino: InodeId; readonly owner: LockOwner },
  before: readonly LockRange[],
  after: readonly LockRange[],
): RowOp[] {
  const rows: RowOp[] = [];
  const starts = new Set(after.map(({ start }) => start));
  for (const { start } of before) if (!starts.has(start)) rows.push({ key: lockKey(ino, owner, start), value: null });
  const kept = new Set(before);
  for (const range of after)
    if (!kept.has(range)) rows.push({ key: lockKey(ino, owner, range.start), value: encodeLock(range) });
  return rows;
}
