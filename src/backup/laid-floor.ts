import type { Timestamp } from "../base/clock.ts";
import type { Lsn } from "../domain/ids.ts";
import type { KvOperation, KvStore } from "../kv/kv-store.ts";
import { decodeTimeKey } from "../meta/core.ts";
import { plainKey, prefixEnd, TABLE, timeKey } from "../meta/keys.ts";
import { slotPrefix } from "../meta/row-store.ts";
import { decodeLsn } from "../meta/rows.ts";
import { encodeFloor } from "../meta/space/space-rows.ts";
import type { ArchiveIndex } from "./archive-index.ts";

/** Clock eras looked through, newest first: each is a step backwards of a machine's clock. */
const ERAS_SEARCHED_MAX = 1000;

/** Seconds of any record are within this. */
const SECONDS_MIN = -(2 ** 53) + 1;

/** The row that says from which moment on the laid rows can be read: what the repository dropped before is not collected here again. */
export function floorOperation(options: {
  readonly kv: KvStore;
  readonly slot: number;
  readonly index: ArchiveIndex;
  readonly floor: { readonly lsn: Lsn; readonly time: Timestamp };
}): KvOperation {
  const { kv, slot, index } = options;
  const { lsn, time } = options.floor;
  const value = encodeFloor({ floor: lsn, previous: lsn, walked: lsn, era: eraOf({ kv, slot, lsn }), time });
  return index.rowOperation(plainKey(TABLE.FLOOR), value);
}

/** The newest era that begins at or before `lsn`. */
function eraOf({ kv, slot, lsn }: { readonly kv: KvStore; readonly slot: number; readonly lsn: Lsn }): number {
  const prefix = slotPrefix(slot);
  const table = Buffer.concat([prefix, plainKey(TABLE.TIME)]);
  let lt = prefixEnd(table);
  for (let searched = 0; searched < ERAS_SEARCHED_MAX; searched++) {
    const last = kv.rangeSync({ gte: table, lt, reverse: true, limit: 1 })[0];
    if (last === undefined) return 0;
    const { era } = decodeTimeKey(last.key.subarray(prefix.length));
    const start = Buffer.concat([prefix, timeKey(era, SECONDS_MIN, 0)]);
    const first = kv.rangeSync({ gte: start, lt: prefixEnd(table), limit: 1 })[0];
    if (first !== undefined && decodeLsn(first.value) <= lsn) return era;
    lt = start;
  }
  return 0;
}
