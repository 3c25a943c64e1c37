import type { Timestamp } from "../base/clock.ts";
import type { CallOptions, Pages } from "./admin-call.ts";
import type { AppInfo } from "./admin-catalogue.ts";
import type { Lsn } from "./ids.ts";

/** Something a person should look at. Kept until the service restarts, the newest ALARMS_MAX. */
export type Alarm = {
  readonly time: Timestamp;
  /** Stable, e.g. "DATA_DAMAGED", "SYNC_FAILED", "HISTORY_DROPPED", "REQUEST_POISONED". */
  readonly code: string;
  /** `[namespace:]app`, empty when it concerns all. */
  readonly app: string;
  readonly message: string;
};

/** As many as a person reads. */
export const ALARMS_MAX = 100;

export type SupervisorStatus = {
  /** `none`: the service runs without one. `lost`: it died; the service goes on, but a crash of it now breaks mounts. */
  readonly state: "running" | "lost" | "none";
  readonly pid: number;
  /** How often it started the service again after a death. */
  readonly restartCount: number;
  /** The kernel delivers requests again after a restart (FUSE_HAS_RESEND, Linux 6.9); false: mounts are made anew instead. */
  readonly kernelResends: boolean;
};

export type ServiceStatus = {
  readonly version: string;
  readonly pid: number;
  readonly dataFolder: string;
  readonly startedAt: Timestamp;
  readonly supervisor: SupervisorStatus;
  /** False without /dev/fuse or without the right to mount; `mountsMessage` says what is missing. */
  readonly canMount: boolean;
  readonly mountsMessage: string;
  /** The file system of the data folder. */
  readonly disk: { readonly totalBytes: bigint; readonly freeBytes: bigint; readonly reserveBytes: bigint };
  readonly historyBytesMax: bigint;
  /** Resident memory of the service process. */
  readonly memoryBytes: bigint;
  readonly alarms: readonly Alarm[];
  /** Where it listens for nodes, "HOST:PORT". Empty: it is for its own machine alone. */
  readonly listening: readonly string[];
};

export type AppStatus = {
  readonly app: AppInfo;
  /** The journal's end, what survives power loss, and what is in the key-value store. appliedLsn ≤ durableLsn ≤ lastLsn. */
  readonly lastLsn: Lsn;
  readonly durableLsn: Lsn;
  readonly appliedLsn: Lsn;
  /** The moments that can be read start here. Absent while the journal is empty. */
  readonly oldest?: { readonly lsn: Lsn; readonly time: Timestamp };
  readonly journalBytes: bigint;
  readonly segmentCount: number;
  /** Journal bytes that the present, that only kept moments, and that nothing needs any more. */
  readonly liveBytes: bigint;
  readonly historyBytes: bigint;
  readonly reclaimableBytes: bigint;
  readonly inodeCount: number;
  readonly snapshotCount: number;
  /** How often, and for how long together, writers were slowed because the overlay had reached its bound. */
  readonly stallCount: number;
  readonly stallMs: number;
  /** `failed` after a failed sync: reads go on, writes answer EIO until the service restarts. */
  readonly journalState: "open" | "failed" | "closed";
  /** An app that was recovered: its older part is in a repository. */
  readonly archive?: ArchiveStatus;
};

/** How much of a recovered app is only in the repository it was recovered from. */
export type ArchiveStatus = {
  /** The repository, for people. */
  readonly description: string;
  /** Records up to it are there only. */
  readonly lastLsn: Lsn;
  /** All data are in the data folder; only old records are not. */
  readonly isHydrated: boolean;
  /** Data brought in since the service started. */
  readonly bytesDone: bigint;
  /** Damaged in the repository: reading them is EIO. */
  readonly damagedBytes: bigint;
  /** Why bringing data in doesn't go on just now, if so; it will by itself. */
  readonly waitsFor?: string;
};

export interface StatusApi {
  serviceStatus(options?: CallOptions): Promise<ServiceStatus>;
  /** By namespace and name; deleted apps are left out unless asked for. */
  appStatus(request: { withDeleted: boolean }, options?: CallOptions): Pages<AppStatus>;
}
