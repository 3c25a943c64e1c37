import type { RepairReport, RepairRequest } from "../../backup/repair/repair-report.ts";
import type { Timestamp } from "../../base/clock.ts";
import type { BacklogPolicy, BackupState } from "../../domain/admin-backup.ts";
import type { FsError } from "../../domain/errors.ts";
import type { Lsn } from "../../domain/ids.ts";
import type { OpenApp } from "../../meta/open-app.ts";
import type { KnownRepository } from "../repository/known-repositories.ts";

/** How far `now` is. */
export type ShipProgress = { readonly protectedLsn: Lsn; readonly targetLsn: Lsn; readonly bytesUnprotected: bigint };

/** What ships one app to one repository: the part of `backup/shipper.ts` that the service uses. */
export interface AppShipper {
  /** Begins, in the background, and goes on by itself. */
  start(): void;
  /** Ends what is under way. Before the app is closed. */
  stop(): Promise<void>;
  /** Ships what is durable now; rejects when this attempt fails. */
  now(options: { signal?: AbortSignal; onProgress?: (progress: ShipProgress) => void }): Promise<unknown>;
  status(): {
    readonly state: BackupState;
    readonly message?: string;
    readonly protected?: { readonly lsn: Lsn; readonly time: Timestamp };
    readonly lagMs: number;
    readonly bytesUnprotected: bigint;
    readonly sentBytes: bigint;
  };
  /** Checks the app in the repository and repairs it there: `Shipper.repair`. */
  repair(request: RepairRequest): Promise<RepairReport>;
  /** The app is called otherwise now, or was deleted or undeleted. */
  renamed(): void;
  /** Local history above it has to be kept. */
  readonly floor: Lsn;
  /** What writers get while it must not fall behind further. */
  refusal(): FsError | undefined;
}

/** How an app is shipped. */
export type ShipTerms = {
  readonly repository: KnownRepository;
  readonly everyMs: number;
  readonly onBacklog: BacklogPolicy;
};

/** A shipper that was not started, and what the app is called in the repository. */
export type OpenedShipper = { readonly shipper: AppShipper; readonly tag: string };

/** Where shippers come from. Needs the repository: fails as its store does, and may be called again. */
export interface Shippers {
  /** Opens the repository, in which the app gets its key if it has none there, and makes a shipper. */
  open(app: OpenApp, terms: ShipTerms): Promise<OpenedShipper>;
  /** Up to where the app that is called `tag` is known to be in the repository, while that can't be asked; 0: nothing is known. */
  protectedLsn(tag: string): Lsn;
  /** Opens a repository to see whether its place and key are right. Answers its id. */
  check(repository: Omit<KnownRepository, "id" | "addedAt">): Promise<string>;
  /** Lets go of a repository: the next use opens it anew. */
  forget(name: string): void;
  close(): Promise<void>;
}
