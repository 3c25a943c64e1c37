import type { LogRecord } from "../../domain/admin-reading.ts";
import type { InodeId, Lsn, ShareId } from "../../domain/ids.ts";
import { RECORD_OP, recordOpName } from "../../domain/record-op.ts";
import type { JournalRecord } from "../../journal/record.ts";
import type { EngineCore } from "../core.ts";
import { inodeOfDetail, readNameDetail, readRenameDetail, readRestoreDetail } from "../detail.ts";
import type { ShareRow } from "../shares.ts";
import { DirectoryPaths } from "./directory-paths.ts";
import { shareLabel, sharesByRoot } from "./find-share.ts";
import { InodeNames } from "./inode-names.ts";
import { logDetails, shareOfDetail } from "./log-details.ts";
import { isPathWithin, joinPath } from "./paths.ts";

/** Which records are wanted: all of the app, those of a share, or those about a path at the time, and below it. */
export type LogFilter = { readonly share?: ShareId; readonly path: Buffer };

/** Names of one hard-linked inode that are looked at for a filter. */
const NAMES_MAX = 1000;

/** A path that a record concerns. `to`: of a rename, where it went. */
type Concerned = { readonly root: InodeId; readonly path: Buffer; readonly to?: Buffer };

/** Turns journal records into what people read, with the paths of their time. */
export class LogDescriber {
  readonly #core: EngineCore;
  readonly #filter: LogFilter;
  readonly #directories: DirectoryPaths;
  readonly #names: InodeNames;
  #shares: Map<InodeId, ShareRow>;

  constructor(core: EngineCore, filter: LogFilter) {
    this.#core = core;
    this.#filter = filter;
    this.#directories = new DirectoryPaths(core);
    this.#names = new InodeNames(core);
    this.#shares = sharesByRoot(core);
  }

  /** The record for the log, or undefined when it is not wanted. */
  describe(record: JournalRecord): LogRecord | undefined {
    const { lsn, time, op, actor } = record;
    // Who locked what is no history: a database does it a thousand times a second.
    if (op === RECORD_OP.LOCK) return undefined;
    const ino = inodeOf(record);
    const found = this.#wanted(record, ino);
    if (found === undefined) return undefined;
    const { share, at } = found;
    return {
      lsn,
      time,
      op: recordOpName(op),
      ...(share === undefined ? {} : { share: shareLabel(share) }),
      path: at?.path ?? NO_BYTES,
      ...(at?.to === undefined ? {} : { newPath: at.to }),
      ino,
      actor,
      details: logDetails(record),
    };
  }

  #wanted(
    record: JournalRecord,
    ino: InodeId | 0,
  ): { share: ShareRow | undefined; at: Concerned | undefined } | undefined {
    const { share: wantedShare, path } = this.#filter;
    if (isShareOp(record.op)) {
      const share = this.#shareById(shareOfDetail(record.detail).id);
      const wanted = wantedShare === undefined || (share?.id === wantedShare && path.length === 0);
      return wanted ? { share, at: undefined } : undefined;
    }
    const places = ino === 0 ? [] : this.#places(record, ino);
    if (wantedShare === undefined) return { share: this.#shareOf(places[0]), at: places[0] };
    for (const at of places) {
      const share = this.#shareOf(at);
      const within = isPathWithin(at.path, path) || (at.to !== undefined && isPathWithin(at.to, path));
      if (share?.id === wantedShare && within) return { share, at };
    }
    return undefined;
  }

  /** All places the record concerns: one, but for inodes of several names. */
  #places(record: JournalRecord, ino: InodeId): Concerned[] {
    const { op, lsn, detail } = record;
    switch (op) {
      case RECORD_OP.CREATE:
      case RECORD_OP.MKNOD:
      case RECORD_OP.MKDIR:
      case RECORD_OP.SYMLINK:
      case RECORD_OP.LINK:
      case RECORD_OP.UNLINK:
      case RECORD_OP.RMDIR:
        return this.#named(readNameDetail(detail), lsn);
      case RECORD_OP.RESTORE_ENTRY: {
        const entry = readRestoreDetail(detail);
        return entry.parent === 0 ? this.#namesOf(ino, lsn) : this.#named(entry, lsn);
      }
      case RECORD_OP.RENAME:
        return this.#renamed(record);
      default:
        return this.#namesOf(ino, lsn);
    }
  }

  #named(entry: { parent: number; name: Buffer }, at: Lsn): Concerned[] {
    const directory = this.#directories.of(entry.parent as InodeId, at);
    return directory === undefined
      ? []
      : [{ root: directory.root, path: joinPath(directory.path, Buffer.from(entry.name)) }];
  }

  #renamed({ lsn, detail }: JournalRecord): Concerned[] {
    const { parent, name, newParent, newName } = readRenameDetail(detail);
    const from = this.#directories.of(parent as InodeId, (lsn - 1) as Lsn);
    const to = this.#directories.of(newParent as InodeId, lsn);
    if (from === undefined || to === undefined) return [];
    return [
      { root: from.root, path: joinPath(from.path, Buffer.from(name)), to: joinPath(to.path, Buffer.from(newName)) },
    ];
  }

  #namesOf(ino: InodeId, at: Lsn): Concerned[] {
    if (this.#core.findInodeAt(ino, at)?.parent === ino) return [{ root: ino, path: NO_BYTES }];
    const places: Concerned[] = [];
    for (const { parent, name } of this.#names.at(ino, at, NAMES_MAX)) {
      const directory = this.#directories.of(parent, at);
      if (directory !== undefined) places.push({ root: directory.root, path: joinPath(directory.path, name) });
    }
    return places;
  }

  #shareOf(at: Concerned | undefined): ShareRow | undefined {
    if (at === undefined) return undefined;
    // A share may have been made since.
    if (!this.#shares.has(at.root)) this.#shares = sharesByRoot(this.#core);
    return this.#shares.get(at.root);
  }

  #shareById(id: string): ShareRow | undefined {
    const find = (): ShareRow | undefined => [...this.#shares.values()].find((share) => share.id === id);
    const known = find();
    if (known !== undefined) return known;
    this.#shares = sharesByRoot(this.#core);
    return find();
  }
}

function isShareOp(op: number): boolean {
  return op >= RECORD_OP.SHARE_CREATE && op <= RECORD_OP.SHARE_UNDELETE;
}

/** The inode a record is about; 0 for records of the app itself. */
function inodeOf({ op, detail }: JournalRecord): InodeId | 0 {
  const isFileOp = op <= RECORD_OP.REAP || op === RECORD_OP.RESTORE_ENTRY || op === RECORD_OP.RESTORE_CONTENT;
  return isFileOp ? (inodeOfDetail(detail) as InodeId | 0) : 0;
}

const NO_BYTES = Buffer.alloc(0);
