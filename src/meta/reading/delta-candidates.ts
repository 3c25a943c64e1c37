import { readU40Be, readU64Be } from "../../base/bytes.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { FileName, InodeId, Lsn } from "../../domain/ids.ts";
import { isDirectory } from "../../domain/inode.ts";
import type { JournalRecord } from "../../journal/record.ts";
import type { EngineCore } from "../core.ts";
import { plainKey, prefixEnd, TABLE } from "../keys.ts";
import { INODE_MODE_OFFSET, type InodeRow } from "../rows.ts";
import type { ChangeScope } from "./change-scope.ts";
import { directoryNames } from "./directory-names.ts";
import { hasRecords } from "./feed-gap.ts";
import { InodeSet } from "./inode-set.ts";
import { lookupPath, rowsFrom } from "./paths.ts";
import { TouchedChunks } from "./touched-chunks.ts";
import type { Work } from "./work.ts";

/** Rows of a table read at a time, between two looks at the clock. */
const TABLE_ROWS = 512;

export type DeltaSpan = {
  readonly scope: ChangeScope;
  /** What paths begin at, and the names from there to what is wanted. */
  readonly root: InodeId;
  readonly names: readonly FileName[];
  /** Both readable and held. */
  readonly from: Lsn;
  readonly to: Lsn;
  readonly byPath: boolean;
  readonly work: Work;
};

/** Which inodes may not be what they were: all that differ, and some that don't. */
export class DeltaCandidates {
  readonly touched: TouchedChunks;
  readonly #core: EngineCore;
  readonly #span: DeltaSpan;
  readonly #inodes = new InodeSet();
  /** Directories that may have got another name. */
  readonly #moved = new InodeSet();
  readonly #walked = new InodeSet();

  constructor(core: EngineCore, span: DeltaSpan) {
    this.#core = core;
    this.#span = span;
    this.touched = new TouchedChunks(span.from);
  }

  /** Finds them: in the records between the moments, or if some are gone in all rows. Throws FAILED_PRECONDITION when there are too many, DATA_DAMAGED, UNAVAILABLE. */
  async find(): Promise<"journal" | "rows"> {
    const { from, to } = this.#span;
    const inJournal = hasRecords(this.#core, from, to) && (await this.#inRecords());
    if (!inJournal) {
      this.touched.giveUp();
      await this.#inTables();
    }
    await this.#addMovedTrees();
    return inJournal ? "journal" : "rows";
  }

  /** The inodes, ascending. */
  inodes(): Generator<InodeId> {
    return this.#inodes.values();
  }

  /** Answers false when records went while they were read. */
  async #inRecords(): Promise<boolean> {
    const { from, to, work } = this.#span;
    if (from === to) return true;
    try {
      for await (const record of this.#core.records((from + 1) as Lsn, to)) {
        if (work.due) await work.pause();
        this.#note(record);
      }
      return true;
    } catch (error) {
      if (error instanceof TidemarkError && error.code === "OUT_OF_HISTORY") return false;
      throw error;
    }
  }

  #note(record: JournalRecord): void {
    const directories: InodeId[] = [];
    let namesChanged = false;
    for (const { key, value } of record.rows) {
      if (key[0] === TABLE.PARENT) namesChanged = true;
      if (key[0] !== TABLE.INODE) continue;
      const ino = readU40Be(key, 1) as InodeId;
      this.#inodes.add(ino);
      // One that ended was empty by then: nothing moved with it.
      if (value !== null && isDirectory(value.readUInt32BE(INODE_MODE_OFFSET))) directories.push(ino);
    }
    if (namesChanged) for (const ino of directories) this.#moved.add(ino);
    this.touched.note(record);
  }

  /** Every inode that has changed has a row of it that began, or ended, after `from`. What changes meanwhile is one too many at most: it changed after `to`. */
  async #inTables(): Promise<void> {
    for (const table of [TABLE.INODE, TABLE.INODE_PAST]) {
      const gte = plainKey(table);
      let count = 0;
      for (const { key, value } of rowsFrom(this.#core, gte, prefixEnd(gte), TABLE_ROWS)) {
        if (++count % TABLE_ROWS === 0 && this.#span.work.due) await this.#span.work.pause();
        const changed = table === TABLE.INODE ? readU64Be(value, 0) : readU64Be(key, 6);
        if (changed <= this.#span.from) continue;
        const ino = readU40Be(key, 1) as InodeId;
        this.#inodes.add(ino);
        if (isDirectory(value.readUInt32BE(INODE_MODE_OFFSET))) this.#moved.add(ino);
      }
    }
  }

  /** What came into the scope or left it with a directory above it, or by path has another one: unchanged itself. */
  async #addMovedTrees(): Promise<void> {
    await this.#addScopeTrees();
    const { from, to, work, byPath } = this.#span;
    for (const ino of this.#moved.values()) {
      if (work.due) await work.pause();
      const before = this.#directory(ino, from);
      const after = this.#directory(ino, to);
      // What is in a new directory, or was in one that ended, had its name given or taken by a record: it is known.
      if (before === undefined || after === undefined) continue;
      if (before.isWanted !== after.isWanted) {
        if (before.isWanted) await this.#addTree(before.row, from);
        else await this.#addTree(after.row, to);
      } else if (byPath && after.isWanted && before.path !== after.path) await this.#addTree(after.row, to);
    }
  }

  /** A directory above what is wanted may have been moved. */
  async #addScopeTrees(): Promise<void> {
    const { root, names, from, to } = this.#span;
    if (names.length === 0) return;
    const before = lookupPath(this.#core, root, names, from);
    const after = lookupPath(this.#core, root, names, to);
    if (before?.ino === after?.ino) return;
    if (before !== undefined) await this.#addTree(before, from);
    if (after !== undefined) await this.#addTree(after, to);
  }

  #directory(
    ino: InodeId,
    at: Lsn,
  ): { readonly row: InodeRow; readonly path: string | undefined; readonly isWanted: boolean } | undefined {
    const { scope } = this.#span;
    const row = this.#core.findInodeAt(ino, at);
    if (row === undefined || !isDirectory(row.mode)) return undefined;
    const path = scope.directory(ino, at)?.path;
    return { row, path: path?.toString("latin1"), isWanted: path !== undefined && scope.wants(path) };
  }

  /** Everything below a directory as of `at`. What was or came below one that was walked already at another moment changed its name, and is known. */
  async #addTree(root: InodeRow, at: Lsn): Promise<void> {
    this.#inodes.add(root.ino);
    // Numbers only: a tree may be wide.
    const pending: InodeId[] = [];
    const open = (ino: InodeId): void => {
      if (this.#walked.has(ino)) return;
      this.#walked.add(ino);
      pending.push(ino);
    };
    if (isDirectory(root.mode)) open(root.ino);
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const directory = this.#core.findInodeAt(next, at);
      if (directory === undefined) continue;
      for await (const batch of directoryNames(this.#core, directory, at, this.#span.work)) {
        for (const { ino, type } of batch) {
          this.#inodes.add(ino);
          if (type === DIRECTORY_TYPE) open(ino);
        }
      }
    }
  }
}

/** d_type of directories: S_IFDIR >> 12. */
const DIRECTORY_TYPE = 4;
