import type { Timestamp } from "../base/clock.ts";
import type { CallOptions } from "./admin-call.ts";
import type { AppId, InodeId, Lsn } from "./ids.ts";
import type { SharePath } from "./share-path.ts";

/** What an order to erase is about, and what it may do. */
export type PurgeRequest = {
  /** A file, or a directory with everything that was ever below it. */
  readonly path: SharePath;
  /** Also bytes that other files share: theirs are gone too then. */
  readonly shared: boolean;
  /** Files that are there now are deleted first. */
  readonly liveToo: boolean;
};

/** A file that an order concerns, or is in its way. */
export type PurgeFile = {
  readonly ino: InodeId;
  /** One of its paths, with the share in front: now, or the last one. */
  readonly path: Buffer;
};

/** What an order would do. */
export type PurgePlan = {
  readonly app: { readonly id: AppId; readonly namespace: string; readonly name: string };
  /** Files that have, or ever had, the path or one below it, as far back as history is kept. */
  readonly fileCount: number;
  readonly files: readonly PurgeFile[];
  /** States of these files that history has. */
  readonly versionCount: number;
  /** Writes whose bytes are erased, and how many bytes that is: copies of them that cleaning made included. */
  readonly recordCount: number;
  readonly bytes: bigint;
  /** Of the files, those that are there now. */
  readonly liveCount: number;
  readonly live: readonly PurgeFile[];
  /** Other files that share some of the bytes. */
  readonly sharedCount: number;
  readonly shared: readonly (PurgeFile & { readonly bytes: bigint })[];
  /** Snapshots in which any of the files is. */
  readonly snapshotCount: number;
  readonly snapshots: readonly string[];
  /** The repository the app is backed up to, if any; `hasIt`: some of it is there already. */
  readonly repository?: { readonly name: string; readonly hasIt: boolean };
};

/** Files and snapshots that a plan names; it counts all. */
export const PURGE_NAMED_MAX = 100;

/** Longest reason of an order, in bytes. */
export const PURGE_REASON_BYTES_MAX = 1000;

/** What was done. */
export type PurgeResult = {
  readonly plan: PurgePlan;
  /** The record that says so; absent: there was nothing to erase any more. */
  readonly lsn?: Lsn;
  readonly time?: Timestamp;
  /** Files that a process has open still: what it writes to them from now on is not erased. */
  readonly openCount: number;
};

/** Erasing content for ever. */
export interface PurgeApi {
  /** What an order would do. Throws NOT_FOUND when nothing ever had the path. */
  planPurge(request: PurgeRequest, options?: CallOptions): Promise<PurgePlan>;
  /**
   * Erases the content of all files that have or ever had the path, at all moments. Answers when it is gone from the data folder; a repository is told with the next backup, and loses it with the pruning after that. Names and attributes stay. FAILED_PRECONDITION
   * with nothing changed when files are there now (without `liveToo`) or others share the bytes (without `shared`). Cut short, it is carried through at the service's next start, if the record was written. May run twice.
   */
  purge(request: PurgeRequest & { readonly reason: string }, options?: CallOptions): Promise<PurgeResult>;
}
