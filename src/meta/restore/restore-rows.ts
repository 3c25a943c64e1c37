import { ByteReader, ByteWriter } from "../../base/bytes.ts";
import type { Timestamp } from "../../base/clock.ts";
import type { Actor } from "../../domain/actor.ts";
import type { RestoreInfo, RestoreRequest } from "../../domain/admin-restore.ts";
import type { AppId, InodeId, Lsn, ShareId } from "../../domain/ids.ts";
import type { ResolvedMoment } from "../../domain/moment.ts";
import type { EngineCore } from "../core.ts";
import { plainKey, prefixEnd, TABLE } from "../keys.ts";
import { rowsBack } from "../reading/paths.ts";
import { decodeJson, encodeJson } from "../rows.ts";
import type { Transaction } from "../transaction.ts";

/** What a restore does, in ids, so that it means the same after any renaming and restart. Paths are hex. */
export type Job =
  | {
      readonly kind: "restore";
      readonly mode: (RestoreRequest & { kind: "restore" })["mode"];
      readonly sourceApp: AppId;
      /** Absent: the whole app. */
      readonly sourceShare?: ShareId;
      readonly sourcePath: string;
      readonly at: Lsn;
      /** Absent: in place. */
      readonly targetShare?: ShareId;
      readonly targetPath?: string;
    }
  | {
      readonly kind: "undo";
      /** The RESTORE_BEGIN of what is taken back. */
      readonly of: Lsn;
    };

/** A restore as its app's journal keeps it. */
export type RestoreRow = {
  readonly id: string;
  readonly job: Job;
  readonly state: RestoreInfo["state"];
  /** Where it puts things, for people: names of when it began. The path is hex. */
  readonly place: { readonly share?: string; readonly path: string };
  readonly at: ResolvedMoment;
  readonly startedAt: Timestamp;
  /** Its RESTORE_BEGIN. Plans are made for the LSN before. */
  readonly firstLsn: Lsn;
  /** Its RESTORE_END; 0 while it runs. */
  readonly lastLsn: Lsn;
  readonly actor: Actor;
  /** The directory that holds what was taken away; gone when it has ended. */
  readonly limbo: InodeId;
  /** Name of the snapshot that is made before the first change. */
  readonly snapshot: string;
};

/** Restores of the app, newest first. */
export function* restoreRows(core: EngineCore): Generator<RestoreRow> {
  const gte = plainKey(TABLE.RESTORE);
  for (const row of rowsBack(core, gte, prefixEnd(gte))) yield decodeJson<RestoreRow>(row.value);
}

/** The restore whose RESTORE_BEGIN is `firstLsn`. */
export function restoreRow(core: EngineCore, firstLsn: Lsn): RestoreRow | undefined {
  const value = core.store.get(restoreKey(firstLsn));
  return value === undefined ? undefined : decodeJson<RestoreRow>(value);
}

/** Puts the row into a record. */
export function putRestoreRow(tx: Transaction, row: RestoreRow): void {
  tx.row(restoreKey(row.firstLsn), encodeJson(row));
}

/** How many steps of a running restore are done. */
export function stepsDone(core: EngineCore, firstLsn: Lsn): number {
  const value = core.store.get(restoredKey(firstLsn, 0));
  return value === undefined ? 0 : new ByteReader(value).u64();
}

/** Notes in a record that the first `count` steps are done. */
export function putStepsDone(tx: Transaction, firstLsn: Lsn, count: number): void {
  tx.row(restoredKey(firstLsn, 0), new ByteWriter(8).u64(count).finish());
}

export function dropStepsDone(tx: Transaction, firstLsn: Lsn): void {
  tx.row(restoredKey(firstLsn, 0), null);
}

/** The inode that a restore made for one of several names which is dead now (or elsewhere, for a restore to another place). */
export function madeFor(core: EngineCore, firstLsn: Lsn, then: InodeId): InodeId | undefined {
  const value = core.store.get(restoredKey(firstLsn, then));
  return value === undefined ? undefined : (new ByteReader(value).u40() as InodeId);
}

export function putMadeFor(
  tx: Transaction,
  firstLsn: Lsn,
  inodes: { readonly source: InodeId; readonly made: InodeId },
): void {
  tx.row(restoredKey(firstLsn, inodes.source), new ByteWriter(5).u40(inodes.made).finish());
}

function restoreKey(firstLsn: Lsn): Buffer {
  return new ByteWriter(9).u8(TABLE.RESTORE).u64(firstLsn).finish();
}

function restoredKey(firstLsn: Lsn, ino: number): Buffer {
  return new ByteWriter(14).u8(TABLE.RESTORED).u64(firstLsn).u40(ino).finish();
}
