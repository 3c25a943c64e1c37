import { readU40Be, readU64Be } from "../../base/bytes.ts";
import { CHANGE_PATHS_MAX, type ChangeRecord, type OtherName } from "../../domain/admin-changes.ts";
import type { InodeId, Lsn } from "../../domain/ids.ts";
import { isDirectory, isRegular, isSymlink } from "../../domain/inode.ts";
import { RECORD_OP, recordOpName } from "../../domain/record-op.ts";
import type { JournalRecord } from "../../journal/record.ts";
import type { EngineCore } from "../core.ts";
import { inodeOfDetail } from "../detail.ts";
import { TABLE } from "../keys.ts";
import { decodeInode, type InodeRow } from "../rows.ts";
import { attributesOf } from "./attributes.ts";
import { operationOf } from "./change-operation.ts";
import type { ChangeScope, ScopedPlace } from "./change-scope.ts";
import { FeedNames, type NameChange } from "./feed-names.ts";
import { shareLabel } from "./find-share.ts";
import { logDetails, shareOfDetail } from "./log-details.ts";
import { isPathWithin } from "./paths.ts";

/** Bytes of the names of one inode in a record, so that a page has room for it. */
const PATH_BYTES_MAX = 256 * 1024;

/** What the rows of a record say. Buffers are views of the record. */
type RowsOfRecord = {
  readonly before: InodeRow | undefined;
  readonly after: InodeRow | undefined;
  readonly names: readonly NameChange[];
};

/** Where a record happened, as far as it may be told. */
type Happened = Pick<ChangeRecord, "paths" | "others"> & {
  readonly share: ScopedPlace["share"] | undefined;
  readonly newPath?: Buffer;
  readonly crossing?: "entered" | "left";
};

/** Turns journal records into those of the feed, with the paths of their time. A record's own rows tell the names it gave and took, whatever its operation. */
export class ChangeDescriber {
  readonly #core: EngineCore;
  readonly #scope: ChangeScope;
  readonly #operations: ReadonlySet<string> | undefined;
  readonly #names: FeedNames;

  /** `operations`: the only ones that are wanted; undefined: all but LOCK. */
  constructor(core: EngineCore, scope: ChangeScope, operations: ReadonlySet<string> | undefined) {
    this.#core = core;
    this.#scope = scope;
    this.#operations = operations;
    this.#names = new FeedNames(core, CHANGE_PATHS_MAX);
  }

  /** The record for the feed, or undefined when it is not wanted. To be called with every record, in order. Moments from the record before it on must be readable. */
  describe(record: JournalRecord): ChangeRecord | undefined {
    const { lsn, time, op, actor } = record;
    const names = nameChangesOf(record);
    if (names.length > 0)
      this.#names.note(names, MAKING.has(op) ? (inodeOfDetail(record.detail) as InodeId) : undefined);
    const name = recordOpName(op);
    if (this.#operations === undefined ? op === RECORD_OP.LOCK : !this.#operations.has(name)) return undefined;
    const ino = inodeOf(record);
    const same = { lsn, time, op: name, ino, actor };
    if (ino === 0) return this.#describeOther(record, same);
    const rows = { ...statesOf(record, ino), names };
    const happened = this.#happened(rows, ino, lsn);
    if (happened === undefined) return undefined;
    const { share, ...where } = happened;
    return {
      ...same,
      ...(share === undefined ? {} : { share: shareLabel(share) }),
      ...where,
      ...operationOf(record),
      ...stateOf(rows),
      details: NONE,
    };
  }

  /** A record of the app itself, or of a share as a whole. */
  #describeOther(
    record: JournalRecord,
    same: Pick<ChangeRecord, "lsn" | "time" | "op" | "ino" | "actor">,
  ): ChangeRecord | undefined {
    const scope = this.#scope;
    const share = isShareOp(record.op) ? scope.shareById(shareOfDetail(record.detail).id) : undefined;
    if (scope.share !== undefined) {
      if (share?.id !== scope.share.id || scope.path.length > 0 || scope.isSubtree) return undefined;
    }
    return {
      ...same,
      ...(share === undefined ? {} : { share: shareLabel(share) }),
      paths: NONE,
      others: NONE,
      set: NONE,
      contentReplaced: false,
      details: logDetails(record),
    };
  }

  #happened({ before, after, names }: RowsOfRecord, ino: InodeId, lsn: Lsn): Happened | undefined {
    const scope = this.#scope;
    const own = names.filter((each) => each.ino === ino);
    const others = this.#others(names, ino, lsn);
    if (own.length === 0) return this.#unmoved(after, { ino, lsn, others });
    const lost = own.find(({ change }) => change === "lost");
    const gained = own.find(({ change }) => change === "gained");
    const from = this.#place(lost, lsn);
    const to = this.#place(gained, lsn);
    const isDir = isDirectory((after ?? before)?.mode ?? 0);
    // A directory above what is wanted takes it along.
    const isIn = (place: ScopedPlace | undefined): boolean =>
      place !== undefined && (scope.wants(place.path) || (isDir && isPathWithin(scope.path, place.path)));
    const share = (to ?? from)?.share;
    // With one name only it was made or taken away.
    if (lost === undefined || gained === undefined) {
      const place = to ?? from;
      const isWanted = place !== undefined && scope.wants(place.path);
      return isWanted || scope.share === undefined ? { share, paths: pathsOf(place), others } : undefined;
    }
    if (!isIn(from) && !isIn(to) && others.length === 0 && scope.share !== undefined) return undefined;
    const crossing = isIn(from) === isIn(to) ? {} : { crossing: isIn(to) ? ("entered" as const) : ("left" as const) };
    return { share, paths: pathsOf(from), ...(to === undefined ? {} : { newPath: to.path }), ...crossing, others };
  }

  /** A record that changed no name of its inode is about all of them. */
  #unmoved(
    after: InodeRow | undefined,
    { ino, lsn, others }: { readonly ino: InodeId; readonly lsn: Lsn; readonly others: readonly OtherName[] },
  ): Happened | undefined {
    const scope = this.#scope;
    const places = this.#placesOf(ino, after, lsn).filter(({ path }) => scope.wants(path));
    // The same record reads the same whenever it is read: rows of names come in an order that later changes alter.
    if (places.length > 1) places.sort((left, right) => Buffer.compare(left.path, right.path));
    const [first] = places;
    if (first === undefined && scope.share !== undefined) return undefined;
    return { share: first?.share, paths: places.map(({ path }) => path), others };
  }

  #placesOf(ino: InodeId, after: InodeRow | undefined, at: Lsn): ScopedPlace[] {
    const row = after ?? this.#core.findInodeAt(ino, at);
    if (row === undefined || row.nlink === 0) return [];
    if (ino === this.#scope.root || row.parent === ino) {
      const place = this.#scope.directory(ino, at);
      return place === undefined ? [] : [place];
    }
    const places: ScopedPlace[] = [];
    let bytes = 0;
    for (const { parent, name } of this.#names.at(ino, at, isDirectory(row.mode) ? 1 : row.nlink)) {
      const place = this.#scope.name(parent, name, at);
      if (place === undefined) continue;
      bytes += place.path.length;
      if (places.length > 0 && bytes > PATH_BYTES_MAX) break;
      places.push(place);
    }
    return places;
  }

  #others(names: readonly NameChange[], ino: InodeId, lsn: Lsn): readonly OtherName[] {
    const others: OtherName[] = [];
    for (const each of names) {
      if (each.ino === ino) continue;
      const place = this.#place(each, lsn);
      if (place !== undefined && this.#scope.wants(place.path))
        others.push({ ino: each.ino, path: place.path, change: each.change });
    }
    return others.length === 0 ? NONE : others;
  }

  #place(name: NameChange | undefined, lsn: Lsn): ScopedPlace | undefined {
    if (name === undefined) return undefined;
    const at = (name.change === "lost" ? lsn - 1 : lsn) as Lsn;
    return this.#scope.name(name.parent, name.name, at);
  }
}

function pathsOf(place: ScopedPlace | undefined): readonly Buffer[] {
  return place === undefined ? NONE : [place.path];
}

/** Operations that make their inode, with its first name. */
const MAKING: ReadonlySet<number> = new Set([RECORD_OP.CREATE, RECORD_OP.MKNOD, RECORD_OP.MKDIR, RECORD_OP.SYMLINK]);

/** What a record's rows say of names, in order. */
function nameChangesOf({ lsn, rows }: JournalRecord): readonly NameChange[] {
  const names: NameChange[] = [];
  for (const { key, value } of rows) {
    if (value === null) continue;
    if (key[0] === TABLE.PARENT) names.push({ ...nameOf(key, 6), change: "gained" });
    else if (key[0] === TABLE.PARENT_PAST && readU64Be(key, 6) === lsn)
      names.push({ ...nameOf(key, 14), change: "lost" });
  }
  return names;
}

/** What a record's rows say of its inode. */
function statesOf({ lsn, rows }: JournalRecord, ino: InodeId): Omit<RowsOfRecord, "names"> {
  let before: InodeRow | undefined;
  let after: InodeRow | undefined;
  for (const { key, value } of rows) {
    if (value === null) continue;
    if (key[0] === TABLE.INODE && readU40Be(key, 1) === ino) after = decodeInode(ino, value);
    else if (key[0] === TABLE.INODE_PAST && readU40Be(key, 1) === ino && readU64Be(key, 6) === lsn)
      before = decodeInode(ino, value);
  }
  return { before, after };
}

/** Inode, parent and name in the key of a parents row, whose parent is at `offset`. */
function nameOf(key: Buffer, offset: number): Omit<NameChange, "change"> {
  const ino = readU40Be(key, 1) as InodeId;
  return { ino, parent: readU40Be(key, offset) as InodeId, name: Buffer.from(key.subarray(offset + 5)) };
}

function stateOf({
  before,
  after,
}: RowsOfRecord): Pick<ChangeRecord, "attributes" | "sizeBefore" | "target" | "contentReplaced"> {
  if (after === undefined) return { contentReplaced: false };
  const isFile = isRegular(after.mode) && before !== undefined;
  return {
    attributes: attributesOf(after),
    ...(isFile && before.size !== after.size ? { sizeBefore: before.size } : {}),
    ...(isSymlink(after.mode) ? { target: Buffer.from(after.target) } : {}),
    contentReplaced: isFile && before.contentId !== 0 && before.contentId !== after.contentId,
  };
}

function isShareOp(op: number): boolean {
  return op >= RECORD_OP.SHARE_CREATE && op <= RECORD_OP.SHARE_UNDELETE;
}

/** The inode a record is about; 0 for those of the app itself, and for content that a restore lays down and nobody sees yet. */
function inodeOf({ op, detail }: JournalRecord): InodeId | 0 {
  const isFileOp = op <= RECORD_OP.REAP || op === RECORD_OP.RESTORE_ENTRY;
  return isFileOp ? (inodeOfDetail(detail) as InodeId | 0) : 0;
}

const NONE: readonly never[] = [];
