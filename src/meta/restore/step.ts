import type { PlanAction, RestoredPart } from "../../domain/admin-restore.ts";
import type { InodeId, Lsn, ShareId } from "../../domain/ids.ts";
import type { EngineCore } from "../core.ts";
import type { InodeRow } from "../rows.ts";

/** An app as of one moment, which never changes. */
export type Side = { readonly core: EngineCore; readonly at: Lsn };

export type ShareLabel = PlanAction["share"];

/** A directory that things are put into. */
export type TargetDirectory = {
  readonly share: ShareLabel;
  readonly path: Buffer;
  /** Its number before the restore; undefined for one that the restore makes. */
  readonly before: InodeId | undefined;
  /** Its number now: set by whoever carries out the step that makes it. Undefined in a plan, and when it could not be made. */
  ino: InodeId | undefined;
  /** Whether it is restored itself, so that its own times are those of the moment, not of our changes in it. */
  readonly isRestored: boolean;
};

/** Which inode is to have a name: one that was alive before the restore, the one made by an earlier step for the same file, or a new one. */
export type Wanted =
  | { readonly kind: "alive"; readonly ino: InodeId }
  | { readonly kind: "made" }
  | { readonly kind: "new" };

/** What a step does. */
export type Change =
  | {
      readonly kind: "put";
      readonly directory: TargetDirectory;
      readonly name: Buffer;
      /** As of the source moment. */
      readonly source: InodeRow;
      readonly wanted: Wanted;
      /** What of an inode that is alive differs. */
      readonly parts: readonly RestoredPart[];
      /** More names of the same file follow. */
      readonly isLinked: boolean;
      /** For a directory: the node whose `ino` this sets. */
      readonly made?: TargetDirectory;
    }
  | {
      readonly kind: "change";
      readonly ino: InodeId;
      readonly source: InodeRow;
      readonly at: { readonly directory: TargetDirectory; readonly name: Buffer } | undefined;
    }
  | { readonly kind: "remove"; readonly directory: TargetDirectory; readonly name: Buffer; readonly ino: InodeId }
  | { readonly kind: "share"; readonly id: ShareId; readonly deleted: boolean }
  /** Goes with the directory it is in: for people only. */
  | { readonly kind: "none" };

/** One step of a restore: what people see of it, and what is done. */
export type Step = { readonly action: PlanAction; readonly change: Change };

/** By which rules a restore decides. */
export type Rules = {
  /** The past that is put back. */
  readonly source: Side;
  /** The app that it is put into, as of the LSN before the restore. */
  readonly target: Side;
  /** `inode`: a file that is alive keeps its number, wherever it is. `name`: a copy beside it; a name that is taken is changed. */
  readonly identity: "inode" | "name";
  /** Whether what came since goes. */
  readonly mirror: boolean;
  /** `new`: what is below a directory that keeps its number is left alone. */
  readonly goesInto: "all" | "new";
  /** Whether a directory that is alive elsewhere is moved here; else another one is made. */
  readonly mayMove: (directory: InodeId) => boolean;
  /** Whether a directory that loses its name here was elsewhere at the moment, and will be put there. */
  readonly isPutElsewhere: (directory: InodeId) => boolean;
  /** Words for people about what will not be as it was. Said once each. */
  readonly limitations: Set<string>;
};
