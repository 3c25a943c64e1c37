import { ByteReader, ByteWriter } from "../base/bytes.ts";
import type { Timestamp } from "../base/clock.ts";
import type { BacklogPolicy } from "../domain/admin-backup.ts";
import type { AppId, InodeId, Lsn, MountId, ShareId } from "../domain/ids.ts";
import type { RetentionPolicy } from "../domain/retention.ts";
import type { TokenId } from "../domain/token.ts";
import { plainKey, TABLE } from "./keys.ts";

/** An app as the system app's journal keeps it. `deletedAt` is there while it is deleted. */
export type AppRow = {
  readonly id: AppId;
  /** Number of the app in this data folder. Never given twice. */
  readonly slot: number;
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly createdAt: Timestamp;
  readonly deletedAt?: Timestamp;
};

/** A mount: kept while it is mounted (so that a new process goes on with it) and, with `persist`, over stops. */
export type MountRow = {
  readonly id: MountId;
  readonly appId: AppId;
  readonly shareId: ShareId;
  readonly target: string;
  /** The moment of a view; absent: live. */
  readonly at?: Lsn;
  readonly readOnly: boolean;
  readonly persist: boolean;
  readonly allowSuid: boolean;
  readonly allowDevices: boolean;
  /** Views are read by users through this mount, so its kernel asks for each open. Set when it is made: it can't be changed later. */
  readonly asksOpens?: boolean;
  /** Who keeps its locks: absent, the kernel. Set when it is made: its INIT says so for good. */
  readonly locks?: "shared";
  /** It is served by a gateway on another node. */
  readonly session?: SessionRow;
  /** The token that it is held to, on this machine. */
  readonly tokenId?: TokenId;
  /** The directory it shows, if that is not the share's root: what its token is for. */
  readonly root?: InodeId;
  /** Unmounted while in use (`umount --lazy`): no path leads there any more, but what is open is served until it is closed. */
  readonly detached?: boolean;
  readonly since: Timestamp;
};

/** What is known of a mount that a gateway on another node serves. Its `target` is a path over there. */
export type SessionRow = {
  /** SHA-256 of the session's id, hex: the id itself is a secret that only its gateway has. */
  readonly idHash: string;
  /** The node, as its certificate says; empty on loopback. */
  readonly node: string;
  readonly tokenId: string;
  /** Since when nothing was heard of it for a whole lease. */
  readonly awaySince?: Timestamp;
};

/** A view slot: the moment that node ids of this slot mean. */
export type ViewRow = { readonly appId: AppId; readonly lsn: Lsn };

/** That an app is backed up, and how. */
export type BackupRow = {
  readonly appId: AppId;
  /** The service's name for the repository, and what it is whatever it is called. */
  readonly repository: string;
  readonly repositoryId: string;
  /** What the app is called in there. */
  readonly tag: string;
  readonly everyMs: number;
  readonly onBacklog: BacklogPolicy;
  readonly since: Timestamp;
};

/** How long an app's past is kept. */
export type RetentionRow = {
  readonly appId: AppId;
  readonly policy: RetentionPolicy;
  readonly since: Timestamp;
};

export function appKey(id: AppId): Buffer {
  return plainKey(TABLE.APP, Buffer.from(id, "hex"));
}

export function mountKey(id: MountId): Buffer {
  return plainKey(TABLE.MOUNT, new ByteWriter(4).u32(id).finish());
}

export function viewKey(slot: number): Buffer {
  return plainKey(TABLE.VIEW, new ByteWriter(4).u32(slot).finish());
}

export function backupKey(appId: AppId): Buffer {
  return plainKey(TABLE.BACKUP, Buffer.from(appId, "hex"));
}

export function retentionKey(appId: AppId): Buffer {
  return plainKey(TABLE.RETENTION, Buffer.from(appId, "hex"));
}

/** The number that ends a mount or view key. */
export function numberOfKey(key: Buffer): number {
  return new ByteReader(key, 1).u32();
}
