import type { Timestamp } from "../base/clock.ts";
import type { Actor } from "./actor.ts";
import type { CallOptions } from "./admin-call.ts";
import type { FileAttributes, LogDetail } from "./admin-reading.ts";
import type { AppId, InodeId, Lsn, ShareId } from "./ids.ts";
import type { MomentRef, ResolvedMoment } from "./moment.ts";
import type { SharePath } from "./share-path.ts";

/**
 * Where a reader of a journal is: it has seen every record up to `lsn`, wanted or not. `time` is that of this record: a reader that gives it back learns when the journal has gone another way meanwhile
 * (it was recovered from a repository as of an earlier record). Absent for 0, and where it is not known.
 */
export type ChangeCursor = { readonly lsn: Lsn; readonly time?: Timestamp };

export type ChangesRequest = {
  /** An app, a share, or a path: then only records about that path or below it, by what paths were called at the time. */
  readonly path: SharePath;
  /** For guards, never from outside: only what was below this directory of the share at the time. All paths, that of the request too, are then relative to it. */
  readonly within?: InodeId;
  /** Records after this moment, without it; absent: from the very beginning. */
  readonly from?: MomentRef;
  /** The time of the record `from`, as the cursor had it: checked, if that record is still there. */
  readonly fromTime?: Timestamp;
  /** Records up to this moment, with it: then the stream ends. Absent: up to what is durable now. Not with `follow`. */
  readonly to?: MomentRef;
  /** Names of operations (src/domain/record-op.ts). None: all but LOCK, which is no change. */
  readonly operations: readonly string[];
  /** Never ends: goes on with new records as they become durable. */
  readonly follow: boolean;
  /** With `follow`: after so long without a record a page without any tells the cursor. 5 s when absent. */
  readonly heartbeatMs?: number;
};

export const HEARTBEAT_MS_DEFAULT = 5_000;
/** Less would be load without use; more, and a dead connection is noticed late. */
export const HEARTBEAT_MS_MIN = 100;
export const HEARTBEAT_MS_MAX = 60_000;

/** Some of the records, and where to go on. Pages without records come too: at the end, from time to time while many records are passed over, and as heartbeats. */
export type ChangesPage = {
  /** The app, also when another one has its name by now: whoever goes on later asks for `name@id`. */
  readonly appId: AppId;
  readonly records: readonly ChangeRecord[];
  readonly cursor: ChangeCursor;
  /** How far the journal was durable: equal to the cursor's, the reader has everything. */
  readonly durableLsn: Lsn;
};

/** The name of another inode that a record gave or took: of a file that was renamed over, exchanged, or left as a whiteout. */
export type OtherName = { readonly ino: InodeId; readonly path: Buffer; readonly change: "gained" | "lost" };

/** One journal record, for programs. Paths are inside the share, as they were then; only those that are wanted are told. */
export type ChangeRecord = {
  readonly lsn: Lsn;
  readonly time: Timestamp;
  /** Name of the operation (src/domain/record-op.ts). */
  readonly op: string;
  /** Absent for records of the app itself. */
  readonly share?: { readonly id: ShareId; readonly name: string };
  /** The inode it is about; 0: none. */
  readonly ino: InodeId | 0;
  /** The name that was made, taken away, or (with `newPath`) moved; else all names the inode had, at most CHANGE_PATHS_MAX of them. */
  readonly paths: readonly Buffer[];
  /** Where a renamed inode, or one that a restore moved, went. */
  readonly newPath?: Buffer;
  /** A rename over the border of what is wanted. What is below a directory comes and goes with it, without records of its own. */
  readonly crossing?: "entered" | "left";
  readonly others: readonly OtherName[];
  /** WRITE, FALLOCATE, COPY_RANGE: the bytes of the inode that it is about. */
  readonly range?: { readonly offset: bigint; readonly length: bigint };
  /** FALLOCATE: what happened to the range. */
  readonly allocation?: "allocate" | "punch" | "zero";
  /** COPY_RANGE: where the bytes are from. */
  readonly source?: { readonly ino: InodeId; readonly offset: bigint };
  /** SETATTR: what was set: mode, uid, gid, size, atime, mtime, ctime. */
  readonly set: readonly string[];
  /** SETXATTR, REMOVEXATTR: the attribute. */
  readonly xattr?: Buffer;
  /** Of a symbolic link. */
  readonly target?: Buffer;
  /** The inode after the record; absent when the record ended it. */
  readonly attributes?: FileAttributes;
  /** The size before the record, where it changed. */
  readonly sizeBefore?: bigint;
  /** All content is other content now: truncated to zero, or restored. */
  readonly contentReplaced: boolean;
  readonly actor: Actor;
  /** Of records of the app itself (snapshots, restores, shares, space): their own words, in a stable order. */
  readonly details: readonly LogDetail[];
};

/** Names of one inode in a record: a tool that needs more looks the inode up in a view. */
export const CHANGE_PATHS_MAX = 64;

/** Why a delta names an inode that was there at both moments. `ctime`: nothing else differs. */
export const DELTA_CHANGES = [
  "content",
  "size",
  "mode",
  "owner",
  "times",
  "xattrs",
  "target",
  "device",
  "links",
  "ctime",
] as const;
export type DeltaChange = (typeof DELTA_CHANGES)[number];

/** What is where a name was: nothing, something else, or not even the directory it was in. */
export type NameNow = "nothing" | "other" | "no-directory";

/** A name of an inode. `path` is the one at `to`, of a removed name that at `from`. */
export type DeltaName =
  | {
      readonly state: "kept" | "added";
      /** The directory it is in; 0 for a root. */
      readonly parent: InodeId | 0;
      readonly path: Buffer;
      /** Of a kept name that has another path, as a directory above it was renamed. */
      readonly pathBefore?: Buffer;
    }
  | { readonly state: "removed"; readonly parent: InodeId | 0; readonly path: Buffer; readonly now: NameNow };

/** Bytes of a file that differ: to be read from the view at `to`, or punched. Never empty. */
export type DeltaExtent = { readonly kind: "data" | "hole"; readonly offset: bigint; readonly length: bigint };

/**
 * An inode that is not what it was. One with many extents or names comes as several entries after each other, all but the last with `continues`; the first has everything but
 * the rest of the names and extents.
 */
export type DeltaEntry = {
  readonly ino: InodeId;
  /** Whether it was, and is, in what was asked for. */
  readonly kind: "created" | "deleted" | "changed";
  readonly continues: boolean;
  /** Every name at either moment. */
  readonly names: readonly DeltaName[];
  readonly changes: readonly DeltaChange[];
  readonly before?: FileAttributes;
  readonly after?: FileAttributes;
  /** The target of a symbolic link at `to`, else empty. */
  readonly target: Buffer;
  /** Of a regular file, below its size at `to`, ascending, neighbours of one kind joined. Bytes past the former size that no extent covers are holes. */
  readonly extents: readonly DeltaExtent[];
};

export type ShareDeltaRequest = {
  /** A share, or a path in it: what had a name there or below at either moment. */
  readonly path: SharePath;
  /** As in ChangesRequest. */
  readonly within?: InodeId;
  readonly from: MomentRef;
  /** Not before `from`. Made durable first. */
  readonly to: MomentRef;
  /** Names are told by path, for tools that know only paths: what is below a renamed directory has entries of its own, and what only has another path counts as removed there and added here. */
  readonly byPath: boolean;
};

/** Some of the entries, by inode number; the first page always comes. */
export type ShareDeltaPage = {
  readonly appId: AppId;
  readonly from: ResolvedMoment;
  readonly to: ResolvedMoment;
  /** How what changed was found: in the journal, at the cost of what changed; or, where records between the moments are gone, by looking at every inode. */
  readonly foundIn: "journal" | "rows";
  readonly entries: readonly DeltaEntry[];
};

/** What changed, for backup tools. Errors as in ReadingApi. At the reader's pace, in bounded memory; leaving the loop ends the call. */
export interface ChangesApi {
  /**
   * The records of an app, in order, durable ones only. OUT_OF_HISTORY, at any time, when records the reader has not seen are gone: `data.from` is the oldest moment to go on from. The reader then needs
   * another beginning: take a moment (`data.lsn` of the error, or a snapshot), read everything as of it, and go on from it. FAILED_PRECONDITION: the journal does not have the cursor.
   */
  changes(request: ChangesRequest, options?: CallOptions): AsyncIterable<ChangesPage>;
  /** What differs between two moments of a share, with the bytes of files that do. INVALID_ARGUMENT when `to` is before `from`, FAILED_PRECONDITION when too much changed. */
  shareDelta(request: ShareDeltaRequest, options?: CallOptions): AsyncIterable<ShareDeltaPage>;
}
