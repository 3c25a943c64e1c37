import fs from "node:fs";
import type { Lsn } from "../domain/ids.ts";
import type { FileOps } from "./file-ops.ts";
import { PREFIX_BYTES } from "./record.ts";
import { decodePrefix, isFault, RECORD_MAGIC } from "./record-decoder.ts";
import { decodeHeader, HEADER_BYTES } from "./segment-file.ts";
import { readStart, type SegmentFolder } from "./segment-folder.ts";

/** Where a journal would end: `lsn` does not verify at `position` (0: the segment's header) of the segment at `index`. */
export type Cut = {
  readonly index: number;
  readonly segment: number;
  readonly position: number;
  readonly lsn: Lsn;
  readonly fault: string;
};

/** How much is searched at a time. */
const WINDOW_BYTES = 1024 * 1024;

/**
 * Looks for proof that the record at `cut` had been durable, so that its absence is damage: the KV's applied LSN, or any later record's durable LSN.
 * Records are found by their magic; the seed in their checksums (random for each segment, never shown) keeps data that looks like a record from
 * counting. Answers words for people, or undefined.
 */
export function findProof(folder: SegmentFolder, ops: FileOps, cut: Cut, appliedLsn: Lsn): string | undefined {
  if (appliedLsn >= cut.lsn) return `the rows are applied up to ${appliedLsn}`;
  for (let index = cut.index; index < folder.list.length; index += 1) {
    const { segment } = folder.list[index] as { segment: number };
    const proof = proofInSegment(folder, ops, { ...cut, segment, position: index === cut.index ? cut.position : 0 });
    if (proof !== undefined) return proof;
  }
  return undefined;
}

function proofInSegment(folder: SegmentFolder, ops: FileOps, cut: Cut): string | undefined {
  const file = folder.pathOf(cut.segment);
  const start = readStart(file, HEADER_BYTES + PREFIX_BYTES);
  const header = decodeHeader(start, { appId: folder.appId, segment: cut.segment });
  if (isFault(header)) {
    if (header.foreign) folder.readHeader(cut.segment);
    // Header and first prefix share a disk sector, so an interrupted write leaves both or neither.
    const begun =
      start.length === HEADER_BYTES + PREFIX_BYTES &&
      start.subarray(HEADER_BYTES, HEADER_BYTES + 4).equals(RECORD_MAGIC);
    return begun ? "only its header is damaged, its first record is there" : undefined;
  }
  const fd = ops.open(file, "read");
  try {
    return searchFile({ ops, fd }, Math.max(cut.position, HEADER_BYTES), { seed: header.seed, lsn: cut.lsn });
  } finally {
    ops.close(fd);
  }
}

function searchFile(
  file: { ops: FileOps; fd: number },
  from: number,
  wanted: { seed: number; lsn: Lsn },
): string | undefined {
  const { size } = fs.fstatSync(file.fd);
  const buffer = Buffer.allocUnsafeSlow(WINDOW_BYTES);
  // Windows overlap by one prefix less a byte: none is missed, none is looked at twice in full.
  for (let start = from; start + PREFIX_BYTES <= size; start += WINDOW_BYTES - PREFIX_BYTES + 1) {
    const length = file.ops.readNow(file.fd, buffer, start);
    const window = buffer.subarray(0, length);
    for (
      let at = window.indexOf(RECORD_MAGIC);
      at >= 0 && at + PREFIX_BYTES <= length;
      at = window.indexOf(RECORD_MAGIC, at + 1)
    ) {
      const prefix = decodePrefix(window, at, wanted.seed);
      if (isFault(prefix) || prefix.lsn <= wanted.lsn || prefix.durableLsn < wanted.lsn) continue;
      return `record ${prefix.lsn} at byte ${start + at} says that ${prefix.durableLsn} was durable`;
    }
  }
  return undefined;
}
