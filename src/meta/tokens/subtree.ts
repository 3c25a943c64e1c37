import { ByteReader } from "../../base/bytes.ts";
import { type InodeId, LIVE, type Lsn, type MountId } from "../../domain/ids.ts";
import { isDirectory } from "../../domain/inode.ts";
import type { EngineCore } from "../core.ts";
import { decodeOrphan } from "../holders.ts";
import * as keys from "../keys.ts";
import { DEPTH_MAX, namesAt } from "../reading/paths.ts";
import { restoreRows } from "../restore/restore-rows.ts";
import { decodeSince, type InodeRow } from "../rows.ts";
import { InsideCache } from "./inside-cache.ts";

/** Directories that one file's names are looked at in. A file in more of them is not found by its number alone; by a name it still is. */
const PARENTS_MAX = 1_024;

/** Orphans that are remembered before those that have ended are looked for. */
const ORPHANS_SWEPT_AT = 4_096;

/** A restore takes away what another restore had brought: how often in a row that is followed back. */
const LIMBO_DEPTH_MAX = 4;

/**
 * What is below one directory, for one session: by the numbers of inodes, never by paths.
 *
 * Invariants
 * S1  See InsideCache.
 * S2  What can't be decided (too deep, too many names, its rows are gone) is outside.
 * S3  An inode without a name is inside when this mount may hold it and its last name was inside; that is decided in the commit that ended that name.
 */
export class Subtree {
  readonly root: InodeId;
  readonly #core: EngineCore;
  readonly #mount: MountId;
  readonly #inside: InsideCache;
  readonly #orphans = new Set<InodeId>();
  #orphansSweptAt = ORPHANS_SWEPT_AT;
  readonly #unwatch: () => void;
  #closed = false;

  /** `before`: what watched for the same session until now. */
  constructor(
    core: EngineCore,
    options: { readonly root: InodeId; readonly mount: MountId; readonly before?: Subtree | undefined },
  ) {
    const { root, mount, before } = options;
    this.#core = core;
    this.root = root;
    this.#mount = mount;
    this.#inside = InsideCache.of(core, root);
    // The session, or mount, may go on after a break, or a restart of the service. What was decided then is not decided again: the rows may be gone.
    const known = before?.root === root ? before.#orphans : undefined;
    for (const ino of core.holders.orphansOf(mount)) {
      if (known?.has(ino) === true) this.#orphans.add(ino);
      else this.#orphaned(ino, [mount]);
    }
    this.#unwatch = core.watchPlaces({
      directoryMoved: () => {},
      nameEnded: () => {},
      orphaned: (ino, mounts) => this.#orphaned(ino, mounts),
    });
  }

  /** Nobody asks any more. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#unwatch();
    this.#inside.release();
  }

  /** Whether the inode is the root or below it, by any of its names, as of `at`. One that is not there is outside. */
  has(ino: InodeId, at: Lsn): boolean {
    if (ino === this.root) return true;
    if (this.#inside.has(ino, at)) return true;
    return at === LIVE ? this.#searchNow(ino) : this.#search(ino, at, undefined, LIMBO_DEPTH_MAX);
  }

  /** The inode was just found by a name in a directory that is inside, as of `at`. */
  found(ino: InodeId, at: Lsn): void {
    this.#inside.add(ino, at);
  }

  #orphaned(ino: InodeId, mounts: readonly MountId[]): void {
    if (mounts.includes(this.#mount) && this.#wasInside(ino)) this.#orphans.add(ino);
    else this.#orphans.delete(ino);
    if (this.#orphans.size < this.#orphansSweptAt) return;
    for (const each of this.#orphans) if (!this.#core.holders.isOrphan(each)) this.#orphans.delete(each);
    this.#orphansSweptAt = Math.max(ORPHANS_SWEPT_AT, 2 * this.#orphans.size);
  }

  #searchNow(ino: InodeId): boolean {
    const row = this.#core.findInodeNow(ino);
    if (row === undefined) return false;
    if (row.nlink === 0 && this.#core.holders.isOrphan(ino)) return this.#orphans.has(ino);
    return this.#search(ino, LIVE, row);
  }

  #search(ino: InodeId, at: Lsn, row = this.#core.findInodeAt(ino, at), limboDepth = 0): boolean {
    // A directory that was removed still says where it was. One that is in limbo may be closed for new names already.
    if (row === undefined || (row.nlink === 0 && at !== LIVE)) return false;
    const inside = isDirectory(row.mode) ? this.#directory(row, at, limboDepth) : this.#file(ino, at, limboDepth);
    if (inside) this.#inside.add(ino, at);
    return inside;
  }

  /** Upwards from a directory. What was passed on the way is remembered with it. */
  #directory(row: InodeRow, at: Lsn, limboDepth: number): boolean {
    const passed: InodeId[] = [];
    let inode = row;
    for (let depth = 0; depth < DEPTH_MAX; depth++) {
      if (inode.ino === this.root || this.#inside.has(inode.ino, at)) return this.#passed(passed, at);
      passed.push(inode.ino);
      const parent = inode.parent === 0 ? undefined : this.#core.findInodeAt(inode.parent, at);
      if (parent === undefined || parent.ino === inode.ino) return false;
      if (isLimbo(this.#core, parent)) {
        return this.#beforeLimbo(inode.ino, parent.ino, at, limboDepth) && this.#passed(passed, at);
      }
      inode = parent;
    }
    return false;
  }

  /** Any name inside is enough. */
  #file(ino: InodeId, at: Lsn, limboDepth: number): boolean {
    for (const parent of at === LIVE ? this.#parentsNow(ino) : this.#parentsAt(ino, at)) {
      const row = this.#core.findInodeAt(parent, at);
      if (row === undefined || !isDirectory(row.mode)) continue;
      if (
        isLimbo(this.#core, row) ? this.#beforeLimbo(ino, parent, at, limboDepth) : this.#directory(row, at, limboDepth)
      )
        return true;
    }
    return false;
  }

  /** Each directory that has a name of the file, once. */
  *#parentsNow(ino: InodeId): Generator<InodeId> {
    const lt = keys.prefixEnd(keys.inoPrefix(keys.TABLE.PARENT, ino));
    let gte = keys.inoPrefix(keys.TABLE.PARENT, ino);
    for (let count = 0; count < PARENTS_MAX; count++) {
      const row = this.#core.store.range({ gte, lt, limit: 1 })[0];
      if (row === undefined) return;
      const parent = new ByteReader(row.key, PARENT_OFFSET).u40() as InodeId;
      yield parent;
      gte = keys.parentKey(ino, parent + 1, NO_NAME);
    }
  }

  #parentsAt(ino: InodeId, at: Lsn): Set<InodeId> {
    return new Set(namesAt(this.#core, ino, at, PARENTS_MAX).map(({ parent }) => parent));
  }

  /**
   * A running restore keeps what it takes away in a directory that is in no share, until it has ended. Who had it open goes on with it, as with
   * any file that was deleted: it is inside if it was until then.
   */
  #beforeLimbo(ino: InodeId, limbo: InodeId, at: Lsn, limboDepth: number): boolean {
    if (limboDepth >= LIMBO_DEPTH_MAX) return false;
    const names = namesAt(this.#core, ino, at === LIVE ? this.#core.lastLsn : at, PARENTS_MAX);
    const name = names.find(({ parent }) => parent === limbo);
    if (name === undefined || !this.#core.holders.isHeldBy(this.#mount, ino)) return false;
    const before = (name.since - 1) as Lsn;
    if (before < this.#core.moments.floor) return false;
    return this.#search(ino, before, undefined, limboDepth + 1);
  }

  /** S3: by the rows of the name that ended with the record that made it an orphan. */
  #wasInside(ino: InodeId): boolean {
    const value = this.#core.store.get(keys.orphanKey(ino));
    if (value === undefined) return false;
    const { since, mounts } = decodeOrphan(value);
    if (since <= this.#core.moments.floor) return false;
    const names = this.#core.store.range({
      gte: keys.parentPastFrom(ino, since),
      lt: keys.parentPastFrom(ino, since + 1),
      limit: PARENTS_MAX,
    });
    // It never had a name (O_TMPFILE): nobody but the mount that made it was ever told of it, and this one was allowed to.
    if (names.length === 0) return mounts.length === 1 && mounts[0] === this.#mount;
    const before = (since - 1) as Lsn;
    return names.some(({ key, value: row }) => {
      const parent = this.#core.findInodeAt(new ByteReader(key, PAST_PARENT_OFFSET).u40(), before);
      if (parent === undefined || !isDirectory(parent.mode) || decodeSince(row).since > before) return false;
      return isLimbo(this.#core, parent)
        ? this.#beforeLimbo(ino, parent.ino, before, 0)
        : this.#directory(parent, before, 0);
    });
  }

  #passed(inodes: readonly InodeId[], at: Lsn): true {
    for (const ino of inodes) this.#inside.add(ino, at);
    return true;
  }
}

/** Where the parent begins in keys of names, now and past. */
const PARENT_OFFSET = 6;
const PAST_PARENT_OFFSET = 14;

const NO_NAME = Buffer.alloc(0);

/** Restores that may be running: one at a time for an app, as a rule. */
const RESTORES_LOOKED_AT = 16;

/** Whether the directory is what a restore keeps things in. Asked about roots only, and quick for those of shares. */
function isLimbo(core: EngineCore, row: InodeRow): boolean {
  if (row.parent !== row.ino || (row.mode & 0o7777) !== 0o700) return false;
  let looked = 0;
  for (const { limbo } of restoreRows(core)) {
    if (limbo === row.ino) return true;
    if (++looked === RESTORES_LOOKED_AT) break;
  }
  return false;
}
