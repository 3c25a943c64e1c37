import { ByteReader, ByteWriter } from "../base/bytes.ts";
import type { InodeId, Lsn, MountId } from "../domain/ids.ts";
import { plainKey, prefixEnd, TABLE } from "./keys.ts";
import type { RowStore } from "./row-store.ts";

/** Inode numbers of one page of counts: 4 KiB, and as many bits in 256 bytes. */
const PAGE_INODES = 2048;

/** A count that is not exact any more: it went up this far. */
const COUNT_MAX = 0xffff;

/** Orphans loaded when an app is opened, at most: each is a file that somebody held open when the machine stopped. */
const ORPHANS_LOADED_MAX = 1_000_000;

/**
 * One mount's knowledge: how often its kernel was told of each inode and has not said FORGET since (`told`). Of a mount that went on from a former process
 * nothing is known about inodes from then, which are those below `doubtfulBelow` (numbers only rise), until a FORGET ends the doubt (`heard`).
 */
type Mount = {
  readonly doubtfulBelow: number;
  readonly told: Map<number, Uint16Array>;
  readonly heard: Map<number, Uint8Array>;
};

/**
 * Which mounts' kernels may hold which inodes, so that an unlinked file stays as long as somebody may have it open. The kernel counts how often it was told
 * of an inode and says so in FORGET: a FORGET and an answer to a LOOKUP may cross, and then the inode is held although it was forgotten. FORGET is
 * never re-sent, so the counts of a former process say nothing: there an inode counts as held until all of it is forgotten.
 */
export class Holders {
  readonly #mounts = new Map<MountId, Mount>();
  /** Unlinked inodes and the mounts that may hold them. */
  readonly #orphans = new Map<InodeId, Set<MountId>>();

  /** Reads the orphans that an earlier process left. */
  load(store: RowStore): void {
    const gte = plainKey(TABLE.ORPHAN);
    let from = gte;
    for (let loaded = 0; loaded < ORPHANS_LOADED_MAX; ) {
      const rows = store.range({ gte: from, lt: prefixEnd(gte), limit: 1000 });
      for (const row of rows) {
        const ino = new ByteReader(row.key, 1).u40() as InodeId;
        this.#orphans.set(ino, new Set(decodeOrphan(row.value).mounts));
      }
      const last = rows.at(-1);
      if (last === undefined || rows.length < 1000) return;
      loaded += rows.length;
      from = Buffer.concat([last.key, Buffer.alloc(1)]);
    }
  }

  /** A mount begins (`toldBelow` 0), or goes on under a new process, which does not know of which inodes below `toldBelow` the kernel was told before. */
  attach(mount: MountId, options: { readonly toldBelow: number }): void {
    this.#mounts.set(mount, { doubtfulBelow: options.toldBelow, told: new Map(), heard: new Map() });
  }

  isAttached(mount: MountId): boolean {
    return this.#mounts.has(mount);
  }

  /** The mount has ended: answers the orphans nobody holds any more. */
  detach(mount: MountId): InodeId[] {
    this.#mounts.delete(mount);
    const free: InodeId[] = [];
    for (const [ino, mounts] of this.#orphans) {
      if (mounts.delete(mount) && mounts.size === 0) free.push(ino);
    }
    return free;
  }

  /** Orphans held only by mounts that no longer exist: after a crash of the machine. */
  abandoned(): InodeId[] {
    const free: InodeId[] = [];
    for (const [ino, mounts] of this.#orphans) {
      for (const mount of mounts) if (!this.#mounts.has(mount)) mounts.delete(mount);
      if (mounts.size === 0) free.push(ino);
    }
    return free;
  }

  /** The kernel of `mount` is being told of `ino`, once more. */
  hold(mount: MountId, ino: InodeId): void {
    const entry = this.#mounts.get(mount);
    if (entry === undefined) return;
    const number = Math.floor(ino / PAGE_INODES);
    let page = entry.told.get(number);
    if (page === undefined) {
      page = new Uint16Array(PAGE_INODES);
      entry.told.set(number, page);
    }
    const count = page[ino % PAGE_INODES] ?? 0;
    if (count < COUNT_MAX) page[ino % PAGE_INODES] = count + 1;
  }

  /** The mounts that may hold `ino` now. */
  of(ino: InodeId): MountId[] {
    const holding: MountId[] = [];
    for (const [mount, entry] of this.#mounts) {
      const doubtful = ino < entry.doubtfulBelow && !wasHeard(entry, ino);
      if (doubtful || countOf(entry, ino) > 0) holding.push(mount);
    }
    return holding;
  }

  /** Notes that `ino` has no name any more and is held by `mounts`. */
  orphaned(ino: InodeId, mounts: readonly MountId[]): void {
    this.#orphans.set(ino, new Set(mounts));
  }

  /** The inode has a name again, or is gone. */
  settled(ino: InodeId): void {
    this.#orphans.delete(ino);
  }

  /** Orphans that the mount may hold. */
  *orphansOf(mount: MountId): Generator<InodeId> {
    for (const [ino, mounts] of this.#orphans) if (mounts.has(mount)) yield ino;
  }

  /** Inodes that the kernel of `mount` was told of in this process, and did not forget. */
  *heldBy(mount: MountId): Generator<InodeId> {
    for (const [number, counts] of this.#mounts.get(mount)?.told ?? [])
      for (const [index, count] of counts.entries()) if (count > 0) yield (number * PAGE_INODES + index) as InodeId;
  }

  /** Whether the kernel of `mount` was told of the inode, and did not forget it, as far as is known. */
  isHeldBy(mount: MountId, ino: InodeId): boolean {
    const entry = this.#mounts.get(mount);
    return entry !== undefined && (countOf(entry, ino) > 0 || (ino < entry.doubtfulBelow && !wasHeard(entry, ino)));
  }

  isOrphan(ino: InodeId): boolean {
    return this.#orphans.has(ino);
  }

  /** The kernel of `mount` forgets `lookups` of the times it was told of `ino`. Answers whether that is an orphan that nobody holds any more. */
  release(mount: MountId, ino: InodeId, lookups: number): boolean {
    const entry = this.#mounts.get(mount);
    if (entry !== undefined && !forgetsAll(entry, ino, lookups)) return false;
    const holders = this.#orphans.get(ino);
    if (holders === undefined) return false;
    holders.delete(mount);
    return holders.size === 0;
  }
}

function forgetsAll(mount: Mount, ino: InodeId, lookups: number): boolean {
  const count = countOf(mount, ino);
  // An inexact count: the kernel's is at least as high, and it forgets all at once.
  const left = count === COUNT_MAX && lookups < COUNT_MAX ? COUNT_MAX : Math.max(0, count - lookups);
  const page = mount.told.get(Math.floor(ino / PAGE_INODES));
  if (page !== undefined) page[ino % PAGE_INODES] = left;
  if (left > 0) return false;
  if (ino < mount.doubtfulBelow) hear(mount, ino);
  return true;
}

function countOf(mount: Mount, ino: number): number {
  return mount.told.get(Math.floor(ino / PAGE_INODES))?.[ino % PAGE_INODES] ?? 0;
}

function wasHeard(mount: Mount, ino: number): boolean {
  return (((mount.heard.get(Math.floor(ino / PAGE_INODES))?.[(ino % PAGE_INODES) >> 3] ?? 0) >> (ino & 7)) & 1) === 1;
}

function hear(mount: Mount, ino: number): void {
  const number = Math.floor(ino / PAGE_INODES);
  let page = mount.heard.get(number);
  if (page === undefined) {
    page = new Uint8Array(PAGE_INODES / 8);
    mount.heard.set(number, page);
  }
  const at = (ino % PAGE_INODES) >> 3;
  page[at] = (page[at] ?? 0) | (1 << (ino & 7));
}

export function encodeOrphan(since: Lsn, mounts: readonly MountId[]): Buffer {
  const writer = new ByteWriter(64).u64(since).u8(Math.min(mounts.length, 255));
  for (const mount of mounts.slice(0, 255)) writer.u32(mount);
  return writer.finish();
}

export function decodeOrphan(value: Buffer): { readonly since: Lsn; readonly mounts: readonly MountId[] } {
  const reader = new ByteReader(value);
  const since = reader.u64() as Lsn;
  const count = reader.u8();
  const mounts: MountId[] = [];
  for (let index = 0; index < count; index++) mounts.push(reader.u32() as MountId);
  return { since, mounts };
}
