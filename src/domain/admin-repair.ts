import type { Timestamp } from "../base/clock.ts";
import type { AppId, Lsn } from "./ids.ts";

/** Something that is wrong with an object of a repository. `damage`: something can't be restored because of it. */
export type RepairFinding = {
  readonly severity: "damage" | "warning" | "note";
  readonly object: string;
  readonly message: string;
};

/** A moment between which and another a version of a file was. */
export type RepairMoment = { readonly lsn: Lsn; readonly time?: Timestamp };

/** A version of a file that needs data that are lost. */
export type RepairFile = {
  /** Share and path, as it was called then. */
  readonly path: Buffer;
  readonly since: RepairMoment;
  /** Absent: it still is so. */
  readonly until?: RepairMoment;
};

/** What is wrong with an app in its repository, and what a repair did about it. */
export type BackupRepair = {
  readonly app: { readonly id: AppId; readonly namespace: string; readonly name: string };
  /** At most REPAIR_FINDINGS_MAX. */
  readonly findings: readonly RepairFinding[];
  /** `whole`: the rows need nothing. `checkpoint`: a new checkpoint stands for what is damaged of them. `base`: they are shipped anew from the live app; history that only the repository had is lost. */
  readonly rows: "whole" | "checkpoint" | "base";
  /** Packs of which something is lost. */
  readonly lostPackCount: number;
  /** Of data that can't be read from the repository, and those of them that were stored anew; of a dry run 0. */
  readonly lostBytes: bigint;
  readonly restoredBytes: bigint;
  /** Versions of files that need lost data: of a dry run before any are restored, else those that the live app hasn't either. At most REPAIR_FILES_MAX. */
  readonly files: readonly RepairFile[];
};

export const REPAIR_FINDINGS_MAX = 1000;
export const REPAIR_FILES_MAX = 1000;
