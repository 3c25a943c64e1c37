import { present } from "../base/assert.ts";
import { ByteReader } from "../base/bytes.ts";
import { type Clock, compareTimestamps, type Timestamp } from "../base/clock.ts";
import { FsError } from "../domain/errors.ts";
import { type AppId, type InodeId, LIVE, type Lsn, type MountId, NAME_BYTES_MAX } from "../domain/ids.ts";
import { type Dentry, isDirectory } from "../domain/inode.ts";
import type { Invalidation, RequestContext } from "../domain/metadata-api.ts";
import type { JournalArchive } from "../journal/archive.ts";
import type { Journal } from "../journal/journal.ts";
import type { JournalRecord, RowOp } from "../journal/record.ts";
import { ContentMap } from "./content.ts";
import { addToCounters, type Counters } from "./counters.ts";
import { DeadLists } from "./dead-names.ts";
import { GenerationCache } from "./generation-cache.ts";
import { Holders } from "./holders.ts";
import * as keys from "./keys.ts";
import { Locks } from "./locks.ts";
import { nameHash } from "./name-hash.ts";
import { RecentResults } from "./recent-results.ts";
import type { RowStore } from "./row-store.ts";
import { decodeDentry, decodeInode, decodeSince, type InodeRow } from "./rows.ts";
import { Moments } from "./space/moments.ts";
import { SegmentData } from "./space/segment-data.ts";
import { Transaction } from "./transaction.ts";

/** Decoded inodes and names kept in memory, per app, in each of two generations: about 0.7 KB and 0.2 KB each, so 70 MiB when all are full. */
const INODES_CACHED = 40_000;
const DENTRIES_CACHED = 60_000;

/** Inode numbers reserved by one counter row: after a crash the rest of a reservation is skipped. */
export const INODES_RESERVED = 1024;

/** Wall time is indexed when at least this much passed since the last index row: a time resolves exactly by reading the few records between. */
export const TIME_INDEX_STEP_NSEC = 10_000_000;

export type CoreOptions = {
  readonly appId: AppId;
  readonly store: RowStore;
  readonly clock: Clock;
  /** Seed of the app's name hashes. */
  readonly seed: number;
  readonly counters: Counters;
  /** Where the journal's older part is, if it is not in its folder. */
  readonly archive?: JournalArchive;
};

/** Hears, inside the commit that did it, of what may not be any more where it was. It reads and takes note, nothing else. */
export type PlaceListener = {
  /** A directory has another parent: all that is below it is elsewhere. */
  directoryMoved(): void;
  /** The inode lost a name. */
  nameEnded(ino: InodeId): void;
  /** It was the last one (or there never was any), and these mounts may hold the inode. */
  orphaned(ino: InodeId, mounts: readonly MountId[]): void;
};

/** Records without a gap, both ends included. */
export type RecordRange = { readonly from: Lsn; readonly to: Lsn };

/**
 * The state of one app's engine and how it is read. Operations (`ops/`) are functions over it.
 *
 * Invariants
 * M1  A cache holds what the store would answer, or nothing.
 * M2  Between reading and commit nothing yields: a transaction sees one state and is the next record.
 * M3  A failed append leaves everything as it was: caches touched by the transaction are forgotten.
 */
export class EngineCore {
  readonly store: RowStore;
  readonly clock: Clock;
  readonly content: ContentMap;
  /** Which moments can be read. */
  readonly moments: Moments;
  /** The bytes that extents name: read them here, not from the journal, since cleaning may have moved them. */
  readonly data: SegmentData;
  readonly holders: Holders;
  /** Locks kept here, not by kernels. */
  readonly locks = new Locks();
  readonly recent = new RecentResults();
  readonly counters: Counters;
  readonly inodes = new GenerationCache<number, InodeRow>(INODES_CACHED);
  /** By `dentryCacheKey`; null: known to be absent. */
  readonly dentries = new GenerationCache<string, Dentry | null>(DENTRIES_CACHED);
  /** For listings at past moments. */
  readonly deadLists = new DeadLists();
  readonly archive: JournalArchive | undefined;
  readonly #seed: number;
  readonly #listeners = new Set<(invalidation: Invalidation) => void>();
  readonly #committers = new Set<(lsn: Lsn) => void>();
  readonly #placeListeners = new Set<PlaceListener>();
  #journal: Journal | undefined;

  nextInode = 0;
  inodesReservedTo = 0;
  era = 0;
  lastTime: Timestamp | undefined;
  lastIndexedTime: Timestamp | undefined;

  constructor(options: CoreOptions) {
    this.store = options.store;
    this.clock = options.clock;
    this.#seed = options.seed;
    this.counters = options.counters;
    this.content = new ContentMap(options.store);
    this.moments = new Moments(options.store, options.appId, options.archive?.kept);
    this.archive = options.archive;
    this.data = new SegmentData(options.store, options.archive);
    this.holders = new Holders();
  }

  get journal(): Journal {
    return present(this.#journal, "journal");
  }

  get lastLsn(): Lsn {
    return this.journal.lastLsn;
  }

  /**
   * The records `from` to `to`, in order, without their data, wherever they are kept: read them here, not from the journal, unless they are known to be in its folder. Throws as
   * Journal.readRecords and JournalArchive.readRecords.
   */
  async *records(from: Lsn, to: Lsn): AsyncGenerator<JournalRecord> {
    const { archive } = this;
    let next = from;
    if (archive !== undefined && from <= archive.lastLsn) {
      yield* archive.readRecords(from, Math.min(to, archive.lastLsn) as Lsn);
      next = (archive.lastLsn + 1) as Lsn;
    }
    if (next <= to) yield* this.journal.readRecords(next, to);
  }

  /** Which records are kept, oldest first. */
  recordRanges(): RecordRange[] {
    const { archive } = this;
    const ranges = this.journal.segments().map(({ segment, lastLsn }) => ({ from: segment as Lsn, to: lastLsn }));
    if (archive !== undefined) ranges.unshift({ from: archive.firstLsn, to: archive.lastLsn });
    return ranges.filter(({ from, to }) => from <= to);
  }

  /** Takes a record that was in the journal but not in the KV when the folder was opened. */
  recover(record: JournalRecord): void {
    this.store.add(record.lsn, record.rows);
    addToCounters(this.counters, record.rows);
    this.recent.remember(record.actor.mountId, record.unique, record.op, record.detail);
    this.lastTime = record.time;
  }

  /** Called once the journal is open: from here on records can be made. */
  start(journal: Journal): void {
    this.#journal = journal;
    const next = this.store.get(keys.plainKey(keys.TABLE.COUNTER, NEXT_INODE));
    // Number 1 is never given out: it is the kernel's number for the root of every mount, whichever inode that is.
    this.nextInode = next === undefined ? 2 : new ByteReader(next).u40();
    this.inodesReservedTo = this.nextInode;
    this.#loadTime(journal.lastTime ?? this.archive?.lastTime);
    this.moments.load();
    this.data.load(journal);
    this.holders.load(this.store);
    this.locks.load(this.store);
  }

  /** Opens a transaction: the next record. */
  begin(context: RequestContext): Transaction {
    return new Transaction(this, context, this.clock.now());
  }

  // --- reading -------------------------------------------------------------------------------------------------------

  /** The live inode. Throws ESTALE if there is none: the caller holds a number whose inode is gone. */
  inode(ino: number): InodeRow {
    const cached = this.inodes.get(ino);
    if (cached !== undefined) return cached;
    const value = this.store.get(keys.inodeKey(ino));
    if (value === undefined) throw FsError.of("ESTALE");
    const inode = decodeInode(ino as InodeId, value);
    this.inodes.set(ino, inode);
    return inode;
  }

  /** The inode as of `at`. Throws ESTALE if there was none. */
  inodeAt(ino: number, at: Lsn): InodeRow {
    if (at === LIVE) return this.inode(ino);
    const found = this.findInodeAt(ino, at);
    if (found === undefined) throw FsError.of("ESTALE");
    return found;
  }

  findInodeAt(ino: number, at: Lsn): InodeRow | undefined {
    const now = this.findInodeNow(ino);
    if (now !== undefined && now.since <= at) return now;
    if (at === LIVE) return undefined;
    const row = this.store.range({
      gte: keys.inodePastKey(ino, at + 1),
      lt: keys.prefixEnd(keys.inoPrefix(keys.TABLE.INODE_PAST, ino)),
      limit: 1,
    })[0];
    if (row === undefined) return undefined;
    const past = decodeInode(ino as InodeId, row.value);
    return past.since <= at ? past : undefined;
  }

  findInodeNow(ino: number): InodeRow | undefined {
    const cached = this.inodes.get(ino);
    if (cached !== undefined) return cached;
    const value = this.store.get(keys.inodeKey(ino));
    if (value === undefined) return undefined;
    const inode = decodeInode(ino as InodeId, value);
    this.inodes.set(ino, inode);
    return inode;
  }

  /** The directory as of `at`. Throws ENOTDIR. */
  directory(ino: number, at: Lsn = LIVE): InodeRow {
    const inode = this.inodeAt(ino, at);
    if (!isDirectory(inode.mode)) throw FsError.of("ENOTDIR");
    return inode;
  }

  hash(name: Uint8Array): keys.NameHash {
    return nameHash(name, this.#seed);
  }

  /** The dentry as of `at`, or undefined. The parent is taken for a directory. */
  dentry(parent: number, name: Buffer, at: Lsn = LIVE): Dentry | undefined {
    const now = this.#dentryNow(parent, name);
    if (now !== undefined && now.since <= at) return now;
    if (at === LIVE) return undefined;
    const hash = this.hash(name);
    const gte = keys.dentryPastKey(parent, hash, name, at + 1);
    const lt = keys.prefixEnd(gte.subarray(0, gte.length - 8) as Buffer);
    const row = this.store.range({ gte, lt, limit: 1 })[0];
    if (row === undefined) return undefined;
    const past = decodeDentry(row.value);
    return past.since <= at ? past : undefined;
  }

  #dentryNow(parent: number, name: Buffer): Dentry | undefined {
    const cacheKey = dentryCacheKey(parent, name);
    const cached = this.dentries.get(cacheKey);
    if (cached !== undefined) return cached ?? undefined;
    const value = this.store.get(keys.dentryKey(parent, this.hash(name), name));
    const dentry = value === undefined ? null : decodeDentry(value);
    this.dentries.set(cacheKey, dentry);
    return dentry ?? undefined;
  }

  /** The value of an xattr as of `at`, or undefined. `inode` must be the row as of `at`. */
  xattr(inode: InodeRow, name: Buffer, at: Lsn = LIVE): Buffer | undefined {
    if (inode.xattrCount === 0) return undefined;
    const now = this.store.get(keys.xattrKey(inode.ino, name));
    if (now !== undefined) {
      const row = decodeSince(now);
      if (row.since <= at) return row.bytes;
    }
    if (at === LIVE) return undefined;
    const gte = keys.xattrPastKey(inode.ino, name, at + 1);
    const lt = keys.prefixEnd(gte.subarray(0, gte.length - 8) as Buffer);
    const past = this.store.range({ gte, lt, limit: 1 })[0];
    if (past === undefined) return undefined;
    const row = decodeSince(past.value);
    return row.since <= at ? row.bytes : undefined;
  }

  // --- telling others ------------------------------------------------------------------------------------------------

  subscribe(listener: (invalidation: Invalidation) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  get hasListeners(): boolean {
    return this.#listeners.size > 0;
  }

  tell(invalidation: Invalidation): void {
    for (const listener of this.#listeners) listener(invalidation);
  }

  // --- time ----------------------------------------------------------------------------------------------------------

  #loadTime(lastTime: Timestamp | undefined): void {
    const gte = keys.plainKey(keys.TABLE.TIME);
    const row = this.store.range({ gte, lt: keys.prefixEnd(gte), reverse: true, limit: 1 })[0];
    if (row !== undefined) {
      const { era, time } = decodeTimeKey(row.key);
      this.era = era;
      this.lastIndexedTime = time;
    }
    this.lastTime = lastTime ?? this.lastIndexedTime;
  }

  /** Whether the record made at `time` gets a row in the wall time index, and in which era. */
  timeIndexRow(time: Timestamp): { readonly era: number } | undefined {
    if (this.lastTime !== undefined && compareTimestamps(time, this.lastTime) < 0) return { era: this.era + 1 };
    const last = this.lastIndexedTime;
    if (last === undefined) return { era: this.era };
    const passed = (time.sec - last.sec) * 1e9 + (time.nsec - last.nsec);
    return passed >= TIME_INDEX_STEP_NSEC ? { era: this.era } : undefined;
  }

  /** Adds the rows of a record that was just appended. */
  committed(lsn: Lsn, rows: readonly RowOp[]): void {
    this.store.add(lsn, rows);
    this.deadLists.committed(rows);
    addToCounters(this.counters, rows);
    for (const listener of this.#committers) listener(lsn);
  }

  /** Calls `listener` with each new record's LSN, inside its commit: it must only take note. Answers how to stop. */
  onCommit(listener: (lsn: Lsn) => void): () => void {
    this.#committers.add(listener);
    return () => this.#committers.delete(listener);
  }

  /** Tells `listener` of what moves from now on. Answers how to stop. */
  watchPlaces(listener: PlaceListener): () => void {
    this.#placeListeners.add(listener);
    return () => this.#placeListeners.delete(listener);
  }

  /** Whom to tell of what moves; usually nobody. */
  get placeListeners(): ReadonlySet<PlaceListener> {
    return this.#placeListeners;
  }

  /** M3. */
  appendFailed(): void {
    this.content.forget();
    this.inodes.clear();
    this.dentries.clear();
  }
}

export const NEXT_INODE = Buffer.from("next-inode");

export function dentryCacheKey(parent: number, name: Buffer): string {
  return `${parent}/${name.toString("latin1")}`;
}

export function decodeTimeKey(key: Buffer): { era: number; time: Timestamp } {
  const era = key.readUInt32BE(1);
  const sec = (key.readUInt32BE(5) - 0x8000_0000) * 2 ** 32 + key.readUInt32BE(9);
  return { era, time: { sec, nsec: key.readUInt32BE(13) } };
}

/** Checks a name that is to be looked up or made. Throws ENAMETOOLONG, EINVAL ("/", NUL, empty) or EEXIST-like refusals of "." and "..". */
export function checkName(name: Buffer): void {
  if (name.length > NAME_BYTES_MAX) throw FsError.of("ENAMETOOLONG");
  if (name.length === 0) throw FsError.of("ENOENT");
  if (name.includes(0x2f) || name.includes(0)) throw FsError.of("EINVAL");
  if (isDots(name)) throw FsError.of("EINVAL");
}

function isDots(name: Buffer): boolean {
  return name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
}
