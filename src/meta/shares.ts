import { ByteWriter } from "../base/bytes.ts";
import type { Timestamp } from "../base/clock.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { ContentId, InodeId, Lsn, ShareId } from "../domain/ids.ts";
import { S_IFDIR } from "../domain/inode.ts";
import type { RequestContext } from "../domain/metadata-api.ts";
import { RECORD_OP, type RecordOp } from "../domain/record-op.ts";
import type { EngineCore } from "./core.ts";
import { plainKey, prefixEnd, TABLE } from "./keys.ts";
import { decodeJson, encodeJson } from "./rows.ts";
import type { Transaction } from "./transaction.ts";

/** A share as its app's journal keeps it. `deletedAt` is there while it is deleted. */
export type ShareRow = {
  readonly id: ShareId;
  readonly since: number;
  readonly name: string;
  readonly root: InodeId;
  readonly views: "off" | "root" | "users";
  readonly createdAt: Timestamp;
  readonly deletedAt?: Timestamp;
};

/** Shares of one app, at most: each listing reads them all. */
const SHARES_MAX = 10_000;

/** All shares of the app as of `at`, deleted ones included, in no particular order. */
export function sharesAt(core: EngineCore, at: Lsn): ShareRow[] {
  const gte = plainKey(TABLE.SHARE);
  const shares = new Map<ShareId, ShareRow>();
  for (const row of core.store.range({ gte, lt: prefixEnd(gte), limit: SHARES_MAX })) {
    const share = decodeJson<ShareRow>(row.value);
    const then = share.since <= at ? share : shareBefore(core, share.id, at);
    if (then !== undefined) shares.set(then.id, then);
  }
  return [...shares.values()];
}

function shareBefore(core: EngineCore, id: ShareId, at: Lsn): ShareRow | undefined {
  const prefix = plainKey(TABLE.SHARE_PAST, Buffer.from(id, "hex"));
  const gte = new ByteWriter(32)
    .bytes(prefix)
    .u64(at + 1)
    .finish();
  const row = core.store.range({ gte, lt: prefixEnd(prefix), limit: 1 })[0];
  if (row === undefined) return undefined;
  const share = decodeJson<ShareRow>(row.value);
  return share.since <= at ? share : undefined;
}

/** Makes a share with an empty root directory owned by root, mode 0755. One record. Throws ALREADY_EXISTS. */
export function createShare(
  core: EngineCore,
  request: { readonly id: ShareId; readonly name: string; readonly views: ShareRow["views"] },
  context: RequestContext,
): ShareRow {
  refuseTakenName(core, request.name);
  const tx = core.begin(context);
  const root = tx.allocateInode();
  tx.put({
    ino: root,
    since: 0 as Lsn,
    generation: (tx.lsn % 0xffff_ffff) + 1,
    mode: S_IFDIR | 0o755,
    uid: context.actor.uid,
    gid: context.actor.gid,
    nlink: 2,
    rdev: 0,
    size: 0n,
    allocatedBytes: 0n,
    atime: tx.time,
    mtime: tx.time,
    ctime: tx.time,
    btime: tx.time,
    contentId: 0 as ContentId,
    parent: root,
    restoredFrom: 0,
    target: Buffer.alloc(0),
    xattrCount: 0,
  });
  const share: ShareRow = { ...request, since: tx.lsn, root, createdAt: tx.time };
  tx.row(shareKey(share.id), encodeJson(share));
  tx.commit(RECORD_OP.SHARE_CREATE, shareDetail(share));
  return share;
}

/** Changes a share's row: renames, deletes, undeletes, sets options. One record: of its own kind, or as a part of something larger by `as`. Throws ALREADY_EXISTS. */
export function updateShare(
  core: EngineCore,
  share: ShareRow,
  change: { readonly name?: string; readonly views?: ShareRow["views"]; readonly deleted?: boolean },
  context: RequestContext,
  as?: { readonly op: RecordOp; readonly detail: Buffer; readonly also: (tx: Transaction) => void },
): ShareRow {
  const live = !(change.deleted ?? share.deletedAt !== undefined);
  const name = change.name ?? share.name;
  if (live && (name !== share.name || share.deletedAt !== undefined)) refuseTakenName(core, name);
  const tx = core.begin(context);
  const { deletedAt, ...rest } = share;
  const deleted = change.deleted === undefined ? deletedAt : change.deleted ? tx.time : undefined;
  const next: ShareRow = {
    ...rest,
    name,
    views: change.views ?? share.views,
    since: tx.lsn,
    ...(deleted === undefined ? {} : { deletedAt: deleted }),
  };
  const past = new ByteWriter(32)
    .bytes(plainKey(TABLE.SHARE_PAST, Buffer.from(share.id, "hex")))
    .u64(tx.lsn)
    .finish();
  tx.row(shareKey(share.id), encodeJson(next));
  tx.row(past, encodeJson(share));
  as?.also(tx);
  tx.commit(as?.op ?? opOf(change.deleted), as?.detail ?? shareDetail(next), { useReserve: change.deleted === true });
  return next;
}

function opOf(deleted: boolean | undefined): RecordOp {
  if (deleted === undefined) return RECORD_OP.SHARE_UPDATE;
  return deleted ? RECORD_OP.SHARE_DELETE : RECORD_OP.SHARE_UNDELETE;
}

function refuseTakenName(core: EngineCore, name: string): void {
  if (sharesAt(core, core.lastLsn).some((share) => share.deletedAt === undefined && share.name === name)) {
    throw new TidemarkError("ALREADY_EXISTS", `the app already has a share named "${name}": choose another name`);
  }
}

function shareKey(id: ShareId): Buffer {
  return plainKey(TABLE.SHARE, Buffer.from(id, "hex"));
}

function shareDetail(share: ShareRow): Buffer {
  const name = Buffer.from(share.name, "utf8");
  return new ByteWriter(64).bytes(Buffer.from(share.id, "hex")).u8(name.length).bytes(name).finish();
}
