import { present } from "../base/assert.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { Lsn } from "../domain/ids.ts";
import { Erasures } from "./erasures.ts";
import type { FileOps } from "./file-ops.ts";
import { SCAN_WINDOW_BYTES } from "./limits.ts";
import type { PositionIndex } from "./position-index.ts";
import type { JournalRecord } from "./record.ts";
import { findRecordNear } from "./record-search.ts";
import { HEADER_BYTES } from "./segment-file.ts";
import type { SegmentFolder } from "./segment-folder.ts";
import { SegmentScanner } from "./segment-scanner.ts";

/** What a reader of an open journal needs of it. */
export type TailSource = {
  readonly folder: SegmentFolder;
  readonly ops: FileOps;
  readonly positions: PositionIndex;
  /** Where a segment's records end now. */
  readonly endOf: (segment: number) => number;
  readonly lastLsn: () => Lsn;
};

/** A window for a few records; 8 times as much is used for many. */
const SHORT_WINDOW_BYTES = SCAN_WINDOW_BYTES / 8;
const SHORT_READ_RECORDS = 64;

/** See Journal.readRecords. */
export async function* readRecords(source: TailSource, from: Lsn, to: Lsn): AsyncGenerator<JournalRecord> {
  for (let next = from; next <= to; ) {
    const index = source.folder.indexOf(next);
    const info = source.folder.list[index];
    if (info === undefined || info.removed) throw outOfHistory(source, next);
    const end = source.folder.lastLsnOf(index, source.lastLsn());
    const until = Math.min(to, end) as Lsn;
    yield* readSegment(source, info.segment, { from: next, to: until, end });
    next = (until + 1) as Lsn;
  }
}

async function* readSegment(
  source: TailSource,
  segment: number,
  range: { from: Lsn; to: Lsn; end: Lsn },
): AsyncGenerator<JournalRecord> {
  const { folder, ops, positions } = source;
  const fd = openSegment(source, segment, range.from);
  try {
    const { seed } = folder.readHeader(segment);
    const low = positions.find(segment, range.from) ?? { lsn: segment as Lsn, position: HEADER_BYTES };
    const high = { lsn: (range.end + 1) as Lsn, position: source.endOf(segment) };
    const known = await findRecordNear({ ops, fd, seed }, range.from, { low, high });
    const windowBytes = range.to - range.from < SHORT_READ_RECORDS ? SHORT_WINDOW_BYTES : SCAN_WINDOW_BYTES;
    const erasures = new Erasures(folder.path, folder.appId);
    const scanner = new SegmentScanner({ ops, fd, erasures }, { segment, seed, ...known }, windowBytes);
    while (scanner.lsn <= range.to) {
      const { lsn, position } = scanner;
      const step = await scanner.nextLater(source.endOf(segment), lsn < range.from ? "prefix" : "record");
      if (step.state === "end" || step.state === "fault") {
        const fault = step.state === "end" ? "the segment ends too early" : step.fault;
        const where = `${folder.pathOf(segment)} is damaged at byte ${position}, record ${lsn}: ${fault}`;
        throw new TidemarkError("DATA_DAMAGED", where, { data: { segment, position, lsn } });
      }
      positions.note(segment, lsn, position);
      if (step.state === "record") yield step.record;
    }
  } finally {
    ops.close(fd);
  }
}

function openSegment({ folder, ops }: TailSource, segment: number, lsn: Lsn): number {
  try {
    return ops.open(folder.pathOf(segment), "read");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    const message = `${folder.pathOf(segment)} is missing: record ${lsn} can't be read`;
    throw new TidemarkError("DATA_DAMAGED", message, { cause: error, data: { segment, lsn } });
  }
}

function outOfHistory({ folder }: TailSource, lsn: Lsn): TidemarkError {
  const oldest = folder.list.find((info) => !info.removed);
  const kept =
    oldest === undefined ? "there are no records" : `records are kept from ${present(oldest, "segment").segment} on`;
  return new TidemarkError("OUT_OF_HISTORY", `record ${lsn} is not kept any more: ${kept}`, { data: { lsn } });
}
