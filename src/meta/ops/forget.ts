import type { InodeId } from "../../domain/ids.ts";
import type { RequestContext, WriteRequest } from "../../domain/metadata-api.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import type { EngineCore } from "../core.ts";
import { inodeDetail } from "../detail.ts";

/** The mount's kernel let go of an inode. An orphan that nobody holds any more ends. */
export function forget(core: EngineCore, request: WriteRequest & { op: "forget" }, context: RequestContext): undefined {
  const { ino, lookups = Number.POSITIVE_INFINITY } = request;
  if (core.holders.release(context.actor.mountId, ino, lookups)) reap(core, ino, context);
}

/** Ends an unlinked inode. If the disk is full it stays an orphan and ends at the next chance. */
export function reap(core: EngineCore, ino: InodeId, context: RequestContext): void {
  const inode = core.findInodeAt(ino, core.lastLsn);
  if (inode === undefined || inode.nlink > 0) return;
  const tx = core.begin(context);
  tx.settled(ino);
  tx.removeXattrs(inode);
  tx.remove(ino);
  tx.commit(RECORD_OP.REAP, inodeDetail(ino), { useReserve: true });
}
