import { type InodeId, LIVE } from "../../domain/ids.ts";
import { type Dentry, isDirectory, S_IFMT } from "../../domain/inode.ts";
import type { RequestContext } from "../../domain/metadata-api.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import type { EngineCore } from "../core.ts";
import { type RestoreKind, restoreDetail } from "../detail.ts";
import { isBelowAny, nameAt } from "../reading/paths.ts";
import type { Work } from "../reading/work.ts";
import type { InodeRow } from "../rows.ts";
import { sharesAt, updateShare } from "../shares.ts";
import type { Transaction } from "../transaction.ts";
import { addToLimbo, dropLink } from "./limbo.ts";
import { madeFor, putMadeFor, putStepsDone, type RestoreRow } from "./restore-rows.ts";
import { type NewState, StateWriter } from "./state-writer.ts";
import type { Change, Side, Step, TargetDirectory } from "./step.ts";

/** Tries to put back a file that others write to meanwhile, before it is put back as it stands. */
const TRIES_MAX = 8;

/** Moves of directories that wait for other moves, about 1 KiB each. Beyond, they are left out. */
const POSTPONED_MAX = 100_000;

type Put = Change & { readonly kind: "put" };

/**
 * Carries out steps in the app as it is now, each as one record (after records of content that nobody sees yet). What a step finds may differ from what was
 * planned, as mounts go on working: it makes of that what the plan wants. A step that has been done changes nothing.
 */
export class Carrier {
  readonly #core: EngineCore;
  readonly #source: Side;
  readonly #restore: RestoreRow;
  readonly #context: RequestContext;
  readonly #identity: "inode" | "name";
  readonly #states: StateWriter;

  #stepsDone = 0;
  /** Directories that could not be moved yet. */
  #postponed: { readonly change: Put; readonly index: number; readonly kind: Step["action"]["kind"] }[] = [];

  constructor(options: {
    readonly core: EngineCore;
    readonly source: Side;
    readonly restore: RestoreRow;
    readonly context: RequestContext;
    readonly work: Work;
    readonly identity: "inode" | "name";
  }) {
    this.#core = options.core;
    this.#source = options.source;
    this.#restore = options.restore;
    this.#context = options.context;
    this.#identity = options.identity;
    this.#states = new StateWriter(options);
  }

  /** Carries out step number `index`. Yields at times during a long one. Throws FsError. */
  async *carryOut(step: Step, index: number): AsyncGenerator<void> {
    const { change } = step;
    switch (change.kind) {
      case "put":
        return yield* this.#put(change, index, step.action.kind);
      case "change":
        return yield* this.#change(change, index);
      case "remove":
        return this.#remove(change, index);
      case "share":
        return this.#share(change, index);
      case "none":
        return;
    }
  }

  /** A step that was carried out, or postponed, before a crash: only finds the directory it made. */
  skip(step: Step, index: number): void {
    this.#stepsDone = index + 1;
    const { change, action } = step;
    if (change.kind !== "put" || change.made === undefined || change.directory.ino === undefined) return;
    const there = this.#core.dentry(change.directory.ino, change.name)?.ino;
    if (change.wanted.kind !== "alive") change.made.ino = there;
    else if (there !== change.wanted.ino) this.#postponed.push({ change, index, kind: action.kind });
  }

  /** Carries out what had to wait for other steps; called after the last. */
  async *finish(): AsyncGenerator<void> {
    for (let before = Number.POSITIVE_INFINITY; this.#postponed.length > 0 && this.#postponed.length < before; ) {
      const round = this.#postponed;
      before = round.length;
      this.#postponed = [];
      for (const { change, index, kind } of round) yield* this.#put(change, index, kind);
    }
  }

  // --- put -----------------------------------------------------------------------------------------------------------

  async *#put(change: Put, index: number, kind: Step["action"]["kind"]): AsyncGenerator<void> {
    for (let tries = 1; ; tries++) {
      const wanted = this.#wantedNow(change);
      const live = wanted === undefined ? undefined : this.#core.inode(wanted);
      const state = yield* this.#states.prepare(change.source, live);
      // Nothing yields from here on: what was looked at must still be so.
      const again = this.#wantedNow(change);
      const isSame = again === wanted && (again === undefined || this.#core.inode(again).since === live?.since);
      if (!isSame && tries < TRIES_MAX) continue;
      this.#commitPut(change, { wanted: again, state, index, kind: kind === "share" ? "change" : kind });
      return;
    }
  }

  /** The live inode that is to have the name; undefined when a new one is made. */
  #wantedNow(change: Put): InodeId | undefined {
    const { wanted, source, isLinked, directory, name } = change;
    if (isLinked) {
      const made = madeFor(this.#core, this.#restore.firstLsn, source.ino);
      if (made !== undefined && this.#isAlive(made)) return made;
    }
    if (wanted.kind === "alive" && this.#isAlive(wanted.ino)) return wanted.ino;
    // One that this restore made, and that is there already.
    if (wanted.kind !== "new" || directory.ino === undefined) return undefined;
    const there = this.#core.dentry(directory.ino, name);
    return there !== undefined && this.#isOurs(there.ino, source.ino) ? there.ino : undefined;
  }

  #isAlive(ino: InodeId): boolean {
    return (this.#core.findInodeAt(ino, LIVE)?.nlink ?? 0) > 0;
  }

  #isOurs(ino: InodeId, then: InodeId): boolean {
    const row = this.#core.findInodeAt(ino, LIVE);
    return (
      row !== undefined &&
      row.restoredFrom === then &&
      this.#core.findInodeAt(ino, this.#restore.firstLsn) === undefined
    );
  }

  #commitPut(
    change: Put,
    how: {
      readonly wanted: InodeId | undefined;
      readonly state: NewState;
      readonly index: number;
      readonly kind: RestoreKind;
    },
  ): void {
    const { directory, name, source, made } = change;
    const { wanted } = how;
    const parent = this.#liveDirectory(directory);
    if (parent === undefined) return;
    const existing = this.#core.dentry(parent.ino, name);
    const live = wanted === undefined ? undefined : this.#core.inode(wanted);
    const isDir = isDirectory(source.mode);
    // A directory can't be put below itself: later steps will move one out of the other.
    if (live !== undefined && isDir && isBelowAny(this.#core, parent.ino, new Set([live.ino]), LIVE)) {
      if (this.#postponed.length < POSTPONED_MAX) this.#postponed.push({ change, index: how.index, kind: how.kind });
      return;
    }
    const isThere = existing !== undefined && existing.ino === live?.ino;
    const tx = this.#core.begin(this.#context);
    const taken =
      live === undefined ? this.#states.addInode(tx, parent.ino, how.state) : this.#states.apply(tx, live, how.state);
    const { ino, data } = taken;
    if (made !== undefined) made.ino = ino;
    if (isThere && !taken.differs) return;
    if (!isThere) {
      if (existing !== undefined) this.#takeAway(tx, directory, parent.ino, { name, dentry: existing });
      if (live !== undefined) this.#giveName(tx, live, isDir);
      tx.addDentry(parent.ino, name, ino, (source.mode & S_IFMT) >> 12);
      if (isDir) tx.put({ ...tx.inode(ino), parent: parent.ino });
      this.#countNames(tx, directory, parent.ino, { entries: 1n, links: isDir ? 1 : 0 });
    }
    if (change.isLinked && live === undefined)
      putMadeFor(tx, this.#restore.firstLsn, { source: source.ino, made: ino });
    this.#commit(tx, { ino, parent: parent.ino, name, kind: how.kind, index: how.index, data });
  }

  /** An inode that is alive elsewhere gets a name here: a directory leaves its place for it, another one has one more link. */
  #giveName(tx: Transaction, live: InodeRow, isDir: boolean): void {
    if (!isDir) {
      const row = tx.inode(live.ino);
      tx.put({ ...row, nlink: row.nlink + 1, ctime: tx.time });
      tx.settled(live.ino);
      tx.tellInode(live.ino, false);
      return;
    }
    const named = nameAt(this.#core, live.ino, LIVE);
    const dentry = named === undefined ? undefined : this.#core.dentry(named.parent, named.name);
    if (named === undefined || dentry === undefined) return;
    tx.removeDentry(named.parent, named.name, dentry);
    const from = tx.inode(named.parent);
    tx.put({ ...from, size: from.size - 1n, nlink: from.nlink - 1, ctime: tx.time });
    tx.tellInode(named.parent, false);
    tx.put({ ...tx.inode(live.ino), ctime: tx.time });
    tx.tellInode(live.ino, false);
  }

  // --- state ---------------------------------------------------------------------------------------------------------

  async *#change(change: Change & { kind: "change" }, index: number): AsyncGenerator<void> {
    for (let tries = 1; ; tries++) {
      if (!this.#isAlive(change.ino)) return;
      const live = this.#core.inode(change.ino);
      const state = yield* this.#states.prepare(change.source, live);
      if (!this.#isAlive(change.ino)) return;
      const now = this.#core.inode(change.ino);
      if (now.since !== live.since && tries < TRIES_MAX) continue;
      const tx = this.#core.begin(this.#context);
      const { differs, data } = this.#states.apply(tx, now, state);
      if (!differs) return;
      const parent = change.at?.directory.ino ?? (0 as const);
      const name = parent === 0 ? NO_BYTES : (change.at?.name ?? NO_BYTES);
      this.#commit(tx, { ino: change.ino, parent, name, kind: "change", index, data });
      return;
    }
  }

  // --- names ---------------------------------------------------------------------------------------------------------

  #remove(change: Change & { kind: "remove" }, index: number): void {
    const { directory, name } = change;
    const parent = this.#liveDirectory(directory);
    const dentry = parent === undefined ? undefined : this.#core.dentry(parent.ino, name);
    // It went meanwhile, or was put somewhere else by a step before.
    if (parent === undefined || dentry === undefined || dentry.ino !== change.ino) return;
    const tx = this.#core.begin(this.#context);
    this.#takeAway(tx, directory, parent.ino, { name, dentry });
    this.#commit(tx, { ino: dentry.ino, parent: parent.ino, name, kind: "delete", index, data: undefined });
  }

  /** Ends a name. What may still be needed, and every directory, goes to limbo; the rest ends at once. */
  #takeAway(
    tx: Transaction,
    directory: TargetDirectory,
    parent: InodeId,
    taken: { readonly name: Buffer; readonly dentry: Dentry },
  ): void {
    const { name, dentry } = taken;
    const row = tx.inode(dentry.ino);
    const isDir = isDirectory(row.mode);
    tx.removeDentry(parent, name, dentry);
    this.#countNames(tx, directory, parent, { entries: -1n, links: isDir ? -1 : 0 });
    const isNeeded =
      this.#identity === "inode" && this.#source.core.findInodeAt(dentry.ino, this.#source.at) !== undefined;
    if (isDir || isNeeded) addToLimbo(tx, this.#restore.limbo, dentry);
    else dropLink(tx, dentry.ino);
  }

  #countNames(
    tx: Transaction,
    directory: TargetDirectory,
    ino: InodeId,
    change: { readonly entries: bigint; readonly links: number },
  ): void {
    const row = tx.inode(ino);
    const times = directory.isRestored ? { ctime: tx.time } : { ctime: tx.time, mtime: tx.time };
    tx.put({ ...row, ...times, size: row.size + change.entries, nlink: row.nlink + change.links });
    tx.tellInode(ino, false);
  }

  /** The directory, if it can take names now. */
  #liveDirectory(directory: TargetDirectory): InodeRow | undefined {
    const row = directory.ino === undefined ? undefined : this.#core.findInodeAt(directory.ino, LIVE);
    return row !== undefined && isDirectory(row.mode) && row.nlink > 0 ? row : undefined;
  }

  // --- shares --------------------------------------------------------------------------------------------------------

  #share(change: Change & { kind: "share" }, index: number): void {
    const share = sharesAt(this.#core, this.#core.lastLsn).find((row) => row.id === change.id);
    if (share === undefined || (share.deletedAt !== undefined) === change.deleted) return;
    const detail = restoreDetail({ ino: share.root, parent: 0, name: NO_BYTES, kind: "share" });
    const also = (tx: Transaction): void => this.#noteDone(tx, index);
    updateShare(this.#core, share, { deleted: change.deleted }, this.#context, {
      op: RECORD_OP.RESTORE_ENTRY,
      detail,
      also,
    });
  }

  /** Steps are done in order, but for those that were postponed. */
  #noteDone(tx: Transaction, index: number): void {
    this.#stepsDone = Math.max(this.#stepsDone, index + 1);
    putStepsDone(tx, this.#restore.firstLsn, this.#stepsDone);
  }

  #commit(
    tx: Transaction,
    entry: {
      readonly ino: InodeId;
      readonly parent: InodeId | 0;
      readonly name: Buffer;
      readonly kind: RestoreKind;
      readonly index: number;
      readonly data: Buffer | undefined;
    },
  ): void {
    const { ino, parent, name, kind, index, data } = entry;
    this.#noteDone(tx, index);
    const options = { useReserve: kind === "delete" };
    tx.commit(
      RECORD_OP.RESTORE_ENTRY,
      restoreDetail({ ino, parent, name, kind }),
      data === undefined ? options : { ...options, data },
    );
  }
}

const NO_BYTES = Buffer.alloc(0);
