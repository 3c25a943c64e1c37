import type { Lsn } from "../domain/ids.ts";
import type { FileOps } from "./file-ops.ts";
import { PREFIX_BYTES } from "./record.ts";
import { decodePrefix, isFault, RECORD_MAGIC } from "./record-decoder.ts";

/** Where a record begins. */
export type RecordPlace = { readonly lsn: Lsn; readonly position: number };

/** Bytes looked at in one place: a few dozen records without data. */
const PROBE_BYTES = 32 * 1024;

/** Hopping over this many records costs no more than looking once again. */
const NEAR_RECORDS = 64;

/** Halving a segment of 64 MiB needs 11 tries to get this near; guessing by the LSN mostly 3. */
const TRIES_MAX = 24;

/**
 * Finds a record near before `lsn`, or that one itself, between `low` (a record at or before it) and `high` (the first behind all that may be it), without
 * reading what is between. Records are known by their magic and the checksum of their prefix, which starts with the segment's seed: nothing else passes
 * for one (FORMAT.md, crash argument 5). Where it meets long data it answers what it has. Errors of reading are thrown.
 */
export async function findRecordNear(
  file: { readonly ops: FileOps; readonly fd: number; readonly seed: number },
  lsn: Lsn,
  bounds: { readonly low: RecordPlace; readonly high: RecordPlace },
): Promise<RecordPlace> {
  let { low, high } = bounds;
  const buffer = Buffer.allocUnsafe(PROBE_BYTES);
  for (let tries = 0; tries < TRIES_MAX && lsn - low.lsn > NEAR_RECORDS; tries += 1) {
    const bytes = high.position - low.position;
    if (bytes <= 2 * PROBE_BYTES) break;
    // A little before where it is if all records are alike; every third time the middle, for where they are not.
    const share = tries % 3 === 2 ? 0.5 : (lsn - low.lsn) / (high.lsn - low.lsn);
    const at = Math.max(low.position + 1, low.position + Math.floor(bytes * share) - PROBE_BYTES / 2);
    const found = await firstRecord(file, buffer, { at, low, high });
    if (found === undefined) break;
    if (found.lsn <= lsn) low = found;
    else high = { lsn: found.lsn, position: at };
  }
  return low;
}

/** The first record that begins at `at` or behind it, within a probe. */
async function firstRecord(
  file: { readonly ops: FileOps; readonly fd: number; readonly seed: number },
  buffer: Buffer,
  range: { readonly at: number; readonly low: RecordPlace; readonly high: RecordPlace },
): Promise<RecordPlace | undefined> {
  const { at, low, high } = range;
  const wanted = buffer.subarray(0, Math.min(buffer.length, high.position - at));
  const cached = file.ops.readCached(file.fd, wanted, at);
  const length = cached >= 0 ? cached : await file.ops.readLater(file.fd, wanted, at);
  const window = wanted.subarray(0, length);
  for (
    let start = window.indexOf(RECORD_MAGIC);
    start >= 0 && start + PREFIX_BYTES <= length;
    start = window.indexOf(RECORD_MAGIC, start + 1)
  ) {
    const prefix = decodePrefix(window, start, file.seed);
    if (!isFault(prefix) && prefix.lsn > low.lsn && prefix.lsn < high.lsn)
      return { lsn: prefix.lsn, position: at + start };
  }
  return undefined;
}
