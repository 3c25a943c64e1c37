import type { Timestamp } from "../base/clock.ts";
import type { CallOptions, Pages } from "./admin-call.ts";
import type { BackupRepair } from "./admin-repair.ts";
import type { AppId, Lsn } from "./ids.ts";
import type { AppRef } from "./share-path.ts";

/** Where a repository is. No secrets. */
export type RepositoryLocation = {
  /** An absolute path of this machine, or `s3://bucket/prefix`. */
  readonly url: string;
  /** S3 only: the server's address, absent: Amazon's. */
  readonly endpoint?: string;
  /** S3 only; absent: us-east-1. */
  readonly region?: string;
};

/** What an S3 server knows the service by. */
export type StoreCredentials = {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
};

/** A repository the service ships to. */
export type RepositoryInfo = {
  readonly name: string;
  /** The repository's own id, 32 hex digits, whatever it is called here. */
  readonly id: string;
  readonly location: RepositoryLocation;
  readonly addedAt: Timestamp;
  /** Apps that are backed up to it now. */
  readonly appCount: number;
};

/**
 * What happens when the repository can't be reached for so long that local history reaches its bound, since what is not protected yet is kept. `serve`: an alarm, and what is
 * too old for the bound goes unprotected. `stop`: writes answer ENOSPC until it has been shipped.
 */
export type BacklogPolicy = "serve" | "stop";

/**
 * `starting`: the repository is being opened. `idle`: everything durable is protected. `shipping`: there is more to ship. `retrying`: the repository can't be reached; it goes
 * on by itself. `stopped`: as retrying, and writes are refused (BacklogPolicy). `fenced`: another service ships this app; this one has ended for good. `failed`: a person is needed.
 */
export type BackupState = "starting" | "idle" | "shipping" | "retrying" | "stopped" | "fenced" | "failed";

/** How far an app is protected. */
export type BackupStatus = {
  readonly app: { readonly id: AppId; readonly namespace: string; readonly name: string };
  /** The service's name for the repository. */
  readonly repository: string;
  /** At most so long after it is durable, a change is sealed, in milliseconds. */
  readonly everyMs: number;
  readonly onBacklog: BacklogPolicy;
  readonly state: BackupState;
  /** Why it is in that state, when that needs words. */
  readonly message?: string;
  /** Everything up to it is in the repository. Absent: nothing is yet, or it isn't known since the start. */
  readonly protected?: { readonly lsn: Lsn; readonly time: Timestamp };
  readonly lastLsn: Lsn;
  /** Age of the oldest change that is not protected, in milliseconds; 0 when there is none. */
  readonly lagMs: number;
  /** Journal bytes that are not protected. */
  readonly unprotectedBytes: bigint;
  /** What was sent for it since it was enabled or the service started, checkpoints not counted. */
  readonly sentBytes: bigint;
  /** The newest order to erase content (a PURGE record), while the repository is not known to have it. */
  readonly waitingOrder?: Lsn;
};

/** Progress comes at least every second while it runs, then `done` is the last item. */
export type BackupProgress =
  | {
      readonly kind: "progress";
      readonly protectedLsn: Lsn;
      /** What was durable when it was asked for: to be reached. */
      readonly targetLsn: Lsn;
      readonly unprotectedBytes: bigint;
    }
  | { readonly kind: "done"; readonly status: BackupStatus };

/** How often an app may be shipped: a seal is an object or two, and each is a request that is paid for. */
export const BACKUP_EVERY_MS_MIN = 200;
/** What is not shipped within an hour is no continuous backup. */
export const BACKUP_EVERY_MS_MAX = 3_600_000;

/** Repositories and what ships to them. The mutations are durable before they answer. Failures of a store keep their own code in `data.reason` (e.g. BLOB_DENIED, REPO_WRONG_SECRET). */
export interface BackupApi {
  /**
   * Makes a repository known, after opening it with `keyFile`, the text of a key file of the service's own. The key and the credentials are kept in the data folder, readable by its owner alone.
   * ALREADY_EXISTS when another repository has the name; the same one again takes the new location, key and credentials over. UNAVAILABLE, PERMISSION_DENIED, NOT_FOUND as its store says.
   */
  addRepository(
    request: { name: string; location: RepositoryLocation; keyFile: Buffer; credentials?: StoreCredentials },
    options?: CallOptions,
  ): Promise<RepositoryInfo>;
  /** The service forgets it and its key; the repository stays. FAILED_PRECONDITION while apps are backed up to it. */
  removeRepository(request: { name: string }, options?: CallOptions): Promise<RepositoryInfo>;
  /** By name. */
  listRepositories(options?: CallOptions): Pages<RepositoryInfo>;
  /**
   * Ships the app from now on, also after a restart. The first seal begins with what local history has. An app that is shipped already takes the new interval and policy. FAILED_PRECONDITION when it
   * ships to another repository. The app's line in the repository is taken over from whoever shipped it before.
   */
  enableBackup(
    request: { app: AppRef; repository: string; everyMs: number; onBacklog: BacklogPolicy },
    options?: CallOptions,
  ): Promise<BackupStatus>;
  /** What is in the repository stays there. FAILED_PRECONDITION when the app is not backed up. */
  disableBackup(request: { app: AppRef }, options?: CallOptions): Promise<BackupStatus>;
  /** Makes everything acknowledged until now durable, ships it, and waits until it is protected. Fails as the store does where the shipper would only try again. */
  backupNow(request: { app: AppRef }, options?: CallOptions): AsyncIterable<BackupProgress>;
  /**
   * Checks what is in the repository, of the data `readPart` (0 to 1), and stores anew what is damaged there from the live app; with `dryRun` only says what is damaged. Nothing is deleted. Everything acknowledged until now is
   * shipped first. FAILED_PRECONDITION when another repair of the app is under way.
   */
  repairBackup(
    request: { app: AppRef; readPart: number; dryRun: boolean },
    options?: CallOptions,
  ): Promise<BackupRepair>;
  /** By namespace and name; only one app, if asked for. Apps without backup are left out. */
  backupStatus(request: { app?: AppRef }, options?: CallOptions): Pages<BackupStatus>;
}
