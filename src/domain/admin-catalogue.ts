import type { Timestamp } from "../base/clock.ts";
import type { CallOptions, Pages } from "./admin-call.ts";
import type { AppId, Lsn, MountId, ShareId } from "./ids.ts";
import type { MomentRef, ResolvedMoment } from "./moment.ts";
import type { AppRef, ShareRef } from "./share-path.ts";

export type Labels = Readonly<Record<string, string>>;

export type AppInfo = {
  readonly id: AppId;
  readonly namespace: string;
  readonly name: string;
  readonly labels: Labels;
  readonly createdAt: Timestamp;
  /** Present while the app is deleted. */
  readonly deletedAt?: Timestamp;
  /** Shares that are not deleted. */
  readonly shareCount: number;
};

/** Who may look into `.tidemark` at the root of the share. */
export type ViewsOption = "off" | "root" | "users";

export type ShareInfo = {
  readonly id: ShareId;
  readonly name: string;
  readonly app: { readonly id: AppId; readonly namespace: string; readonly name: string };
  readonly views: ViewsOption;
  readonly createdAt: Timestamp;
  /** Present while the share itself is deleted (its app may be deleted without). */
  readonly deletedAt?: Timestamp;
};

/** Which of the deleted ones a list shows. */
export type DeletedFilter = "without" | "with" | "only";

/** One share, by the app it is in. */
export type ShareOfApp = { readonly app: AppRef; readonly share: ShareRef };

/**
 * Apps and shares. All mutations are one record each, acknowledged when it is in the journal, and durable before they answer.
 * A name means the live thing of that name; a deleted one is named with its id (NOT_FOUND names the ids of deleted ones of that name).
 * A list is ordered by namespace, then name, then id, and is of one moment per page.
 */
export interface CatalogueApi {
  /** ALREADY_EXISTS when a live app has the name; the app of a deleted one is left alone, this is a new app. INVALID_ARGUMENT for names and labels. */
  createApp(request: { namespace: string; name: string; labels: Labels }, options?: CallOptions): Promise<AppInfo>;
  /** `labels`: only apps that have all of them. */
  listApps(
    request: { namespace?: string; labels?: Labels; deleted: DeletedFilter },
    options?: CallOptions,
  ): Pages<AppInfo>;
  /** Renames, or replaces all labels. Giving the present values succeeds. ALREADY_EXISTS when another live app has the name. */
  updateApp(request: { app: AppRef; name?: string; labels?: Labels }, options?: CallOptions): Promise<AppInfo>;
  /** Everything stays readable and restorable. FAILED_PRECONDITION while a share of it is mounted (views do not count). */
  deleteApp(request: { app: AppRef }, options?: CallOptions): Promise<AppInfo>;
  /**
   * Without an id: the only deleted app of that name, FAILED_PRECONDITION naming the ids when there are several. `name`: under another name.
   * ALREADY_EXISTS when a live app has the name.
   */
  undeleteApp(request: { app: AppRef; name?: string }, options?: CallOptions): Promise<AppInfo>;

  /** As createApp. NOT_FOUND when the app is absent or deleted. */
  createShare(request: { app: AppRef; name: string; views: ViewsOption }, options?: CallOptions): Promise<ShareInfo>;
  /** `app` absent: the shares of all live apps. Shares of a deleted app (named with its id) that were live when it was deleted are not deleted. */
  listShares(request: { app?: AppRef; deleted: DeletedFilter }, options?: CallOptions): Pages<ShareInfo>;
  /** As updateApp. */
  updateShare(request: ShareOfApp & { name?: string; views?: ViewsOption }, options?: CallOptions): Promise<ShareInfo>;
  /** As deleteApp. */
  deleteShare(request: ShareOfApp, options?: CallOptions): Promise<ShareInfo>;
  /** As undeleteApp. */
  undeleteShare(request: ShareOfApp & { name?: string }, options?: CallOptions): Promise<ShareInfo>;
}

export type SnapshotInfo = {
  readonly name: string;
  /** The moment it names. */
  readonly lsn: Lsn;
  readonly time: Timestamp;
  /** Made by the service itself, before a restore. */
  readonly automatic: boolean;
};

export interface SnapshotApi {
  /** O(1). `syncMounts`: first write back dirty `mmap` pages of the app's mounts. ALREADY_EXISTS for a name in use. Durable before it answers. */
  createSnapshot(
    request: { app: AppRef; name: string; syncMounts: boolean },
    options?: CallOptions,
  ): Promise<SnapshotInfo>;
  /** By LSN. */
  listSnapshots(request: { app: AppRef }, options?: CallOptions): Pages<SnapshotInfo>;
  /** Unpins the moment; the history stays until retention drops it. NOT_FOUND when absent. */
  deleteSnapshot(request: { app: AppRef; name: string }, options?: CallOptions): Promise<SnapshotInfo>;
}

/** Who keeps the locks of files, fcntl(2) and flock(2): the kernel, for one mount; or the service, for all mounts that are "shared". */
export type LocksOption = "kernel" | "shared";

/** `down`: wanted but not mounted at present (`message` says why). */
export type MountState = "active" | "starting" | "stopping" | "down";

export type MountInfo = {
  readonly id: MountId;
  readonly share: {
    readonly id: ShareId;
    readonly name: string;
    readonly app: { readonly id: AppId; readonly namespace: string; readonly name: string };
  };
  /** Absolute path, as the service sees it. */
  readonly target: string;
  /** Present for a view. */
  readonly at?: ResolvedMoment;
  readonly readOnly: boolean;
  /** Mounted again whenever the service starts. */
  readonly persist: boolean;
  readonly locks: LocksOption;
  /** The id of the token that it is held to. */
  readonly tokenId?: string;
  /** The node that has it mounted, if that is not the service's own machine; "loopback" for a gateway without a certificate. */
  readonly node?: string;
  readonly state: MountState;
  /** Why it is in that state, when that needs words. */
  readonly message?: string;
  readonly since: Timestamp;
};

export type MountRequest = ShareOfApp & {
  /** An absolute path of an existing directory, outside the data folder and any Tidemark mount. */
  readonly target: string;
  /** Anything but `now` makes a view: read-only for ever. */
  readonly at: MomentRef;
  readonly readOnly: boolean;
  readonly persist: boolean;
  /** Let set-user-id bits, or device nodes, work on the mount. They are stored in any case. */
  readonly allowSuid: boolean;
  readonly allowDevices: boolean;
  readonly locks: LocksOption;
  /** A token that the mount is held to, root included. Secret. Absent: everything is allowed. */
  readonly token?: string;
};

export interface MountApi {
  /**
   * Answers when the mount serves requests. FAILED_PRECONDITION: the target is no directory, is a mount point of ours already, or lies in the data folder or under a mount of ours.
   * PERMISSION_DENIED: the token is refused, or does not allow a view. INVALID_ARGUMENT: shared locks on a view. UNSUPPORTED without /dev/fuse or without the right to mount; `--persist` is then not recorded.
   */
  mount(request: MountRequest, options?: CallOptions): Promise<MountInfo>;
  /**
   * Ends the mount at `target` and its persistence. FAILED_PRECONDITION while files are open on it, unless `lazy`: then the name goes at once
   * and the rest when the last file is closed. NOT_FOUND when nothing of ours is mounted there.
   */
  umount(request: { target: string; lazy: boolean }, options?: CallOptions): Promise<MountInfo>;
  /** By target. */
  listMounts(options?: CallOptions): Pages<MountInfo>;
}
