import { ByteReader, ByteWriter } from "../base/bytes.ts";
import type { InodeId, MountId } from "../domain/ids.ts";
import { plainKey, prefixEnd, TABLE } from "./keys.ts";
import type { LockRange } from "./lock-ranges.ts";
import type { RowStore } from "./row-store.ts";

/** Who holds a lock. The kernel names an owner by a number of its own: POSIX locks belong to a process (its table of files), flock(2) locks to an open file. */
export type LockOwner = { readonly mountId: MountId; readonly owner: bigint; readonly flock: boolean };

/** An owner as a key of maps. */
export function ownerKey({ mountId, owner, flock }: LockOwner): string {
  return `${mountId}${flock ? "f" : "p"}${owner}`;
}

/** A row of `TABLE.LOCK`. */
export type LockRow = { readonly ino: InodeId; readonly owner: LockOwner; readonly range: LockRange };

/** Rows read at a time. */
const PAGE_ROWS = 1000;

const scratch = new ByteWriter(64);

/** FORMAT.md, `L`. */
export function lockKey(ino: number, owner: LockOwner, start: bigint): Buffer {
  scratch.reset();
  scratch
    .u8(TABLE.LOCK)
    .u40(ino)
    .u32(owner.mountId)
    .u8(owner.flock ? 1 : 0);
  return scratch.big64(owner.owner).big64(start).finish();
}

export function encodeLock(range: LockRange): Buffer {
  scratch.reset();
  return scratch
    .big64(range.end)
    .u8(range.type === "write" ? 1 : 0)
    .u32(range.pid)
    .finish();
}

export function decodeLock(key: Buffer, value: Buffer): LockRow {
  const id = new ByteReader(key, 1);
  const ino = id.u40() as InodeId;
  const mountId = id.u32() as MountId;
  const flock = id.u8() === 1;
  const owner = { mountId, flock, owner: id.big64() };
  const start = id.big64();
  const reader = new ByteReader(value);
  const end = reader.big64();
  const type = reader.u8() === 1 ? "write" : "read";
  return { ino, owner, range: { start, end, type, pid: reader.u32() } };
}

/** All locks that are held, by inode, owner and start; at most `limit`. */
export function* readLocks(store: RowStore, limit: number): Generator<LockRow> {
  let gte = plainKey(TABLE.LOCK);
  const lt = prefixEnd(gte);
  for (let left = limit; left > 0; left -= PAGE_ROWS) {
    const rows = store.range({ gte, lt, limit: Math.min(left, PAGE_ROWS) });
    for (const { key, value } of rows) yield decodeLock(key, value);
    const last = rows.at(-1);
    if (last === undefined || rows.length < PAGE_ROWS) return;
    gte = Buffer.concat([last.key, Buffer.alloc(1)]);
  }
}
