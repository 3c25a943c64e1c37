import type { Timestamp } from "../base/clock.ts";
import type { Actor } from "./actor.ts";
import type { CallOptions } from "./admin-call.ts";
import type { FileAttributes } from "./admin-reading.ts";
import type { InodeId, Lsn, ShareId } from "./ids.ts";
import type { MomentRef, ResolvedMoment } from "./moment.ts";
import type { AppRef, SharePath } from "./share-path.ts";

/**
 * What to put back. Restore to a path outside the shares is not here: the client does it with ReadingApi.exportTree.
 *
 * `mirror`: below the place everything becomes exactly as it was, what came since is deleted. `overlay`: what was there is put back, what came since is kept.
 */
export type RestoreRequest =
  | {
      readonly kind: "restore";
      /** A file, a directory, a share, or a whole app. Paths are those of the moment. */
      readonly source: SharePath;
      readonly at: MomentRef;
      /**
       * Another place, in any share: becomes what the source was (a name that is taken is changed or replaced, by `mode`). Absent: in place.
       * Its parent must exist. Not with an app as source. Within one app extents are shared, between apps data is copied.
       */
      readonly target?: SharePath;
      readonly mode: "mirror" | "overlay";
    }
  /** Takes a restore back: whatever it changed becomes as it was before, which is itself a restore and can be undone. Later changes of the same files are lost, the plan shows them. */
  | {
      readonly kind: "undo";
      readonly app: AppRef;
      /** Absent: the app's newest that is not undone. */
      readonly restoreId?: string;
    };

export type RestoredPart = "content" | "mode" | "owner" | "times" | "xattrs" | "target";

/** One planned change. Paths are inside the share, at the target. */
export type PlanAction = {
  /**
   * `create`: a name and an inode that is dead now, so it gets a new number that names the old. `link`: a name for an inode that is alive
   * (elsewhere, or made by an earlier action). `change`: the inode that has this name keeps it. `delete`: the name came since. `replace`: the name means another inode now: `delete` and `create` or `link` in one.
   * `share`: a share is undeleted or created.
   */
  readonly kind: "create" | "link" | "change" | "delete" | "replace" | "share";
  readonly share: { readonly id: ShareId; readonly name: string };
  readonly path: Buffer;
  /** Of what is put back; for `delete` of what goes. */
  readonly attributes: FileAttributes;
  /** The inode at the moment; 0 for `delete`. */
  readonly inoThen: InodeId | 0;
  /** For `change`: what differs. */
  readonly parts: readonly RestoredPart[];
  /** For `change`: other names of the same inode, which change with it. At most OTHER_NAMES_MAX of them. */
  readonly otherNames: readonly Buffer[];
};

/** An inode has up to 65,000 links; a plan names the first few. */
export const OTHER_NAMES_MAX = 16;

export type PlanSummary = {
  readonly at: ResolvedMoment;
  /** The journal's position the plan was made for. */
  readonly plannedAt: Lsn;
  readonly counts: Readonly<Record<PlanAction["kind"], number>>;
  /** Bytes of content that are put back, and that are deleted. */
  readonly restoredBytes: bigint;
  readonly deletedBytes: bigint;
  /** What will not be as it was, in words. */
  readonly limitations: readonly string[];
};

/** A plan is its actions, parents before children, then one summary as the last item. A plan without actions means that nothing differs. */
export type PlanItem =
  | { readonly kind: "actions"; readonly actions: readonly PlanAction[] }
  | { readonly kind: "summary"; readonly summary: PlanSummary };

/** Progress comes at least every second while it runs, then `done` is the last item. */
export type RestoreProgress =
  | {
      readonly kind: "progress";
      readonly actionsDone: number;
      /** Absent as long as it is not known. */
      readonly actionsTotal?: number;
      readonly path: Buffer;
    }
  | { readonly kind: "done"; readonly result: RestoreResult };

export type RestoreResult = {
  readonly restoreId: string;
  /** The automatic snapshot made before the first change; absent when nothing differed, and for an empty app. */
  readonly snapshot?: string;
  /** LSNs of the bracketing records. */
  readonly firstLsn: Lsn;
  readonly lastLsn: Lsn;
  readonly summary: PlanSummary;
};

export type RestoreInfo = {
  readonly id: string;
  readonly kind: "restore" | "undo";
  /** `running`: in work now; `interrupted`: cancelled, failed, or cut by a crash that could not be continued; what was done can be undone. */
  readonly state: "running" | "done" | "interrupted" | "undone";
  readonly path: SharePath;
  readonly at: ResolvedMoment;
  readonly startedAt: Timestamp;
  readonly firstLsn: Lsn;
  /** 0 while it runs. */
  readonly lastLsn: Lsn;
  readonly actor: Actor;
};

export interface RestoreApi {
  /** What `execute` of the same request would do if it were called now. Changes nothing. */
  plan(request: RestoreRequest, options?: CallOptions): AsyncIterable<PlanItem>;
  /**
   * Plans afresh and executes, bracketed by records, after an automatic snapshot. Each action is atomic. A crash half-way is continued at the next start.
   * Cancelling stops after the running action: the rest stays as it is, and undo takes back what was done. FAILED_PRECONDITION while another restore of the app runs.
   * Durable before `done`.
   */
  execute(request: RestoreRequest, options?: CallOptions): AsyncIterable<RestoreProgress>;
  /** Newest first, at most `countMax`. */
  listRestores(request: { app: AppRef; countMax: number }, options?: CallOptions): Promise<readonly RestoreInfo[]>;
}
