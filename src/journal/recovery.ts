import fs from "node:fs";
import type { Timestamp } from "../base/clock.ts";
import { syncFolder } from "../base/durable-file.ts";
import type { Log } from "../base/log.ts";
import { FsError, TidemarkError } from "../domain/errors.ts";
import type { Lsn } from "../domain/ids.ts";
import { type Cut, findProof } from "./durability-proof.ts";
import { Erasures } from "./erasures.ts";
import { dropCached, type FileOps } from "./file-ops.ts";
import { SCAN_WINDOW_BYTES } from "./limits.ts";
import type { PositionIndex } from "./position-index.ts";
import type { JournalRecord } from "./record.ts";
import { isFault } from "./record-decoder.ts";
import { decodeHeader, HEADER_BYTES, type SegmentHeader } from "./segment-file.ts";
import { readStart, type SegmentFolder, type SegmentInfo } from "./segment-folder.ts";
import { SegmentScanner } from "./segment-scanner.ts";

export type RecoveryOptions = {
  readonly folder: SegmentFolder;
  readonly ops: FileOps;
  readonly log: Log;
  readonly appliedLsn: Lsn;
  /** Changes nothing: a torn tail is passed over, not cut. */
  readonly readOnly: boolean;
  readonly onRecord: (record: JournalRecord) => void;
  readonly positions: PositionIndex;
};

export type Recovered = {
  readonly lastLsn: Lsn;
  readonly lastTime: Timestamp | undefined;
  /** Where the next record goes: in the folder's last segment. Undefined when there is no segment. */
  readonly tail: { readonly header: SegmentHeader; readonly end: number } | undefined;
};

/**
 * Finds the journal's end and hands over every record after the applied LSN, verified down to its data (FORMAT.md, "Append, sync, and the
 * crash argument", 4 and 5). What it kept is durable when it resolves. Throws DATA_DAMAGED, with segment and position, when something durable is missing.
 */
export async function recover(options: RecoveryOptions): Promise<Recovered> {
  const { folder, appliedLsn } = options;
  const replay = new Replay(options);
  for (let index = firstReplayed(folder, appliedLsn); index < folder.list.length; index += 1) {
    const cut = await replay.segment(index);
    if (cut === undefined) continue;
    const proof = findProof(folder, options.ops, cut, appliedLsn);
    if (proof !== undefined) throw refusal(folder, cut, proof);
    if (followsRemoved(folder, cut, appliedLsn)) throw missing(folder, appliedLsn);
    await replay.cut(cut);
    break;
  }
  const recovered = replay.result();
  if (recovered.lastLsn < appliedLsn) throw missing(folder, appliedLsn);
  if (!options.readOnly) await syncFolder(folder.path);
  return recovered;
}

// The last segment that holds applied records, so that the time of the last record is always seen; the one after it where cleaning
// took that one's records away.
function firstReplayed(folder: SegmentFolder, appliedLsn: Lsn): number {
  const index = Math.max(0, folder.indexOf(appliedLsn));
  const removed = folder.list[index]?.removed === true && index + 1 < folder.list.length;
  return removed ? index + 1 : index;
}

// Segments are removed only when the first record after them is durable (Journal.removeSegment): so that one is not an interrupted write.
function followsRemoved(folder: SegmentFolder, cut: Cut, appliedLsn: Lsn): boolean {
  if (cut.position > HEADER_BYTES) return false;
  const before = folder.list[cut.index - 1];
  return before === undefined ? appliedLsn > 0 : before.removed;
}

function missing(folder: SegmentFolder, appliedLsn: Lsn): TidemarkError {
  const first = folder.list[0];
  const found =
    first === undefined
      ? "there is no segment"
      : `the segments begin with LSN ${first.segment} and have a gap, or an end, before that`;
  return new TidemarkError(
    "DATA_DAMAGED",
    `${folder.path}: the journal does not reach LSN ${appliedLsn}, to which its rows were applied, or does not go on from there: ${found}. ` +
      "Bring back the files from a copy, or the app from its repository",
    { data: { appliedLsn } },
  );
}

function refusal(folder: SegmentFolder, cut: Cut, proof: string): TidemarkError {
  const { segment, position, lsn } = cut;
  return new TidemarkError(
    "DATA_DAMAGED",
    `${folder.pathOf(segment)} is damaged at byte ${position}: ${cut.fault}. This is not an interrupted write, since LSN ${lsn} had been durable (${proof}). ` +
      "Nothing was changed: bring back the file from a copy, or the app from its repository",
    { data: { segment, position, lsn } },
  );
}

/** The walk over the segments; remembers where the journal ends so far. */
class Replay {
  readonly #options: RecoveryOptions;
  #lastLsn: Lsn;
  #lastTime: Timestamp | undefined;
  #tail: { header: SegmentHeader; end: number } | undefined;

  constructor(options: RecoveryOptions) {
    this.#options = options;
    this.#lastLsn = options.folder.list.length === 0 ? (0 as Lsn) : options.appliedLsn;
  }

  result(): Recovered {
    return { lastLsn: this.#lastLsn, lastTime: this.#lastTime, tail: this.#tail };
  }

  /** Reads the segment at `index`. Answers where the journal ends, if it does before the segment's end. */
  async segment(index: number): Promise<Cut | undefined> {
    const { folder, appliedLsn, ops, readOnly } = this.#options;
    const info = folder.list[index] as SegmentInfo;
    const { segment } = info;
    const next = this.#tail === undefined ? Math.min(segment, appliedLsn + 1) : this.#lastLsn + 1;
    if (segment !== next) return this.#gapBefore(index);
    const header = decodeHeader(readStart(folder.pathOf(segment)), { appId: folder.appId, segment });
    if (isFault(header)) {
      if (header.foreign) folder.readHeader(segment);
      return { index, segment, position: 0, lsn: segment as Lsn, fault: header.fault };
    }
    if (header.state === "removed") throw missing(folder, appliedLsn);
    const fd = ops.open(folder.pathOf(segment), readOnly ? "read" : "write");
    try {
      if (!readOnly) await this.#settle(fd, segment);
      return this.#scan(fd, { index, info, header, appliedLsn });
    } finally {
      ops.close(fd);
    }
  }

  // What is in memory only, after a kill -9, becomes durable here. What a failed sync left in memory marked as written, now or before a restart, is
  // dropped: what is read next is what the disk has (FORMAT.md, crash argument 6).
  async #settle(fd: number, segment: number): Promise<void> {
    const { ops, folder, log } = this.#options;
    try {
      await ops.sync(fd);
      dropCached(fd);
    } catch (error) {
      log.warn("a segment can't be made durable as it is in memory: going on with what the disk has", {
        segment,
        cause: error,
      });
      const message = `${folder.pathOf(segment)} can't be made durable: the disk fails`;
      if (!dropCached(fd)) throw new FsError("EIO", message, { cause: error });
      // Nothing that failed is left in memory: the second one answers for what is.
      await ops.sync(fd).catch((cause: unknown) => {
        throw new FsError("EIO", message, { cause });
      });
      dropCached(fd);
    }
  }

  #scan(fd: number, at: { index: number; info: SegmentInfo; header: SegmentHeader; appliedLsn: Lsn }): Cut | undefined {
    const { info, header, index } = at;
    const { segment, bytes } = info;
    const start = { segment, seed: header.seed, position: HEADER_BYTES, lsn: segment as Lsn };
    const erasures = new Erasures(this.#options.folder.path, this.#options.folder.appId);
    const scanner = new SegmentScanner({ ops: this.#options.ops, fd, erasures }, start, SCAN_WINDOW_BYTES);
    // A segment without records says nothing of earlier ones: the LSN before it is the last.
    this.#reach((segment - 1) as Lsn, header, HEADER_BYTES);
    for (;;) {
      const { position } = scanner;
      const step = scanner.next(bytes, scanner.lsn <= at.appliedLsn ? "prefix" : "data");
      if (step.state === "end") return undefined;
      if (step.state === "fault") {
        return { index, segment, position, lsn: scanner.lsn, fault: step.fault };
      }
      const { lsn, sec, nsec } = step.prefix;
      this.#options.positions.note(segment, lsn, position);
      if (step.state === "record") this.#options.onRecord(step.record);
      this.#lastTime = { sec, nsec };
      this.#reach(lsn, header, scanner.position);
    }
  }

  /** Makes the journal end at `cut`. */
  async cut(cut: Cut): Promise<void> {
    const { folder, ops, log, readOnly } = this.#options;
    const keepsSegment = cut.position >= HEADER_BYTES;
    const removed = folder.list.slice(keepsSegment ? cut.index + 1 : cut.index);
    const kept = folder.list[cut.index] as SegmentInfo;
    const bytes = (keepsSegment ? kept.bytes - cut.position : 0) + removed.reduce((sum, info) => sum + info.bytes, 0);
    log.warn("the journal's unsynced tail is cut off", {
      ...describe(cut),
      bytes,
      segmentsRemoved: removed.length,
      readOnly,
    });
    folder.list.length = keepsSegment ? cut.index + 1 : cut.index;
    if (keepsSegment) kept.bytes = cut.position;
    if (readOnly) return;
    // Newest first: whenever this stops, what is left is a journal with a longer tail to cut.
    for (const { segment } of removed.reverse()) fs.unlinkSync(folder.pathOf(segment));
    await syncFolder(folder.path);
    if (!keepsSegment) return;
    const fd = ops.open(folder.pathOf(cut.segment), "write");
    try {
      ops.truncate(fd, cut.position);
      await ops.sync(fd);
    } finally {
      ops.close(fd);
    }
  }

  // The segment at `index` does not go on from the one before, or from the applied LSN: what was between is missing.
  #gapBefore(index: number): Cut {
    const { folder } = this.#options;
    const fault = `the next segment begins with LSN ${folder.list[index]?.segment}`;
    const lsn = (this.#lastLsn + 1) as Lsn;
    const before = this.#tail === undefined ? undefined : folder.list[index - 1];
    if (before !== undefined) return { index: index - 1, segment: before.segment, position: before.bytes, lsn, fault };
    return { index, segment: folder.list[index]?.segment ?? 0, position: 0, lsn, fault };
  }

  #reach(lsn: Lsn, header: SegmentHeader, end: number): void {
    this.#lastLsn = lsn;
    this.#tail = { header, end };
  }
}

function describe(cut: Cut): Record<string, unknown> {
  return { segment: cut.segment, position: cut.position, lsn: cut.lsn, fault: cut.fault };
}
