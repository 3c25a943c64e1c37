import type { Lsn } from "../domain/ids.ts";
import type { Journal } from "../journal/journal.ts";

/** Bytes of the journal's records after `lsn`: of the segment that holds it by the share of its records, which is near enough for people and bounds. */
export function journalBytesAfter(journal: Pick<Journal, "segments" | "lastLsn">, lsn: Lsn): bigint {
  if (journal.lastLsn <= lsn) return 0n;
  let total = 0;
  for (const { segment, lastLsn, bytes } of journal.segments()) {
    if (lastLsn <= lsn) continue;
    const share = segment > lsn ? 1 : (lastLsn - lsn) / (lastLsn - segment + 1);
    total += Math.ceil(bytes * share);
  }
  return BigInt(total);
}
