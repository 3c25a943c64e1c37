import { FsError } from "../../domain/errors.ts";
import { type InodeId, LIVE, type Lsn, type MountId } from "../../domain/ids.ts";
import type { MetadataApi, RequestContext } from "../../domain/metadata-api.ts";
import type { RequestHeader } from "../fuse/frame.ts";
import type { Appends } from "./appends.ts";
import { ViewPermissions } from "./view-permissions.ts";

/** Moments that node ids name: a slot stands for one LSN for ever, so that node ids stay right over a restart. */
export interface ViewSlots {
  /** The slot of a moment, 1..SLOT_MAX-1; made if there is none. Throws ENOSPC when all are taken. */
  slotOf(lsn: Lsn): number;
  /** The moment of a slot, or undefined. */
  lsnOf(slot: number): Lsn | undefined;
}

/** Where the names inside `.tidemark` lead. */
export interface Moments {
  /** The moment a name means (a snapshot, or an absolute UTC time), or undefined. */
  find(name: string): Promise<Lsn | undefined> | Lsn | undefined;
  /** Names of the snapshots, for listing. */
  snapshotNames(): readonly string[];
}

export type VfsOptions = {
  readonly api: MetadataApi;
  readonly mountId: MountId;
  /** Root directory of the share. */
  readonly root: InodeId;
  /** `LIVE`, or the moment this mount is a view of. */
  readonly at: Lsn;
  readonly readOnly: boolean;
  /** Who may look into `.tidemark` now. A mount that is itself a view has none. */
  readonly views: () => "off" | "root" | "users";
  /** Each open is asked for, so that it can be checked: for shares whose views users may read. Fixed as long as the mount lives: the kernel never unlearns ENOSYS. */
  readonly asksOpens: boolean;
  /** Groups of the process (or thread) `pid` beside its own one; none if it is not known. */
  readonly groupsOf: (pid: number) => readonly number[];
  /** A file's end is not where the kernel of this mount thinks: it has to forget what it cached. */
  readonly misplaced: (ino: InodeId) => void;
  readonly appends: Appends;
  readonly slots: ViewSlots;
  readonly moments: Moments;
};

/** The kernel's number for the root of every mount. The engine never gives it to an inode. */
const ROOT_NODE = 1;

/** The node of `.tidemark` itself: the last slot, number 1. */
export const VIEWS_SLOT = 2 ** 23 - 1;
export const VIEWS_NAME = Buffer.from(".tidemark");

/** A node as requests name it, in terms of the engine. */
export type Node = { readonly ino: InodeId; readonly at: Lsn; readonly slot: number };

/** What all operations of one mount share: node numbers, who asks, how long answers hold. */
export class VfsContext {
  readonly options: VfsOptions;
  readonly api: MetadataApi;
  readonly permissions: ViewPermissions;

  constructor(options: VfsOptions) {
    this.options = options;
    this.api = options.api;
    this.permissions = new ViewPermissions(this);
  }

  /** The node a request is about. Throws ESTALE for a slot that does not exist. */
  node(slot: number, ino: number): Node {
    const number = (ino === ROOT_NODE ? this.options.root : ino) as InodeId;
    if (slot === 0) return { ino: number, at: this.options.at, slot };
    const at = this.options.slots.lsnOf(slot);
    if (at === undefined) throw FsError.of("ESTALE");
    return { ino: number, at, slot };
  }

  /** The node of a change. Throws EROFS for anything past and on read-only mounts. */
  liveNode(slot: number, ino: number): InodeId {
    if (slot !== 0 || this.options.readOnly || this.options.at !== LIVE) throw FsError.of("EROFS");
    return (ino === ROOT_NODE ? this.options.root : ino) as InodeId;
  }

  /** The number the kernel is told: the root is 1 wherever it appears. */
  numberOf(ino: number): number {
    return ino === this.options.root ? ROOT_NODE : ino;
  }

  isRoot(slot: number, ino: number): boolean {
    return slot === 0 && ino === ROOT_NODE;
  }

  /** Whether the node is the hidden directory of views. */
  isViews(slot: number): boolean {
    return slot === VIEWS_SLOT;
  }

  get hasViews(): boolean {
    return this.options.at === LIVE && this.options.views() !== "off";
  }

  /**
   * The kernel forgets `lookups` of the times it was told of a live inode. FORGET has no answer: an orphan that can't be ended now (a full disk) stays one,
   * and ends with the mount.
   */
  forget(ino: InodeId, lookups: number): void {
    const actor = { mountId: this.options.mountId, uid: 0, gid: 0, pid: 0, label: "" };
    try {
      this.api.execute({ op: "forget", ino, lookups }, { actor, unique: 0, resent: false });
    } catch (error) {
      if (!(error instanceof FsError) || (error.code !== "ENOSPC" && error.code !== "EIO")) throw error;
    }
  }

  context(header: RequestHeader): RequestContext {
    return {
      actor: { mountId: this.options.mountId, uid: header.uid, gid: header.gid, pid: header.pid, label: "" },
      unique: header.unique,
      resent: header.resent,
    };
  }
}

/** Calls `done` with the result, in the same turn if it is there. */
export function whenDone<T>(result: T | Promise<T>, done: (value: T) => void): void | Promise<void> {
  if (result instanceof Promise) return result.then(done);
  done(result);
}
