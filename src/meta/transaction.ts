import { assert } from "../base/assert.ts";
import { ByteWriter } from "../base/bytes.ts";
import type { Timestamp } from "../base/clock.ts";
import { FsError } from "../domain/errors.ts";
import { type ContentId, INODE_ID_MAX, type InodeId, type Lsn } from "../domain/ids.ts";
import type { Dentry } from "../domain/inode.ts";
import type { Invalidation, RequestContext } from "../domain/metadata-api.ts";
import type { RecordOp } from "../domain/record-op.ts";
import type { RowOp } from "../journal/record.ts";
import { dentryCacheKey, type EngineCore, INODES_RESERVED, NEXT_INODE } from "./core.ts";
import { forkOf, rowsOfFork } from "./fork.ts";
import { encodeOrphan } from "./holders.ts";
import * as keys from "./keys.ts";
import {
  decodeSince,
  type Extent,
  encodeCut,
  encodeDentry,
  encodeExtents,
  encodeInode,
  encodeLsn,
  encodeSince,
  type InodeRow,
} from "./rows.ts";

const NO_BYTES = Buffer.alloc(0);

/** Estimated bytes of a record's body beside its data, for deciding whether it still fits the segment. */
const BODY_BYTES_ESTIMATE = 2048;

type Change = { readonly before: InodeRow | undefined; after: InodeRow | null };

/**
 * One change in the making: collects the rows of the next record, then appends it and makes it visible. Each now row it supersedes gets its
 * past row here, so that the journal alone says everything.
 *
 * Nothing is visible to others before `commit`, except the extents that `addExtents` and `cut` put into cached chunks (M3).
 */
export class Transaction {
  readonly lsn: Lsn;
  readonly time: Timestamp;
  readonly context: RequestContext;
  readonly #core: EngineCore;
  readonly #rows: RowOp[] = [];
  readonly #inodes = new Map<number, Change>();
  readonly #dentries = new Map<string, Dentry | null>();
  readonly #xattrs = new Map<string, Buffer | null>();
  readonly #invalidations: Invalidation[] = [];
  readonly #orphaned: { ino: InodeId; mounts: Parameters<EngineCore["holders"]["orphaned"]>[1] }[] = [];
  readonly #settled: InodeId[] = [];
  /** What lost a name, if somebody wants to know. */
  readonly #nameEnded: InodeId[] = [];
  #nextInode: number;
  #place: { lsn: Lsn; segment: number; dataStart: number } | undefined;

  constructor(core: EngineCore, context: RequestContext, time: Timestamp) {
    this.#core = core;
    this.context = context;
    this.time = time;
    this.lsn = (core.lastLsn + 1) as Lsn;
    this.#nextInode = core.nextInode;
  }

  // --- inodes --------------------------------------------------------------------------------------------------------

  /** The inode as this transaction has it. Throws ESTALE. */
  inode(ino: number): InodeRow {
    const change = this.#inodes.get(ino);
    if (change === undefined) return this.#core.inode(ino);
    if (change.after === null) throw FsError.of("ESTALE");
    return change.after;
  }

  /** A number for a new inode. Throws ENOSPC when 2^40 have been given out. */
  allocateInode(): InodeId {
    const ino = this.#nextInode++;
    if (ino > INODE_ID_MAX) throw new FsError("ENOSPC", "all 2^40 inode numbers of this app are used");
    return ino as InodeId;
  }

  /** Puts a new state of an inode, or a new inode. `since` becomes this record's LSN. */
  put(inode: InodeRow): InodeRow {
    const after = { ...inode, since: this.lsn };
    const change = this.#inodes.get(inode.ino);
    if (change !== undefined) change.after = after;
    else this.#inodes.set(inode.ino, { before: inode.since === 0 ? undefined : this.#core.inode(inode.ino), after });
    return after;
  }

  /** Ends an inode: only its past is left. Its locks end with it. */
  remove(ino: InodeId): void {
    for (const key of this.#core.locks.keysOf(ino)) this.#row(key, null);
    const change = this.#inodes.get(ino);
    if (change !== undefined) change.after = null;
    else this.#inodes.set(ino, { before: this.#core.inode(ino), after: null });
  }

  // --- names ---------------------------------------------------------------------------------------------------------

  addDentry(parent: InodeId, name: Buffer, ino: InodeId, type: number): void {
    const dentry = { ino, type, since: this.lsn };
    this.#row(keys.dentryKey(parent, this.#core.hash(name), name), encodeDentry(dentry));
    this.#row(keys.parentKey(ino, parent, name), encodeSince(this.lsn));
    this.#dentries.set(dentryCacheKey(parent, name), dentry);
    if (this.#core.hasListeners) this.#tellEntry(parent, name, 0);
  }

  /** Ends a name that is there now. */
  removeDentry(parent: InodeId, name: Buffer, dentry: Dentry): void {
    const hash = this.#core.hash(name);
    const parentKey = keys.parentKey(dentry.ino, parent, name);
    this.#row(keys.dentryKey(parent, hash, name), null);
    this.#row(parentKey, null);
    const value = encodeDentry(dentry);
    this.#row(keys.dentryPastKey(parent, hash, name, this.lsn), value);
    if (dentry.since < this.lsn) this.#rowsByFork(parent, { hash, name }, dentry, value);
    this.#row(keys.parentPastKey(dentry.ino, this.lsn, parent, name), encodeSince(dentry.since));
    this.#dentries.set(dentryCacheKey(parent, name), null);
    if (this.#core.placeListeners.size > 0) this.#nameEnded.push(dentry.ino);
    if (this.#core.hasListeners) this.#tellEntry(parent, name, dentry.ino);
  }

  /** The rows that find a dead name by a moment it held: see fork.ts. `value` is that of its row by name. */
  #rowsByFork(
    parent: InodeId,
    { hash, name }: { readonly hash: keys.NameHash; readonly name: Buffer },
    dentry: Dentry,
    value: Buffer,
  ): void {
    const { since } = dentry;
    const fork = forkOf(since, this.lsn);
    const rows = rowsOfFork(fork, this.lsn);
    const { DENTRY_ENDED, DENTRY_BEGAN } = keys.TABLE;
    if (rows.byEnd) this.#row(keys.dentryForkKey(DENTRY_ENDED, parent, { fork, lsn: this.lsn }, hash, name), value);
    if (!rows.byBeginning) return;
    // Key and value together always tell the span: the beginning is in the key, so the end is in the value.
    const ended = encodeDentry({ ...dentry, since: this.lsn });
    this.#row(keys.dentryForkKey(DENTRY_BEGAN, parent, { fork, lsn: since }, hash, name), ended);
  }

  // --- xattrs --------------------------------------------------------------------------------------------------------

  /** Puts an xattr and answers the change of the inode's count (0 or 1). */
  putXattr(ino: InodeId, name: Buffer, value: Uint8Array): 0 | 1 {
    const key = keys.xattrKey(ino, name);
    const before = this.#xattrBefore(key);
    if (before !== undefined) this.#pastXattr(ino, name, before);
    this.#putXattrRow(key, encodeSince(this.lsn, value));
    return before === undefined ? 1 : 0;
  }

  /** Removes an xattr if it is there, and answers the change of the inode's count (0 or -1). */
  removeXattr(ino: InodeId, name: Buffer): 0 | -1 {
    const key = keys.xattrKey(ino, name);
    const before = this.#xattrBefore(key);
    if (before === undefined) return 0;
    this.#pastXattr(ino, name, before);
    this.#putXattrRow(key, null);
    return -1;
  }

  /** Ends all xattrs of an inode that goes. */
  removeXattrs(inode: InodeRow): void {
    if (inode.xattrCount === 0) return;
    const prefix = keys.inoPrefix(keys.TABLE.XATTR, inode.ino);
    for (const row of this.#core.store.range({
      gte: prefix,
      lt: keys.prefixEnd(prefix),
      limit: inode.xattrCount + 1,
    })) {
      const name = row.key.subarray(prefix.length) as Buffer;
      this.#pastXattr(inode.ino, name, row.value);
      this.#row(row.key, null);
    }
  }

  /** The row as this transaction has it: one record may touch an attribute twice (chown and losing privileges). */
  #xattrBefore(key: Buffer): Buffer | undefined {
    const changed = this.#xattrs.get(key.toString("latin1"));
    return changed === undefined ? this.#core.store.get(key) : (changed ?? undefined);
  }

  #putXattrRow(key: Buffer, value: Buffer | null): void {
    this.#xattrs.set(key.toString("latin1"), value);
    this.#row(key, value);
  }

  #pastXattr(ino: InodeId, name: Buffer, value: Buffer): void {
    if (decodeSince(value).since === this.lsn) return;
    this.#row(keys.xattrPastKey(ino, name, this.lsn), value);
  }

  // --- content -------------------------------------------------------------------------------------------------------

  /** Where this record's data will be. Call it before making extents of it. */
  place(
    dataLength: number,
    options: { readonly useReserve?: boolean } = {},
  ): { readonly segment: number; readonly dataStart: number } {
    assert(this.#place === undefined, "placed twice");
    const place = this.#core.journal.place(dataLength, BODY_BYTES_ESTIMATE, options);
    this.#place = place;
    return place;
  }

  /** Adds a slice of `extents` to a chunk; `isNew` as in `ContentMap.added`. At most one call for each chunk. */
  addExtents(content: ContentId, chunk: number, extents: readonly Extent[], isNew: boolean): void {
    this.#row(keys.chunkKey(keys.TABLE.SLICE, content, chunk, this.lsn), encodeExtents(extents));
    this.#refer(content, chunk, extents);
    const checkpoint = this.#core.content.added(content, chunk, extents, isNew);
    if (checkpoint !== undefined) {
      this.#row(keys.chunkKey(keys.TABLE.CHECKPOINT, content, chunk, this.lsn), encodeExtents(checkpoint));
    }
  }

  /** Notes which other segments the extents name: cleaning finds by a segment's own records only what they themselves put. */
  #refer(content: ContentId, chunk: number, extents: readonly Extent[]): void {
    const own = this.#place?.segment;
    let last = 0;
    const named = new Set<number>();
    for (const { segment } of extents) {
      if (segment === 0 || segment === own || segment === last || named.has(segment)) continue;
      last = segment;
      named.add(segment);
      this.#row(keys.referenceKey(segment, content, chunk, this.lsn), NO_BYTES);
    }
  }

  /**
   * Makes [from, to) a hole, before the extents of this record. At most one call. `alone`: the record adds no extents, so that a checkpoint of the chunk may be due
   * with it: a file that is only punched must not grow slower to load for ever.
   */
  cut(
    content: ContentId,
    range: { readonly from: bigint; readonly to: bigint; readonly alone: boolean },
    fileSize: bigint,
  ): void {
    const { from, to, alone } = range;
    if (content === 0 || from >= to) return;
    this.#row(keys.cutKey(content, this.lsn), encodeCut(from, to));
    const due = this.#core.content.cut(content, from, to, fileSize);
    if (!alone) return;
    for (const { chunk, extents } of due) {
      this.#row(keys.chunkKey(keys.TABLE.CHECKPOINT, content, chunk, this.lsn), encodeExtents(extents));
    }
  }

  // --- orphans -------------------------------------------------------------------------------------------------------

  /** The inode lost its last name: it stays while a kernel may hold it, else it ends with this record. */
  unlinked(inode: InodeRow): void {
    const mounts = this.#core.holders.of(inode.ino);
    if (mounts.length === 0) {
      this.removeXattrs(inode);
      this.remove(inode.ino);
      return;
    }
    this.#row(keys.orphanKey(inode.ino), encodeOrphan(this.lsn, mounts));
    this.#orphaned.push({ ino: inode.ino, mounts });
  }

  /** An orphan has a name again, or ends. */
  settled(ino: InodeId): void {
    if (!this.#core.holders.isOrphan(ino)) return;
    this.#row(keys.orphanKey(ino), null);
    this.#settled.push(ino);
  }

  // --- other rows and news -------------------------------------------------------------------------------------------

  /** Puts (or with null deletes) a row of the engine's other tables as it is. */
  row(key: Buffer, value: Buffer | null): void {
    this.#row(key, value);
  }

  /** Tells other mounts that an inode's attributes, or with `data` its content, changed; with `ownMount` that of this change, too. */
  tellInode(ino: InodeId, data: boolean, { ownMount }: { readonly ownMount: boolean } = { ownMount: false }): void {
    if (this.#core.hasListeners) {
      this.#invalidations.push({ kind: "inode", ino, data, excluding: ownMount ? 0 : this.context.actor.mountId });
    }
  }

  /** Tells mounts that a snapshot's name came or went. */
  tellSnapshot(name: string): void {
    this.#invalidations.push({ kind: "snapshot", name: Buffer.from(name, "utf8"), excluding: 0 });
  }

  /** `before`: what the name stood for until now. */
  #tellEntry(parent: InodeId, name: Buffer, before: InodeId | 0): void {
    const excluding = this.context.actor.mountId;
    this.#invalidations.push({ kind: "entry", parent, name: Buffer.from(name), before, excluding });
  }

  /**
   * Appends the record and makes it visible. Throws FsError ENOSPC or EIO with nothing changed.
   * `useReserve`: the operation gives space back, so it may use what is kept for a full disk.
   */
  commit(
    op: RecordOp,
    detail: Buffer,
    options: { readonly data?: Uint8Array; readonly useReserve?: boolean } = {},
  ): Lsn {
    const core = this.#core;
    this.#finishRows();
    const data = options.data ?? null;
    // A record without data needs no place: the journal knows its length when it is appended.
    assert(data === null || this.#place !== undefined, "data without a place");
    const { actor, unique } = this.context;
    try {
      const draft = { op, time: this.time, actor, unique, detail, rows: this.#rows, data };
      const lsn = core.journal.append(draft, { useReserve: options.useReserve ?? false });
      assert(lsn === this.lsn, "another record came between");
    } catch (error) {
      core.appendFailed();
      throw error;
    }
    core.committed(this.lsn, this.#rows);
    core.recent.remember(actor.mountId, unique, op, detail);
    this.#updateCaches();
    for (const invalidation of this.#invalidations) core.tell(invalidation);
    return this.lsn;
  }

  #finishRows(): void {
    const core = this.#core;
    for (const [ino, change] of this.#inodes) {
      const key = keys.inodeKey(ino);
      if (change.after !== null) this.#row(key, encodeInode(change.after));
      else if (change.before !== undefined) this.#row(key, null);
      if (change.before !== undefined) this.#row(keys.inodePastKey(ino, this.lsn), encodeInode(change.before));
    }
    if (this.#nextInode > core.inodesReservedTo) {
      const reservedTo = Math.min(this.#nextInode + INODES_RESERVED, INODE_ID_MAX + 1);
      this.#row(
        keys.plainKey(keys.TABLE.COUNTER, NEXT_INODE),
        new ByteWriter(8).u40(Math.min(reservedTo, INODE_ID_MAX)).finish(),
      );
      this.#reservedTo = reservedTo;
    }
    const indexed = core.timeIndexRow(this.time);
    if (indexed !== undefined) {
      this.#row(keys.timeKey(indexed.era, this.time.sec, this.time.nsec), encodeLsn(this.lsn));
      this.#era = indexed.era;
    }
  }

  #reservedTo = 0;
  #era = -1;

  #updateCaches(): void {
    const core = this.#core;
    for (const [ino, change] of this.#inodes) {
      if (change.after === null) {
        core.inodes.delete(ino);
        core.locks.inodeGone(ino as InodeId);
      } else core.inodes.set(ino, change.after);
    }
    for (const [key, dentry] of this.#dentries) core.dentries.set(key, dentry);
    for (const { ino, mounts } of this.#orphaned) core.holders.orphaned(ino, mounts);
    for (const ino of this.#settled) core.holders.settled(ino);
    if (core.placeListeners.size > 0) this.#tellPlaces();
    core.nextInode = this.#nextInode;
    if (this.#reservedTo > 0) core.inodesReservedTo = this.#reservedTo;
    core.lastTime = this.time;
    if (this.#era >= 0) {
      core.era = this.#era;
      core.lastIndexedTime = this.time;
    }
  }

  /** See `PlaceListener`. Everything else is as it is after the record by then. */
  #tellPlaces(): void {
    let moved = false;
    for (const { before, after } of this.#inodes.values()) {
      if (before !== undefined && after !== null && before.parent !== after.parent) moved = true;
    }
    for (const listener of this.#core.placeListeners) {
      if (moved) listener.directoryMoved();
      for (const ino of this.#nameEnded) listener.nameEnded(ino);
      for (const { ino, mounts } of this.#orphaned) listener.orphaned(ino, mounts);
    }
  }

  #row(key: Buffer, value: Buffer | null): void {
    this.#rows.push({ key, value });
  }
}
