import fs from "node:fs";
import path from "node:path";
import { syncFolder } from "../base/durable-file.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { AppId, Lsn } from "../domain/ids.ts";
import { erasuresName, isErasuresName } from "./erasures.ts";
import type { FileOps } from "./file-ops.ts";
import { HEADERS_CHECKED_MAX } from "./limits.ts";
import { isFault } from "./record-decoder.ts";
import {
  decodeHeader,
  encodeHeader,
  HEADER_BYTES,
  type HeaderFault,
  parseSegmentName,
  type SegmentHeader,
  segmentName,
} from "./segment-file.ts";

/** A segment as it is known without reading its records. */
export type SegmentInfo = {
  readonly segment: number;
  /** Of the file. */
  bytes: number;
  /** No record will follow in it. */
  sealed: boolean;
  /** Cleaning took its records away. Known for segments whose header was read; a file that is only a header and is not the last has no records either way. */
  removed: boolean;
};

/** The segments of one journal, by number. Invariant: dense, a segment's last LSN is the next one's number - 1. */
export class SegmentFolder {
  readonly path: string;
  readonly appId: AppId;
  readonly list: SegmentInfo[];

  constructor(folder: string, appId: AppId, list: SegmentInfo[]) {
    this.path = folder;
    this.appId = appId;
    this.list = list;
  }

  /**
   * Lists the folder and checks the newest headers. A damaged header behind the applied LSN is left to recovery, as its writing may have been interrupted. Throws
   * DATA_DAMAGED, DATA_FOLDER_FOREIGN.
   */
  static open(folder: string, appId: AppId, appliedLsn: Lsn): SegmentFolder {
    const list: SegmentInfo[] = [];
    for (const name of fs.readdirSync(folder).sort()) {
      if (isErasuresName(name)) continue;
      const segment = parseSegmentName(name);
      if (segment === undefined) {
        throw new TidemarkError(
          "DATA_FOLDER_FOREIGN",
          `${path.join(folder, name)} is not part of a journal: move it away`,
        );
      }
      const { size } = fs.statSync(path.join(folder, name));
      list.push({ segment, bytes: size, sealed: true, removed: false });
    }
    const opened = new SegmentFolder(folder, appId, list);
    for (const info of list.slice(-HEADERS_CHECKED_MAX)) {
      const header = decodeHeader(readStart(opened.pathOf(info.segment)), { appId, segment: info.segment });
      if (!isFault(header)) info.removed = header.state === "removed";
      else if (header.foreign || info.segment <= appliedLsn) throw opened.#headerError(info.segment, header);
    }
    return opened;
  }

  pathOf(segment: number): string {
    return path.join(this.path, segmentName(segment));
  }

  /** Index in `list` of the segment that holds `lsn`, the last one for LSNs beyond; -1 when all begin later. */
  indexOf(lsn: number): number {
    let low = 0;
    let high = this.list.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.list[middle]?.segment ?? 0) <= lsn) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** The segment with this number. */
  get(segment: number): SegmentInfo | undefined {
    const info = this.list[this.indexOf(segment)];
    return info?.segment === segment ? info : undefined;
  }

  /** The last LSN of the segment at `index`: the next one's number - 1; `lastLsn` for the last. */
  lastLsnOf(index: number, lastLsn: Lsn): Lsn {
    const next = this.list[index + 1];
    return next === undefined ? lastLsn : ((next.segment - 1) as Lsn);
  }

  /**
   * Gives back the space of a segment marked as removed: those at the front lose their file, one between others keeps its header. Durable when it
   * resolves; safe to repeat after a crash at any point.
   */
  async remove(segment: number, ops: FileOps): Promise<void> {
    const info = this.get(segment);
    if (info === undefined) return;
    if (this.list[0] !== info) return this.#truncate(info, ops);
    // A removed one that comes to the front has no neighbour to keep together any more.
    const kept = this.list.findIndex(({ removed }) => !removed);
    for (const { segment: gone } of this.list.slice(0, kept)) {
      fs.rmSync(this.pathOf(gone), { force: true });
      fs.rmSync(path.join(this.path, erasuresName(gone)), { force: true });
    }
    this.list.splice(0, kept);
    await syncFolder(this.path);
  }

  // The mark is durable before the records go, so that they are never taken for lost.
  async #truncate(info: SegmentInfo, ops: FileOps): Promise<void> {
    const header = this.readHeader(info.segment);
    const fd = ops.open(this.pathOf(info.segment), "write");
    try {
      ops.write(fd, [encodeHeader({ ...header, state: "removed" })], 0);
      await ops.sync(fd);
      ops.truncate(fd, HEADER_BYTES);
      info.bytes = HEADER_BYTES;
    } finally {
      ops.close(fd);
    }
    fs.rmSync(path.join(this.path, erasuresName(info.segment)), { force: true });
  }

  /** Reads and checks a header. Throws DATA_DAMAGED or, for another app's or a newer version's, DATA_FOLDER_FOREIGN. */
  readHeader(segment: number): SegmentHeader {
    const header = decodeHeader(readStart(this.pathOf(segment)), { appId: this.appId, segment });
    if (isFault(header)) throw this.#headerError(segment, header);
    return header;
  }

  #headerError(segment: number, { fault, foreign }: HeaderFault): TidemarkError {
    const code = foreign ? "DATA_FOLDER_FOREIGN" : "DATA_DAMAGED";
    return new TidemarkError(code, `${this.pathOf(segment)}: ${fault}`, { data: { segment, position: 0 } });
  }
}

/** The first bytes of a file: a header's length, or all there is. */
export function readStart(file: string, length = HEADER_BYTES): Buffer {
  const fd = fs.openSync(file, "r");
  try {
    const bytes = Buffer.alloc(length);
    return bytes.subarray(0, fs.readSync(fd, bytes, 0, length, 0));
  } finally {
    fs.closeSync(fd);
  }
}
