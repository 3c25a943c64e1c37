import type { Clock } from "../../base/clock.ts";
import { ABSENT_NAMES_MS } from "../../domain/absent-names.ts";
import type { Actor } from "../../domain/actor.ts";
import { type ErrnoName, FsError } from "../../domain/errors.ts";
import { type InodeId, LIVE, type Lsn, type MountId } from "../../domain/ids.ts";
import type { MetadataApi, RequestContext } from "../../domain/metadata-api.ts";
import type { Validity } from "../fuse/attribute-codec.ts";
import type { RequestHeader } from "../fuse/frame.ts";
import type { Reply } from "../fuse/reply.ts";
import type { Appends } from "./appends.ts";
import { ABSENT_IN_VIEWS_SEC, leasedValidityOf, validityOf } from "./validity.ts";
import { ViewPermissions } from "./view-permissions.ts";

/** Moments that node ids name: a slot stands for one LSN for ever, so that node ids stay right over a restart. */
export interface ViewSlots {
  /** The slot of a moment, 1..SLOT_MAX-1; made if there is none. Throws ENOSPC when all are taken. */
  slotOf(lsn: Lsn): number | Promise<number>;
  /** The moment of a slot, or undefined. */
  lsnOf(slot: number): Lsn | undefined;
}

/** Where the names inside `.tidemark` lead. */
export interface Moments {
  /** The moment a name means (a snapshot, or an absolute UTC time), or undefined. */
  find(name: string): Promise<Lsn | undefined> | Lsn | undefined;
  /** Names of the snapshots, for listing. */
  snapshotNames(): readonly string[] | Promise<readonly string[]>;
}

/** How long answers about live nodes, and permission for any, may be relied on. */
export type Lease = {
  /** Of an answer that is asked for now. May change from one to the next. */
  readonly durationMs: () => number;
  readonly clock: Clock;
};

/** What a mount needs whose locks are kept by the service. */
export type SharedLocks = {
  /** A process before this one served the mount, whose kernel may hold locks from then. */
  readonly resumed: boolean;
  /** Aborts when this process stops to serve the mount, before its connection is taken away: who waits for a lock is then left to the next process. */
  readonly stopping: AbortSignal;
};

/** What the kernel of a live mount may keep of what it is being told. */
export interface KernelNames {
  /** If not, it has to ask for the attributes at each use. */
  mayKeepAttributes(ino: InodeId): boolean;
  /** If not, it has to look names up at each use. With the `name` that it is told of (or that there is none): account is kept of that, so the answer must be followed. */
  mayKeepNames(directory: InodeId, name?: Buffer): boolean;
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
  /** Files whose end the kernel may have wrong. "any": all of them, since others change them at the same time, elsewhere. */
  readonly appends: Pick<Appends, "isDoubtful"> | "any";
  /** How long the kernel may remember that a name is absent (ABSENT_NAMES_MS), in the live share. Absent: as short as while others have caches. */
  readonly absentNamesMs?: () => number;
  /** Absent: the kernel keeps what it is told until it is told otherwise, or its time is over. */
  readonly kernel?: KernelNames;
  /**
   * How long what the kernel is told is good, from when it asked. Absent: as good as for ever, since it is told of every change. With a lease that is so, too, but the news may not get here; and
   * permission, which may end, is decided elsewhere: so it holds for views as well.
   */
  readonly lease?: Lease;
  /** Tells when the caller of an unanswered request has gone, so that it need not be carried out any more. Absent: whatever is asked is answered, soon. */
  readonly givenUp?: (reply: Reply) => AbortSignal;
  /** Locks are kept by the service, across mounts. Absent: by the kernel. As INIT has it (`locks: "service"`), for as long as the mount lives. */
  readonly sharedLocks?: SharedLocks | undefined;
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
    try {
      const done: unknown = this.api.execute({ op: "forget", ino, lookups }, this.ownContext());
      if (done instanceof Promise) done.catch(() => {});
    } catch (error) {
      if (!(error instanceof FsError) || (error.code !== "ENOSPC" && error.code !== "EIO")) throw error;
    }
  }

  /** Who asks, for the answer `reply`. */
  context(header: RequestHeader, reply: Reply): RequestContext {
    const actor = { mountId: this.options.mountId, uid: header.uid, gid: header.gid, pid: header.pid, label: "" };
    const { givenUp } = this.options;
    const { unique, resent } = header;
    return givenUp === undefined ? { actor, unique, resent } : new PatientContext(actor, header, () => givenUp(reply));
  }

  /** For what the mount itself asks. */
  ownContext(): RequestContext {
    const actor = { mountId: this.options.mountId, uid: 0, gid: 0, pid: 0, label: "" };
    return { actor, unique: 0, resent: false };
  }

  /** When a request was taken up, for `validity` of its answer. */
  askedMs(): number {
    const { lease } = this.options;
    return lease === undefined ? 0 : lease.clock.monotonicMs();
  }

  /** How long the answer to a lookup of `name` taken up at `askedMs` may be kept that found nothing in `node`, in seconds. */
  absentSec({ ino, slot, at }: Node, name: Buffer, askedMs: number): number {
    const { lease, absentNamesMs } = this.options;
    const { entrySec } = this.nameValidity({ slot, directory: ino, name }, askedMs);
    if (at !== LIVE) return Math.min(entrySec, ABSENT_IN_VIEWS_SEC);
    const goodMs = absentNamesMs?.() ?? ABSENT_NAMES_MS.shared;
    const passedMs = lease === undefined ? 0 : lease.clock.monotonicMs() - askedMs;
    return Math.min(entrySec, Math.max(0, (goodMs - passedMs) / 1000));
  }

  /** As `validity`, for an answer that tells of a name; of several without `name`. */
  nameValidity(about: { slot: number; directory: InodeId; name?: Buffer; ino?: InodeId }, askedMs: number): Validity {
    const validity = this.validity(about.slot, askedMs, about.ino);
    const mayKeep = about.slot !== 0 || (this.options.kernel?.mayKeepNames(about.directory, about.name) ?? true);
    return mayKeep ? validity : { ...validity, entrySec: 0 };
  }

  /** How long the answer to a request taken up at `askedMs` may be kept, about a node of `slot`. */
  validity(slot: number, askedMs: number, ino?: InodeId): Validity {
    const { lease, kernel } = this.options;
    if (slot === 0 && ino !== undefined && kernel?.mayKeepAttributes(ino) === false)
      return { ...this.validity(slot, askedMs), attributesSec: 0 };
    if (lease === undefined) return validityOf(slot, this.options);
    // From the asking on: whatever the way back takes, the kernel forgets within the lease that began when the service answered, or before.
    return leasedValidityOf(slot, askedMs + lease.durationMs() - lease.clock.monotonicMs(), this.options);
  }
}

/** A context whose signal is made when somebody is about to wait. */
class PatientContext implements RequestContext {
  readonly actor: Actor;
  readonly unique: number;
  readonly resent: boolean;
  readonly #givenUp: () => AbortSignal;

  constructor(actor: Actor, { unique, resent }: RequestHeader, givenUp: () => AbortSignal) {
    this.actor = actor;
    this.unique = unique;
    this.resent = resent;
    this.#givenUp = givenUp;
  }

  get signal(): AbortSignal {
    return this.#givenUp();
  }
}

/** Calls `done` with the result, in the same turn if it is there. */
export function whenDone<T, R = void>(result: T | Promise<T>, done: (value: T) => R | Promise<R>): R | Promise<R> {
  if (result instanceof Promise) return result.then(done);
  return done(result);
}

/** Calls `run`; a refusal with `code` gives `otherwise` instead, in the same turn or later. */
export function unlessRefused<T, O>(code: ErrnoName, run: () => T | Promise<T>, otherwise: O): T | O | Promise<T | O> {
  const instead = (error: unknown): O => {
    if (error instanceof FsError && error.code === code) return otherwise;
    throw error;
  };
  try {
    const result = run();
    return result instanceof Promise ? result.catch(instead) : result;
  } catch (error) {
    return instead(error);
  }
}
