import { ByteReader, ByteWriter } from "../base/bytes.ts";
import type { InodeId, Lsn, MountId } from "../domain/ids.ts";
import { plainKey, prefixEnd, TABLE } from "./keys.ts";
import type { RowStore } from "./row-store.ts";

/** Inode numbers of one page of a mount's bitmap: 1 KiB of bits. */
const PAGE_INODES = 8192;

/** Orphans loaded when an app is opened, at most: each is a file that somebody held open when the machine stopped. */
const ORPHANS_LOADED_MAX = 1_000_000;

/** A set of inode numbers: pages of bits. */
type Bits = Map<number, Uint8Array>;

/**
 * One mount's knowledge: which inodes its kernel holds. A mount that went on from a former process may hold any inode from then, that is below
 * `doubtfulBelow` (numbers only rise), until something is heard of it: `heard`. Of all others what this process told is the truth.
 */
type Mount = { readonly doubtfulBelow: number; readonly held: Bits; readonly heard: Bits };

/**
 * Which mounts' kernels may hold which inodes, so that an unlinked file stays as long as somebody may have it open. FORGET is never
 * re-sent, so nothing counts look-ups: the kernel forgets an inode whole, once.
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
    this.#mounts.set(mount, { doubtfulBelow: options.toldBelow, held: new Map(), heard: new Map() });
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

  /** The kernel of `mount` is being told of `ino`. */
  hold(mount: MountId, ino: InodeId): void {
    const entry = this.#mounts.get(mount);
    if (entry === undefined) return;
    setBit(entry.held, ino);
    if (ino < entry.doubtfulBelow) setBit(entry.heard, ino);
  }

  /** The mounts that may hold `ino` now. */
  of(ino: InodeId): MountId[] {
    const holding: MountId[] = [];
    for (const [mount, entry] of this.#mounts) {
      const doubtful = ino < entry.doubtfulBelow && !hasBit(entry.heard, ino);
      if (doubtful || hasBit(entry.held, ino)) holding.push(mount);
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

  isOrphan(ino: InodeId): boolean {
    return this.#orphans.has(ino);
  }

  /** The kernel of `mount` let go of `ino`. Answers whether it is an orphan that nobody holds any more. */
  release(mount: MountId, ino: InodeId): boolean {
    const entry = this.#mounts.get(mount);
    if (entry !== undefined) {
      clearBit(entry.held, ino);
      if (ino < entry.doubtfulBelow) setBit(entry.heard, ino);
    }
    const holders = this.#orphans.get(ino);
    if (holders === undefined) return false;
    holders.delete(mount);
    return holders.size === 0;
  }
}

function hasBit(bits: Bits, ino: number): boolean {
  return (((bits.get(Math.floor(ino / PAGE_INODES))?.[(ino % PAGE_INODES) >> 3] ?? 0) >> (ino & 7)) & 1) === 1;
}

function setBit(bits: Bits, ino: number): void {
  const number = Math.floor(ino / PAGE_INODES);
  let page = bits.get(number);
  if (page === undefined) {
    page = new Uint8Array(PAGE_INODES / 8);
    bits.set(number, page);
  }
  const at = (ino % PAGE_INODES) >> 3;
  page[at] = (page[at] ?? 0) | (1 << (ino & 7));
}

function clearBit(bits: Bits, ino: number): void {
  const page = bits.get(Math.floor(ino / PAGE_INODES));
  const at = (ino % PAGE_INODES) >> 3;
  if (page !== undefined) page[at] = (page[at] ?? 0) & ~(1 << (ino & 7));
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
