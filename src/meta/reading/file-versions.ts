import type { Timestamp } from "../../base/clock.ts";
import type { Actor } from "../../domain/actor.ts";
import type { FileVersion } from "../../domain/admin-reading.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { InodeId, Lsn, MountId } from "../../domain/ids.ts";
import { pathNames } from "../../domain/names.ts";
import { recordOpName } from "../../domain/record-op.ts";
import type { EngineCore } from "../core.ts";
import * as keys from "../keys.ts";
import { decodeInode, type InodeRow } from "../rows.ts";
import { attributesOf } from "./attributes.ts";
import { DirectoryPaths } from "./directory-paths.ts";
import { InodeNames } from "./inode-names.ts";
import { type Holder, lastHolder } from "./last-holder.ts";
import { joinPath, rowsBack } from "./paths.ts";
import { RecordHeads } from "./records.ts";
import type { Work } from "./work.ts";

/** Records of one actor, each within this of the one before, are one uninterrupted piece of work. */
const WORK_GAP_NSEC = 1_000_000_000;

/** A new file that replaces another was its temporary copy if it was made without longer breaks than this, by whichever of a user's processes. */
const TEMPORARY_GAP_NSEC = 60_000_000_000;

/** Names of a hard-linked inode that are looked at for the one that is followed. */
const NAMES_MAX = 1000;

/** How far a new file is followed back to see whether all of it was one piece of work: a temporary file of 100 GiB in writes of 1 MiB. */
const WORK_RECORDS_MAX = 100_000;

/** What began a state, when its record is not kept any more. */
const UNKNOWN_ACTOR: Actor = { mountId: 0 as MountId, uid: 0, gid: 0, pid: 0, label: "unknown" };
const UNKNOWN_OP = "UNKNOWN";

/** The record that began a state. */
type Cause = { readonly lsn: Lsn; readonly time: Timestamp; readonly op: string; readonly actor: Actor };

type Named = {
  readonly parent: InodeId;
  readonly name: Buffer;
  readonly since: Lsn;
  readonly root: InodeId;
  readonly path: Buffer;
};

/** A version in the making: `newest` is its last record, `oldest` the first of those joined. */
type Group = {
  readonly row: InodeRow;
  readonly until: Lsn | undefined;
  readonly named: Named;
  readonly newest: Cause;
  oldest: Cause;
  count: number;
};

/** Where a line of one inode began: the path it had there, and since when. */
type Birth = {
  readonly root: InodeId;
  readonly path: Buffer;
  readonly since: Lsn;
  readonly cause: Cause;
  readonly restoredFrom: InodeId | 0;
};

/**
 * The versions of the file at a path, newest first. It follows the inode back through its names; where the inode began, it goes on with what had that path
 * before: after "write a temporary file and rename it over" that is the file that was replaced, after delete and create again the deleted one.
 */
export class FileVersions {
  readonly #core: EngineCore;
  readonly #from: Lsn;
  readonly #floor: Lsn;
  readonly #work: Work;
  readonly #heads: RecordHeads;
  readonly #directories: DirectoryPaths;
  readonly #names: InodeNames;

  /** Versions that began after `from`, and of those that hold at `floor` or later, which is where history that is kept begins. */
  constructor(core: EngineCore, options: { readonly from: Lsn; readonly floor: Lsn; readonly work: Work }) {
    this.#core = core;
    this.#floor = options.floor;
    this.#from = options.from;
    this.#work = options.work;
    this.#heads = new RecordHeads(core);
    this.#directories = new DirectoryPaths(core);
    this.#names = new InodeNames(core);
  }

  /** From `start` back, see lastHolder. `path` is the one it was found by. */
  async *walk(start: Holder, path: Buffer): AsyncGenerator<readonly FileVersion[]> {
    if (start.until !== undefined) {
      const absent = await this.#absent(start, start.until, undefined, path);
      if (absent.since.lsn <= this.#from) return;
      yield [absent];
    }
    let followed = path;
    for (let holder: Holder | undefined = start; holder !== undefined; ) {
      const birth: Birth | undefined = yield* this.#line(holder, followed);
      if (birth === undefined || birth.since <= this.#from || birth.since <= this.#floor) return;
      const previous: Holder | undefined = this.#before(birth);
      if (previous?.until !== undefined && previous.until < birth.since) {
        const absent = await this.#absent(previous, previous.until, birth.since, birth.path);
        if (!isSameWork(absent, birth.cause)) yield [absent];
      }
      holder = previous === undefined ? undefined : { ...previous, until: previous.until ?? birth.since };
      followed = birth.path;
    }
  }

  /** What had the path of a birth before it; else the inode it was restored from. */
  #before(birth: Birth): Holder | undefined {
    const moment = (birth.since - 1) as Lsn;
    const byName = lastHolder(this.#core, birth.root, pathNames(birth.path), moment);
    if (byName !== undefined || birth.restoredFrom === 0) return byName;
    const last = this.#states(birth.restoredFrom, moment).next().value;
    return last === undefined ? undefined : { ino: birth.restoredFrom, moment: last.row.since, until: last.until };
  }

  /** Versions of one inode from a moment back to its beginning. Answers that, or undefined when `from` was passed. */
  async *#line(holder: Holder, followed: Buffer): AsyncGenerator<readonly FileVersion[], Birth | undefined> {
    let group: Group | undefined;
    for (const { row, until } of this.#states(holder.ino, holder.moment)) {
      // What ended before the floor is being dropped, row by row.
      if (until !== undefined && until <= this.#floor) break;
      if (this.#work.due) await this.#work.pause();
      const cause = await this.#cause(row);
      const named = row.nlink === 0 ? undefined : this.#named(row, group?.named.path ?? followed);
      if (group === undefined) {
        if (named === undefined) return undefined;
        group = { row, until: holder.until ?? until, named, newest: cause, oldest: cause, count: 1 };
        continue;
      }
      const hasSamePath = named?.path.equals(group.named.path) === true;
      if (hasSamePath && isWork(cause, group.oldest)) {
        group.oldest = cause;
        group.count++;
        continue;
      }
      const made = hasSamePath ? undefined : await this.#countToBirth(group, row);
      if (made !== undefined) group.count += made;
      if (group.newest.lsn <= this.#from) return undefined;
      yield [await this.#version(group)];
      if (made !== undefined || named === undefined) return birthOf(group);
      group = { row, until: group.oldest.lsn, named, newest: cause, oldest: cause, count: 1 };
    }
    if (group === undefined || group.newest.lsn <= this.#from) return undefined;
    yield [await this.#version(group)];
    return birthOf(group);
  }

  /**
   * If everything from `row` back to the beginning of its inode was one piece of work with the group, which gave it its name: how many records. For a file that
   * replaced another one, processes may differ: `sort f > f.new; mv f.new f`.
   */
  async #countToBirth(group: Group, row: InodeRow): Promise<number | undefined> {
    const { parent, name, since } = group.named;
    const replaced = this.#core.dentry(parent, name, (since - 1) as Lsn) !== undefined;
    const belongs = replaced ? isTemporary : isWork;
    let newer = group.oldest;
    let count = 0;
    for (const state of this.#states(row.ino, row.since)) {
      if (this.#work.due) await this.#work.pause();
      const cause = await this.#cause(state.row);
      if (!belongs(cause, newer) || count === WORK_RECORDS_MAX) return undefined;
      newer = cause;
      count++;
    }
    return count;
  }

  /** The states of an inode that began at or before `at`, newest first. */
  *#states(ino: InodeId, at: Lsn): Generator<{ row: InodeRow; until: Lsn | undefined }> {
    const now = this.#core.store.get(keys.inodeKey(ino));
    const live = now === undefined ? undefined : decodeInode(ino, now);
    if (live !== undefined && live.since <= at) yield { row: live, until: undefined };
    const prefix = keys.inoPrefix(keys.TABLE.INODE_PAST, ino);
    // The state that held at `at` may have ended after it: it is the first with a later end, unless the live one holds since before.
    const isPast = live === undefined || live.since > at;
    const ended = isPast
      ? this.#core.store.range({ gte: keys.inodePastKey(ino, at + 1), lt: keys.prefixEnd(prefix), limit: 1 })[0]
      : undefined;
    if (ended !== undefined) {
      const row = decodeInode(ino, ended.value);
      if (row.since <= at) yield { row, until: keys.lsnAtEnd(ended.key) };
    }
    for (const past of rowsBack(this.#core, prefix, keys.inodePastKey(ino, at + 1))) {
      yield { row: decodeInode(ino, past.value), until: keys.lsnAtEnd(past.key) };
    }
  }

  /** The name an inode had when a state of it began: `followed` if it was one of them. */
  #named(row: InodeRow, followed: Buffer): Named | undefined {
    if (row.parent === row.ino)
      return { parent: row.ino, name: NO_BYTES, since: 1 as Lsn, root: row.ino, path: NO_BYTES };
    let first: Named | undefined;
    // A state that began before the floor is looked at where it can be: with another name it would be another state.
    const at = Math.max(row.since, this.#floor) as Lsn;
    for (const { parent, name, since } of this.#names.at(row.ino, at, NAMES_MAX)) {
      const directory = this.#directories.of(parent, at);
      if (directory === undefined) continue;
      const named = { parent, name, since, root: directory.root, path: joinPath(directory.path, name) };
      if (named.path.equals(followed)) return named;
      first ??= named;
    }
    return first;
  }

  async #cause(row: InodeRow): Promise<Cause> {
    return this.#causeAt(row.since, row.ctime);
  }

  async #causeAt(lsn: Lsn, fallback: Timestamp): Promise<Cause> {
    try {
      const { time, op, actor } = await this.#heads.at(lsn);
      return { lsn, time, op: recordOpName(op), actor };
    } catch (error) {
      if (!(error instanceof TidemarkError) || error.code !== "OUT_OF_HISTORY") throw error;
      return { lsn, time: fallback, op: UNKNOWN_OP, actor: UNKNOWN_ACTOR };
    }
  }

  async #version(group: Group): Promise<FileVersion> {
    const { row, until, named, newest, count } = group;
    const { lsn, time, op, actor } = newest;
    const end = until === undefined ? undefined : await this.#causeAt(until, row.ctime);
    return {
      since: { lsn, time },
      ...(end === undefined ? {} : { until: { lsn: end.lsn, time: end.time } }),
      op,
      recordCount: count,
      ino: row.ino,
      path: named.path,
      attributes: attributesOf(row),
      actor,
      absent: false,
    };
  }

  /** The time after `lost`, when nothing had the path. The attributes are the last ones before. */
  async #absent(holder: Holder, lost: Lsn, until: Lsn | undefined, path: Buffer): Promise<FileVersion> {
    const state = this.#states(holder.ino, holder.moment).next().value;
    if (state === undefined)
      throw new TidemarkError("INTERNAL", `inode ${holder.ino} has a name but no state at LSN ${holder.moment}`);
    const { op, actor, time } = await this.#causeAt(lost, state.row.ctime);
    const end = until === undefined ? undefined : await this.#causeAt(until, state.row.ctime);
    return {
      since: { lsn: lost, time },
      ...(end === undefined ? {} : { until: { lsn: end.lsn, time: end.time } }),
      op,
      recordCount: 1,
      ino: holder.ino,
      path,
      attributes: attributesOf(state.row),
      actor,
      absent: true,
    };
  }
}

const NO_BYTES = Buffer.alloc(0);

function birthOf(group: Group): Birth {
  const { named, oldest, row } = group;
  return { root: named.root, path: named.path, since: named.since, cause: oldest, restoredFrom: row.restoredFrom };
}

/** Whether `older` and `newer` belong to one piece of work. */
function isWork(older: Cause, newer: Cause): boolean {
  if (older.op === UNKNOWN_OP || newer.op === UNKNOWN_OP) return false;
  return isSameActor(older.actor, newer.actor) && nsecBetween(older.time, newer.time) <= WORK_GAP_NSEC;
}

function isTemporary(older: Cause, newer: Cause): boolean {
  if (older.op === UNKNOWN_OP || newer.op === UNKNOWN_OP) return false;
  const isSameUser = older.actor.mountId === newer.actor.mountId && older.actor.uid === newer.actor.uid;
  return isSameUser && nsecBetween(older.time, newer.time) <= TEMPORARY_GAP_NSEC;
}

/** Whether a path was only gone in the middle of a piece of work: as an editor does that moves the old file away first. */
function isSameWork(absent: FileVersion, cause: Cause): boolean {
  return isSameActor(absent.actor, cause.actor) && nsecBetween(absent.since.time, cause.time) <= WORK_GAP_NSEC;
}

function isSameActor(left: Actor, right: Actor): boolean {
  return (
    left.mountId === right.mountId &&
    left.uid === right.uid &&
    left.gid === right.gid &&
    left.pid === right.pid &&
    left.label === right.label
  );
}

function nsecBetween(older: Timestamp, newer: Timestamp): number {
  return Math.abs((newer.sec - older.sec) * 1e9 + (newer.nsec - older.nsec));
}
