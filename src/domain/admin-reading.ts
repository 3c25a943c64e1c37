import type { Timestamp } from "../base/clock.ts";
import type { Actor } from "./actor.ts";
import type { CallOptions, Pages } from "./admin-call.ts";
import type { AppId, InodeId, Lsn, ShareId } from "./ids.ts";
import type { MomentRef, ResolvedMoment } from "./moment.ts";
import type { AppRef, SharePath } from "./share-path.ts";

/** Every attribute of a file, as `stat` and `statx` tell them. */
export type FileAttributes = {
  readonly ino: InodeId;
  /** Type and permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  /** Device number in Linux's 32-bit new_encode_dev form; 0 when not a device. */
  readonly rdev: number;
  readonly size: bigint;
  readonly allocatedBytes: bigint;
  readonly atime: Timestamp;
  readonly mtime: Timestamp;
  readonly ctime: Timestamp;
  readonly btime: Timestamp;
};

export type Xattr = { readonly name: Buffer; readonly value: Buffer };

/** A place that was found. */
export type ResolvedPath = {
  readonly appId: AppId;
  readonly shareId: ShareId;
  readonly ino: InodeId;
  readonly at: ResolvedMoment;
};

export type FileStat = {
  readonly at: ResolvedMoment;
  readonly attributes: FileAttributes;
  /** The target of a symbolic link, else empty. */
  readonly target: Buffer;
  readonly xattrs: readonly Xattr[];
};

/** One name of a directory. In a listing of an app: one of its shares, with the attributes of its root. */
export type ListEntry = {
  readonly name: Buffer;
  readonly attributes: FileAttributes;
  /** The target of a symbolic link, else empty. */
  readonly target: Buffer;
};

/** A place at a moment. Symbolic links are never followed: an absolute one leads out of the share anyway. */
export type ReadRequestAt = { readonly path: SharePath; readonly at: MomentRef };

/** Stored bytes of a file, as opposed to a hole. Never empty. */
export type DataRange = { readonly offset: bigint; readonly length: bigint };

/** Ranges in one item of an exported tree: about 64 KiB. */
export const EXPORT_RANGES_MAX = 4096;

/**
 * A tree as a stream, depth first, each directory before its contents, names of one directory in any order that is the same each time. One moment cuts through all of it.
 *
 * `entry` opens a file; `path` is relative to the asked path, empty for that itself (always the first item). When `contentFollows`, `data` items of
 * that file follow in ascending order without overlap, at most CONTENT_PIECE_BYTES_MAX each; what they leave out below `attributes.size` is hole.
 * Where they were asked for, `ranges` items (at most EXPORT_RANGES_MAX ranges each) come before the first `data` and tell all that will be data: ascending, neighbours joined.
 * Then `end` closes it: `complete` false means that some content is damaged (an alarm is logged) and `message` says what. A regular file with several names in the tree has its
 * content after the first of them; later ones have `contentFollows` false and `linkedTo`, the path of that first one.
 * Directories, links, devices and later names have no `end`.
 */
export type ExportItem =
  | {
      readonly kind: "entry";
      readonly path: Buffer;
      readonly attributes: FileAttributes;
      readonly target: Buffer;
      readonly xattrs: readonly Xattr[];
      readonly contentFollows: boolean;
      readonly linkedTo?: Buffer;
    }
  | { readonly kind: "ranges"; readonly ranges: readonly DataRange[] }
  | { readonly kind: "data"; readonly offset: bigint; readonly bytes: Buffer }
  | { readonly kind: "end"; readonly complete: boolean; readonly message?: string };

/**
 * Reading at a moment. All throw NOT_FOUND (nothing there then), OUT_OF_HISTORY (the moment is older than what is kept), INVALID_ARGUMENT
 * (e.g. a share is needed and the path names an app only).
 */
export interface ReadingApi {
  /** What a moment means in an app's journal. */
  resolveMoment(request: { app: AppRef; at: MomentRef }, options?: CallOptions): Promise<ResolvedMoment>;
  /** Finds a path. */
  resolve(request: ReadRequestAt, options?: CallOptions): Promise<ResolvedPath>;
  /** Attributes, link target and extended attributes. */
  stat(request: ReadRequestAt, options?: CallOptions): Promise<FileStat>;
  /** The names of a directory, or that one file; of an app: its shares. By name, bytewise. */
  list(request: ReadRequestAt, options?: CallOptions): Pages<ListEntry>;
  /**
   * The content of a regular file from `offset`, at most `length` bytes (absent: to its end), holes as zeros, in pieces of at most CONTENT_PIECE_BYTES_MAX.
   * One moment for all of it. DATA_DAMAGED where stored bytes are missing or damaged: what was delivered before is right.
   */
  read(request: ReadRequestAt & { offset: bigint; length?: bigint }, options?: CallOptions): AsyncIterable<Buffer>;
  /** See ExportItem; without `content` only entries come, none of which is followed by content (nor by ranges). Items come in pages; each `data` item is at most CONTENT_PIECE_BYTES_MAX and a page at most twice that. */
  exportTree(request: ReadRequestAt & { content: boolean; ranges?: boolean }, options?: CallOptions): Pages<ExportItem>;
}

/** One journal record, for people and programs. */
export type LogRecord = {
  readonly lsn: Lsn;
  readonly time: Timestamp;
  /** Name of the operation (src/domain/record-op.ts), e.g. "WRITE". */
  readonly op: string;
  /** The share it was in; absent for records of the app itself. */
  readonly share?: { readonly id: ShareId; readonly name: string };
  /** Inside the share, as it was right after the record (of a name that went: right before). Empty for the root, and when there is no path. */
  readonly path: Buffer;
  /** RENAME: the new path. */
  readonly newPath?: Buffer;
  /** 0 when no inode is concerned. */
  readonly ino: InodeId | 0;
  readonly actor: Actor;
  /** The operation's own: offset, length, mode, xattr name, snapshot name, ... in a stable order. */
  readonly details: readonly LogDetail[];
};

export type LogDetail = { readonly name: string; readonly value: string | number | bigint | boolean };

export type LogRequest = {
  /** An app, a share, or a path: then only records about that path or below it, by what paths were called at the time. */
  readonly path: SharePath;
  /** Records after this moment; absent: from the oldest that is kept. */
  readonly from?: MomentRef;
  /** Records up to and including this moment; absent: to the end. Not with `follow`. */
  readonly to?: MomentRef;
  readonly order: "oldest-first" | "newest-first";
  /** At most so many records. */
  readonly countMax?: number;
  /** Never ends: waits for further records. Only oldest-first. Sees records when they are in the journal, durable or not. */
  readonly follow: boolean;
};

/** A version of a file: a time during which its content and attributes were left alone. */
export type FileVersion = {
  readonly since: { readonly lsn: Lsn; readonly time: Timestamp };
  /** Absent for the one that still holds. */
  readonly until?: { readonly lsn: Lsn; readonly time: Timestamp };
  /** What began it: the name of the operation, of the last record where several were joined. */
  readonly op: string;
  /** How many records of one uninterrupted piece of work (one actor, each within a second of the one before) were joined into this version. */
  readonly recordCount: number;
  readonly ino: InodeId;
  /** The path in the share during this version; a rename begins a new version. */
  readonly path: Buffer;
  readonly attributes: FileAttributes;
  readonly actor: Actor;
  /** The file did not exist during this time (after an unlink, until the name came back). */
  readonly absent: boolean;
};

export type DiffChange = "type" | "content" | "mode" | "owner" | "times" | "xattrs" | "target" | "device" | "links";

/** A difference between two moments, identified by inode: what was moved is `moved`, with its changes, not removed and added. */
export type DiffEntry = {
  readonly kind: "added" | "removed" | "changed" | "moved";
  readonly share: { readonly id: ShareId; readonly name: string };
  /** At the later moment; for `removed` at the earlier one. */
  readonly path: Buffer;
  /** For `moved`: the path at the earlier moment. */
  readonly pathBefore?: Buffer;
  readonly before?: FileAttributes;
  readonly after?: FileAttributes;
  readonly changes: readonly DiffChange[];
};

/** A name of an inode, as long as it was there. "Written beside and renamed over" does not end it. */
export type FoundName = {
  readonly share: { readonly id: ShareId; readonly name: string };
  /** Inside the share, when it went, or now. */
  readonly path: Buffer;
  /** Of the inode, likewise. */
  readonly attributes: FileAttributes;
  readonly since: { readonly lsn: Lsn; readonly time: Timestamp };
  /** The record that took it away; absent: it is there. */
  readonly until?: { readonly lsn: Lsn; readonly time: Timestamp };
};

/** What happened, from the journal. Errors as in ReadingApi. */
export interface HistoryApi {
  /** See LogRequest. Cancelling is the only end of a `follow`. */
  log(request: LogRequest, options?: CallOptions): Pages<LogRecord>;
  /** Versions, newest first, of the file that has (or, being absent, last had) this path, across renames and "write a temporary file and rename it over". */
  history(
    request: { path: SharePath; from?: MomentRef; to?: MomentRef; countMax?: number },
    options?: CallOptions,
  ): Pages<FileVersion>;
  /** By path, bytewise, shares one after the other. Costs what changed, not what is there. */
  diff(request: { path: SharePath; from: MomentRef; to: MomentRef }, options?: CallOptions): Pages<DiffEntry>;
  /** Names that match `pattern` (see NamePattern) over all the history of an app or a share that is kept, in no particular order. INVALID_ARGUMENT for a path inside a share. */
  find(request: { path: SharePath; pattern: Buffer; deletedOnly: boolean }, options?: CallOptions): Pages<FoundName>;
}
