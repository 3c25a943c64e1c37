import fs from "node:fs";
import path from "node:path";
import { TidemarkError } from "../domain/errors.ts";
import type { AppId, Lsn } from "../domain/ids.ts";
import { Erasures } from "./erasures.ts";
import { type FileOps, SystemFileOps } from "./file-ops.ts";
import { SCAN_WINDOW_BYTES } from "./limits.ts";
import type { JournalRecord } from "./record.ts";
import { isFault, type RecordPrefix } from "./record-decoder.ts";
import { decodeHeader, HEADER_BYTES, parseSegmentName, segmentName } from "./segment-file.ts";
import { readStart } from "./segment-folder.ts";
import { SegmentScanner } from "./segment-scanner.ts";

type WalkedSegment = {
  readonly segment: number;
  readonly seed: number;
  readonly fd: number;
  readonly scanner: SegmentScanner;
};

/** A record somebody walked to. Its bytes are read through `scanner`. */
export type WalkedRecord = WalkedSegment & {
  readonly position: number;
  readonly prefix: RecordPrefix;
  readonly record: JournalRecord | undefined;
};

/**
 * Walks over the records of a journal that another thread is writing, from segment to segment, synchronously. Shares nothing with the writer but the files, and
 * must only be asked for what is durable. Going on is cheap; going elsewhere searches a segment from its start.
 */
export class SegmentWalker {
  readonly ops: FileOps = new SystemFileOps();
  readonly erasures: Erasures;
  readonly #folder: string;
  readonly #appId: AppId;
  #open: WalkedSegment | undefined;

  constructor(folder: string, appId: AppId) {
    this.#folder = folder;
    this.#appId = appId;
    this.erasures = new Erasures(folder, appId);
  }

  /** To be called before reading on after a pause: what was read ahead may have been half a record then. */
  refresh(): void {
    this.#open?.scanner.dropWindow();
  }

  /**
   * Goes to record `lsn`: `prefix` leaves its body to the caller, `record` verifies and decodes all but its data. Throws TidemarkError DATA_DAMAGED or
   * DATA_FOLDER_FOREIGN, naming segment and position; OUT_OF_HISTORY when no segment has the record.
   */
  goTo(lsn: Lsn, depth: "prefix" | "record"): WalkedRecord {
    let open = this.#open;
    if (open === undefined || open.scanner.lsn > lsn) open = this.#openSegment(this.#find(lsn), lsn);
    for (;;) {
      const { scanner, segment } = open;
      const { position } = scanner;
      const found = scanner.lsn === lsn;
      const step = scanner.next(fs.fstatSync(open.fd).size, found ? depth : "prefix");
      if (step.state === "record" || step.state === "prefix") {
        if (!found) continue;
        return { ...open, position, prefix: step.prefix, record: step.state === "record" ? step.record : undefined };
      }
      if (step.state === "end" && scanner.lsn > segment) {
        open = this.#openSegment(scanner.lsn, lsn);
        continue;
      }
      throw damaged(segment, {
        lsn: scanner.lsn,
        position,
        fault: step.state === "end" ? "it has no records" : step.fault,
      });
    }
  }

  close(): void {
    if (this.#open !== undefined) this.ops.close(this.#open.fd);
    this.#open = undefined;
  }

  #openSegment(segment: number, wanted: Lsn): WalkedSegment {
    this.close();
    const { fd, seed } = openRecords({ folder: this.#folder, appId: this.#appId, ops: this.ops }, segment, wanted);
    const start = { segment, seed, position: HEADER_BYTES, lsn: segment as Lsn };
    const scanner = new SegmentScanner({ ops: this.ops, fd, erasures: this.erasures }, start, SCAN_WINDOW_BYTES);
    this.#open = { segment, seed, fd, scanner };
    return this.#open;
  }

  #find(lsn: Lsn): number {
    return findSegment(this.#folder, lsn);
  }
}

/** Where a journal is that another thread writes. */
export type WalkedFolder = { readonly folder: string; readonly appId: AppId; readonly ops: FileOps };

/** Opens a segment for reading records of it, of which `wanted` is the first. Throws DATA_DAMAGED, DATA_FOLDER_FOREIGN, or OUT_OF_HISTORY when it has no records any more. */
export function openRecords(
  { folder, appId, ops }: WalkedFolder,
  segment: number,
  wanted: Lsn,
): { readonly fd: number; readonly seed: number } {
  const file = path.join(folder, segmentName(segment));
  if (!fs.existsSync(file)) throw outOfHistory(folder, wanted);
  const header = decodeHeader(readStart(file), { appId, segment });
  if (isFault(header)) {
    throw new TidemarkError(header.foreign ? "DATA_FOLDER_FOREIGN" : "DATA_DAMAGED", `${file}: ${header.fault}`);
  }
  if (header.state === "removed") throw outOfHistory(folder, wanted);
  return { fd: ops.open(file, "read"), seed: header.seed };
}

/** The segment whose file holds `lsn`, going by the names. Throws OUT_OF_HISTORY when all begin later. */
export function findSegment(folder: string, lsn: Lsn): number {
  let found = 0;
  for (const name of fs.readdirSync(folder)) {
    const segment = parseSegmentName(name) ?? 0;
    if (segment <= lsn && segment > found) found = segment;
  }
  if (found === 0) throw outOfHistory(folder, lsn);
  return found;
}

/** The error of a record that does not verify. */
export function damaged(segment: number, at: { lsn: Lsn; position: number; fault: string }): TidemarkError {
  const where = `${segmentName(segment)} is damaged at byte ${at.position}, record ${at.lsn}: ${at.fault}`;
  return new TidemarkError("DATA_DAMAGED", where, { data: { segment, position: at.position, lsn: at.lsn } });
}

function outOfHistory(folder: string, lsn: Lsn): TidemarkError {
  return new TidemarkError("OUT_OF_HISTORY", `${folder}: record ${lsn} is not kept any more`, { data: { lsn } });
}
