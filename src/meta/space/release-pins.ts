import { readU64Be } from "../../base/bytes.ts";
import type { Lsn } from "../../domain/ids.ts";
import { numberKey, plainKey, prefixEnd, TABLE } from "../keys.ts";
import type { Work } from "../reading/work.ts";
import { decodeExtents } from "../rows.ts";
import { type AppSpace, pagesOf } from "./app-space.ts";
import { SpaceBatch } from "./space-batch.ts";
import { decodeSpan } from "./space-rows.ts";

/**
 * Drops what was there only for moments that are not kept any more: snapshots that were deleted, and what was being read. Safe to repeat. Throws
 * FsError when no record can be written, CANCELLED.
 */
export async function releasePins(space: AppSpace, work: Work): Promise<void> {
  const { store, core } = space.app;
  const { kept } = core.moments;
  const batch = new SpaceBatch(space);
  for (const lsn of pinnedMoments(space)) {
    if (kept.has(lsn)) continue;
    const gte = numberKey(TABLE.PINNED, lsn);
    for (const page of pagesOf(store, gte, prefixEnd(gte))) {
      for (const pin of page) {
        const key = pin.key.subarray(gte.length);
        const span = decodeSpan(pin.value);
        const next = kept.newestIn(span.since, span.until);
        batch.row(pin.key, null);
        if (next !== undefined) batch.pin(next, key, span);
        else dropRow(space, batch, key);
      }
      if (batch.isFull) batch.commit({ released: lsn });
      await space.breathe(work);
    }
    batch.commit({ released: lsn });
  }
}

function dropRow(space: AppSpace, batch: SpaceBatch, key: Buffer): void {
  if (key[0] === TABLE.CHECKPOINT) {
    const value = space.app.store.get(key);
    if (value !== undefined) batch.count(decodeExtents(value), -1);
  }
  batch.row(key, null);
}

/** The moments that rows are pinned to, ascending: one look for each. */
function* pinnedMoments({ app }: AppSpace): Generator<Lsn> {
  const lt = prefixEnd(plainKey(TABLE.PINNED));
  for (let gte = plainKey(TABLE.PINNED); ; ) {
    const row = app.store.range({ gte, lt, limit: 1 })[0];
    if (row === undefined) return;
    const lsn = readU64Be(row.key, 1) as Lsn;
    yield lsn;
    gte = prefixEnd(numberKey(TABLE.PINNED, lsn));
  }
}
