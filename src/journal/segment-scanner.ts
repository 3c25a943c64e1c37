import type { Lsn } from "../domain/ids.ts";
import { damagedSurvivor, type Erasure, type Erasures, zeroErased } from "./erasures.ts";
import type { FileOps } from "./file-ops.ts";
import { BODY_BYTES_MAX, DATA_BYTES_MAX, dataOffset, type JournalRecord, PREFIX_BYTES, SALT_BYTES } from "./record.ts";
import {
  damagedBlock,
  decodeErasedRecord,
  decodePrefix,
  decodeRecord,
  type Fault,
  isFault,
  type RecordPrefix,
} from "./record-decoder.ts";

/** How much of each record is looked at: `prefix` hops from one to the next, `record` verifies and decodes all but the data, `data` everything. */
export type ScanDepth = "prefix" | "record" | "data";

export type ScanStep =
  | { readonly state: "prefix"; readonly prefix: RecordPrefix; readonly position: number }
  | { readonly state: "record"; readonly record: JournalRecord; readonly prefix: RecordPrefix }
  /** The scan stands exactly at the end. */
  | { readonly state: "end" }
  /** No record that verifies and has the next LSN is at `position`. `prefix`, if that much is in order. The scan stays there. */
  | { readonly state: "fault"; readonly position: number; readonly fault: string; readonly prefix?: RecordPrefix };

type Need = { readonly state: "need"; readonly position: number; readonly length: number };

// A record longer than the window, whose head is read: the window moves on to its tail.
type Pending = { readonly position: number; readonly prefix: RecordPrefix; readonly table: Buffer };

/** Where a scan begins: a record's first byte and its LSN. */
export type ScanStart = {
  readonly segment: number;
  readonly seed: number;
  readonly position: number;
  readonly lsn: Lsn;
};

/** A window is at most one whole record. */
const WINDOW_BYTES_MAX = dataOffset(DATA_BYTES_MAX) + DATA_BYTES_MAX + SALT_BYTES + BODY_BYTES_MAX;

/**
 * Reads one segment's records in order, through a window of bounded size. `next` and `nextLater` do the same, one in the
 * caller's turn and one in the thread pool; the window is one buffer, used again.
 */
export class SegmentScanner {
  readonly #ops: FileOps;
  readonly #erasures: Erasures | undefined;
  readonly #fd: number;
  readonly #segment: number;
  readonly #seed: number;
  readonly #windowBytes: number;
  #buffer: Buffer;
  #windowStart = 0;
  #windowLength = 0;
  #position: number;
  #lsn: Lsn;
  #pending: Pending | undefined;

  /** `erasures`: where to look what was erased of a record that doesn't verify; absent: it is damaged. */
  constructor(file: { ops: FileOps; fd: number; erasures?: Erasures }, start: ScanStart, windowBytes: number) {
    this.#ops = file.ops;
    this.#erasures = file.erasures;
    this.#fd = file.fd;
    this.#segment = start.segment;
    this.#seed = start.seed;
    this.#position = start.position;
    this.#lsn = start.lsn;
    this.#windowBytes = windowBytes;
    this.#buffer = Buffer.allocUnsafeSlow(windowBytes);
  }

  /** Of the next record's first byte. */
  get position(): number {
    return this.#position;
  }

  /** The LSN the next record must have. */
  get lsn(): Lsn {
    return this.#lsn;
  }

  /** The next record of the bytes before `end`. Waits for the disk in the caller's turn. Errors of reading are thrown. */
  next(end: number, depth: ScanDepth): ScanStep {
    for (;;) {
      const step = this.#step(end, depth);
      if (step.state !== "need") return step;
      const target = this.#prepareWindow(step, end);
      this.#windowLength = this.#ops.readNow(this.#fd, target, step.position);
      if (this.#windowLength < step.length) return this.#shortFile();
    }
  }

  /** The same, reading in the thread pool. One call at a time. */
  async nextLater(end: number, depth: ScanDepth): Promise<ScanStep> {
    for (;;) {
      const step = this.#step(end, depth);
      if (step.state !== "need") return step;
      const target = this.#prepareWindow(step, end);
      this.#windowLength = await this.#ops.readLater(this.#fd, target, step.position);
      if (this.#windowLength < step.length) return this.#shortFile();
    }
  }

  /** Bytes of the segment, through the window: valid until the next call. Fewer at the end of the file. Waits for the disk in the caller's turn. */
  readBytes(position: number, length: number): Buffer {
    const view = this.#view(position, length);
    if (view !== undefined) return view;
    const target = this.#prepareWindow({ state: "need", position, length }, position + length);
    this.#windowLength = this.#ops.readNow(this.#fd, target, position);
    return target.subarray(0, Math.min(length, this.#windowLength));
  }

  /** Forgets what was read ahead: for files that have grown since. */
  dropWindow(): void {
    this.#windowLength = 0;
  }

  /** Goes on behind a record whose prefix is in order, whatever the rest of it is. */
  skip(prefix: RecordPrefix): void {
    this.#position += prefix.length;
    this.#lsn = (this.#lsn + 1) as Lsn;
  }

  #step(end: number, depth: ScanDepth): ScanStep | Need {
    const position = this.#position;
    if (this.#pending?.position === position) return this.#readTail(this.#pending);
    if (position === end) return { state: "end" };
    if (end - position < PREFIX_BYTES) return { state: "fault", position, fault: "the file ends within a prefix" };
    const head = this.#view(position, PREFIX_BYTES);
    if (head === undefined) return { state: "need", position, length: PREFIX_BYTES };
    const prefix = decodePrefix(head, 0, this.#seed);
    if (isFault(prefix)) return { state: "fault", position, fault: prefix.fault };
    if (prefix.lsn !== this.#lsn) {
      return { state: "fault", position, fault: `the record has LSN ${prefix.lsn}, expected is ${this.#lsn}` };
    }
    if (prefix.length > end - position)
      return { state: "fault", position, fault: "the file ends within the record", prefix };
    if (depth === "prefix") {
      this.skip(prefix);
      return { state: "prefix", prefix, position };
    }
    return this.#readRest(prefix, depth);
  }

  #readRest(prefix: RecordPrefix, depth: "record" | "data"): ScanStep | Need {
    const position = this.#position;
    const headLength = dataOffset(prefix.dataLength);
    if (depth === "data" || prefix.dataLength === 0) {
      const whole = this.#view(position, prefix.length);
      if (whole === undefined) return { state: "need", position, length: prefix.length };
      const table = whole.subarray(PREFIX_BYTES, headLength);
      const dataEnd = headLength + prefix.dataLength;
      const block = this.#damagedBlock(table, whole.subarray(headLength, dataEnd));
      if (block >= 0)
        return { state: "fault", position, fault: `block ${block} of the data does not match its checksum`, prefix };
      return this.#decode(prefix, table, whole.subarray(dataEnd));
    }
    // Hopping over the data: a record that fits the window is read whole, of a longer one first the table, then the tail.
    const whole = this.#view(position, prefix.length);
    if (whole !== undefined) {
      return this.#decode(
        prefix,
        whole.subarray(PREFIX_BYTES, headLength),
        whole.subarray(headLength + prefix.dataLength),
      );
    }
    if (prefix.length <= this.#windowBytes) return { state: "need", position, length: prefix.length };
    const head = this.#view(position, headLength);
    if (head === undefined) return { state: "need", position, length: headLength };
    this.#pending = { position, prefix, table: Buffer.from(head.subarray(PREFIX_BYTES)) };
    return this.#readTail(this.#pending);
  }

  #readTail(pending: Pending): ScanStep | Need {
    const { position, prefix, table } = pending;
    const tailStart = position + dataOffset(prefix.dataLength) + prefix.dataLength;
    const length = position + prefix.length - tailStart;
    const tail = this.#view(tailStart, length);
    if (tail === undefined) return { state: "need", position: tailStart, length };
    this.#pending = undefined;
    return this.#decode(prefix, table, tail);
  }

  #decode(prefix: RecordPrefix, table: Buffer, tail: Buffer): ScanStep {
    const position = this.#position;
    const record = decodeRecord(prefix, table, tail, { segment: this.#segment, position, seed: this.#seed });
    const found = isFault(record) ? (this.#decodeErased(prefix, tail) ?? record) : record;
    if (isFault(found)) return { state: "fault", position, fault: found.fault, prefix };
    this.skip(prefix);
    return { state: "record", record: found, prefix };
  }

  #decodeErased(prefix: RecordPrefix, tail: Buffer): JournalRecord | Fault | undefined {
    const erasure = prefix.dataLength === 0 ? undefined : this.#erasure();
    const place = { segment: this.#segment, position: this.#position, seed: this.#seed };
    return erasure === undefined ? undefined : decodeErasedRecord(prefix, tail, place, erasure);
  }

  /** The first block that doesn't verify, also counting what was erased. */
  #damagedBlock(table: Buffer, data: Buffer): number {
    const block = damagedBlock(table, data);
    const erasure = block < 0 ? undefined : this.#erasure();
    if (erasure === undefined || erasure.dataLength !== data.length) return block;
    // It is our own window.
    zeroErased(data, erasure);
    return damagedSurvivor(table, data, erasure);
  }

  #erasure(): Erasure | undefined {
    return this.#erasures?.find(this.#segment, this.#position);
  }

  #view(position: number, length: number): Buffer | undefined {
    const at = position - this.#windowStart;
    if (at < 0 || at + length > this.#windowLength) return undefined;
    return this.#buffer.subarray(at, at + length);
  }

  #prepareWindow(need: Need, end: number): Buffer {
    // Lengths come from prefixes that verified and fit before `end`; the codec bounds them all the same.
    const length = Math.min(Math.max(need.length, Math.min(this.#windowBytes, end - need.position)), WINDOW_BYTES_MAX);
    if (length > this.#buffer.length) this.#buffer = Buffer.allocUnsafeSlow(length);
    this.#windowStart = need.position;
    this.#windowLength = 0;
    return this.#buffer.subarray(0, length);
  }

  #shortFile(): ScanStep {
    return { state: "fault", position: this.#position, fault: "the file is shorter than it was" };
  }
}
