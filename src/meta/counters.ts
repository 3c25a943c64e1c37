import { ByteReader, ByteWriter } from "../base/bytes.ts";
import type { RowOp } from "../journal/record.ts";
import { TABLE } from "./keys.ts";
import { INODE_ALLOCATED_OFFSET } from "./rows.ts";

/** Running totals of an app, kept by whoever applies rows: the engine in memory, the applier in the KV with the applied LSN. */
export type Counters = {
  /** Sum of the allocated bytes of live inodes. */
  liveBytes: bigint;
  /** Number of live inodes. */
  inodeCount: number;
};

export function emptyCounters(): Counters {
  return { liveBytes: 0n, inodeCount: 0 };
}

/**
 * Adds what one record's rows change. Each inode row put counts its new state, and each past row the end of the state before; so the
 * sums are exact without reading anything.
 */
export function addToCounters(counters: Counters, rows: readonly RowOp[]): void {
  for (const row of rows) {
    const table = row.key[0];
    if (row.value === null || (table !== TABLE.INODE && table !== TABLE.INODE_PAST)) continue;
    const allocated = row.value.readBigUInt64BE(INODE_ALLOCATED_OFFSET);
    if (table === TABLE.INODE) {
      counters.liveBytes += allocated;
      counters.inodeCount++;
    } else {
      counters.liveBytes -= allocated;
      counters.inodeCount--;
    }
  }
}

/** The `A` row: applied LSN and the totals at it. */
export function encodeApplied(lsn: number, counters: Counters): Buffer {
  return new ByteWriter(32)
    .u64(lsn)
    .big64(BigInt.asUintN(64, counters.liveBytes))
    .u64(Math.max(0, counters.inodeCount))
    .finish();
}

export function decodeApplied(value: Buffer): { lsn: number; counters: Counters } {
  const reader = new ByteReader(value);
  const lsn = reader.u64();
  return { lsn, counters: { liveBytes: BigInt.asIntN(64, reader.big64()), inodeCount: reader.u64() } };
}
