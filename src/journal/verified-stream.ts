import { createHash, hash } from "node:crypto";
import { crc32 } from "node:zlib";
import { assert } from "../base/assert.ts";
import type { AppId, Lsn } from "../domain/ids.ts";
import { NO_DATA_HASH } from "./chain.ts";
import { type DataRange, damagedSurvivor, type Erasure, Erasures, zeroErased } from "./erasures.ts";
import { type FileOps, SystemFileOps } from "./file-ops.ts";
import { SCAN_WINDOW_BYTES } from "./limits.ts";
import { dataOffset, PREFIX_BYTES, saltLength } from "./record.ts";
import { damagedBlock, decodePrefix, isFault, type RecordPrefix } from "./record-decoder.ts";
import { HEADER_BYTES } from "./segment-file.ts";
import { SegmentScanner } from "./segment-scanner.ts";
import { damaged, findSegment, openRecords } from "./segment-walker.ts";

/** A record with its data, every byte verified. The buffers are views of the stream's window: valid until the next call of any of its methods. */
export type VerifiedRecord = {
  readonly fields: RecordPrefix;
  readonly segment: number;
  readonly dataStart: number;
  readonly prefix: Buffer;
  readonly data: Buffer;
  readonly salt: Buffer;
  readonly body: Buffer;
  /** FORMAT.md, "Chain". A buffer of its own. */
  readonly inner: Buffer;
  /** What of the data was erased, in order: zeros in `data`. Then `salt` is zeros too. Absent: nothing. */
  readonly erased?: readonly DataRange[];
};

/** Bytes read at a time, while those read before are used: at the speed of any disk that is a few milliseconds of work. */
const WINDOW_BYTES = 4 * 1024 * 1024;

/** Room before a window for the record that the one before ends within. A longer one gets a window of its own. */
const HEAD_ROOM_BYTES = 1.25 * 1024 * 1024;

/** Above this, hashing in parts costs less than copying salt, table and data together. */
const COPIED_HASH_BYTES_MAX = 65_536;

type OpenSegment = { readonly segment: number; readonly seed: number; readonly fd: number };

/** `view` holds the segment's bytes from `start` on. */
type Window = { readonly view: Buffer; readonly start: number };

type Ahead = { readonly buffer: Buffer; readonly start: number; readonly count: Promise<number> };

/**
 * Reads the records of a journal that another thread is writing, in order and with their data, reading ahead in the thread pool. Shares nothing with the writer but the
 * files, and must only be asked for what is durable. Memory: two windows, or one record if that is longer.
 *
 *   stream.refresh(to);
 *   while (!stream.isDone) { const record = stream.take(); if (record === undefined) await stream.fill(); else use(record); }
 */
export class VerifiedStream {
  readonly #folder: string;
  readonly #appId: AppId;
  readonly #ops: FileOps;
  readonly #erasures: Erasures;
  readonly #scratch = Buffer.allocUnsafeSlow(COPIED_HASH_BYTES_MAX);
  #spare: Buffer[] = [];
  #open: OpenSegment | undefined;
  #window: Window | undefined;
  #windowBuffer: Buffer | undefined;
  #ahead: Ahead | undefined;
  /** Where `close` left. */
  #left: { readonly segment: number; readonly position: number } | undefined;
  #atEnd = false;
  #position = 0;
  #lsn: Lsn;
  #to = 0;

  /** `from`: the first record wanted. */
  constructor(options: {
    readonly folder: string;
    readonly appId: AppId;
    readonly from: Lsn;
    readonly ops?: FileOps;
  }) {
    this.#folder = options.folder;
    this.#appId = options.appId;
    this.#ops = options.ops ?? new SystemFileOps();
    this.#erasures = new Erasures(options.folder, options.appId);
    this.#lsn = options.from;
  }

  /** The record that `take` gives next. */
  get lsn(): Lsn {
    return this.#lsn;
  }

  /** Nothing is left up to the LSN given to `refresh`. */
  get isDone(): boolean {
    return this.#lsn > this.#to;
  }

  /** Goes on up to `to`, which is durable by now. What was read ahead is forgotten: it may have been half a record then. */
  async refresh(to: Lsn): Promise<void> {
    await this.#dropWindow();
    this.#to = to;
  }

  /**
   * The next record, or undefined when more has to be read first: `fill`. Throws TidemarkError DATA_DAMAGED, naming segment and position, where it
   * does not verify; it is still the next one then.
   */
  take(): VerifiedRecord | undefined {
    assert(!this.isDone, "a record beyond the end");
    const open = this.#open;
    const window = this.#window;
    if (open === undefined || window === undefined) return undefined;
    const at = this.#position - window.start;
    const available = window.view.length - at;
    if (available < PREFIX_BYTES) return this.#short(open, available);
    const fields = decodePrefix(window.view, at, open.seed);
    if (isFault(fields)) throw this.#damaged(open, fields.fault);
    if (fields.lsn !== this.#lsn) {
      throw this.#damaged(open, `the record has LSN ${fields.lsn}, expected is ${this.#lsn}`);
    }
    if (fields.length > available) return this.#short(open, available);
    const record = this.#verify(open, fields, window.view.subarray(at, at + fields.length) as Buffer);
    this.#position += fields.length;
    this.#lsn = (this.#lsn + 1) as Lsn;
    return record;
  }

  /** Reads on. Throws OUT_OF_HISTORY when the record is not kept, DATA_DAMAGED or DATA_FOLDER_FOREIGN for its segment's header, or Node's errors of reading. */
  async fill(): Promise<void> {
    if (this.#open === undefined) {
      this.#resume();
    } else if (this.#atEnd) {
      // The end of a segment: its neighbour begins with the next record.
      await this.#dropWindow();
      this.#ops.close(this.#open.fd);
      this.#open = undefined;
      this.#begin(this.#lsn, HEADER_BYTES);
    }
    const { segment, fd } = this.#open as OpenSegment;
    const window = this.#window ?? { view: Buffer.alloc(0), start: this.#position };
    const start = window.start + window.view.length;
    const ahead = this.#ahead?.start === start ? this.#ahead : this.#readAhead(fd, start);
    this.#ahead = undefined;
    const count = await ahead.count;
    assert(this.#open?.segment === segment, "a stream is read by one caller");
    const rest = window.view.subarray(this.#position - window.start);
    const old = this.#windowBuffer;
    this.#window = { view: join(rest, ahead.buffer, count), start: this.#position };
    this.#windowBuffer = ahead.buffer;
    if (old !== undefined) this.#spare.push(old);
    this.#atEnd = count < WINDOW_BYTES;
    if (!this.#atEnd) this.#ahead = this.#readAhead(fd, start + count);
  }

  /** Lets go of file and memory, so that neither is held while nothing is read. Reading on goes on where it was. */
  async close(): Promise<void> {
    await this.#dropWindow();
    this.#spare = [];
    if (this.#open === undefined) return;
    this.#ops.close(this.#open.fd);
    this.#left = { segment: this.#open.segment, position: this.#position };
    this.#open = undefined;
  }

  async #dropWindow(): Promise<void> {
    const ahead = this.#ahead;
    this.#ahead = undefined;
    this.#window = undefined;
    this.#atEnd = false;
    if (this.#windowBuffer !== undefined) this.#spare.push(this.#windowBuffer);
    this.#windowBuffer = undefined;
    if (ahead === undefined) return;
    await ahead.count.catch(() => 0);
    this.#spare.push(ahead.buffer);
  }

  /** Opens where `close` left, or wherever the record is: what was read may not be kept any more, and is not needed. */
  #resume(): void {
    const left = this.#left;
    this.#left = undefined;
    if (left === undefined || findSegment(this.#folder, this.#lsn) !== left.segment) this.#seek();
    else this.#begin(left.segment, left.position);
  }

  #seek(): void {
    const segment = findSegment(this.#folder, this.#lsn);
    const open = this.#begin(segment, HEADER_BYTES);
    if (segment === this.#lsn) return;
    const start = { segment, seed: open.seed, position: HEADER_BYTES, lsn: segment as Lsn };
    const scanner = new SegmentScanner(
      { ops: this.#ops, fd: open.fd, erasures: this.#erasures },
      start,
      SCAN_WINDOW_BYTES,
    );
    while (scanner.lsn < this.#lsn) {
      const step = scanner.next(Number.MAX_SAFE_INTEGER, "prefix");
      if (step.state === "prefix") continue;
      this.#position = scanner.position;
      throw this.#damaged(open, step.state === "fault" ? step.fault : "it has no records");
    }
    this.#position = scanner.position;
  }

  #begin(segment: number, position: number): OpenSegment {
    const from = { folder: this.#folder, appId: this.#appId, ops: this.#ops };
    const { fd, seed } = openRecords(from, segment, this.#lsn);
    this.#open = { segment, fd, seed };
    this.#position = position;
    return this.#open;
  }

  #readAhead(fd: number, start: number): Ahead {
    const buffer = this.#spare.pop() ?? Buffer.allocUnsafeSlow(HEAD_ROOM_BYTES + WINDOW_BYTES);
    const count = this.#ops.readLater(fd, buffer.subarray(HEAD_ROOM_BYTES), start);
    // Whoever waits for it gets the error; nobody may.
    count.catch(() => {});
    return { buffer, start, count };
  }

  /** More is needed, unless the file has no more. */
  #short(open: OpenSegment, available: number): undefined {
    if (!this.#atEnd || (available === 0 && this.#lsn > open.segment)) return undefined;
    throw this.#damaged(open, available === 0 ? "it has no records" : "the file ends within the record");
  }

  #verify(open: OpenSegment, fields: RecordPrefix, record: Buffer): VerifiedRecord {
    const { dataLength } = fields;
    const dataAt = dataOffset(dataLength);
    const table = record.subarray(PREFIX_BYTES, dataAt);
    const data = record.subarray(dataAt, dataAt + dataLength);
    const tail = record.subarray(dataAt + dataLength);
    const restChecksum = crc32(tail, table.length > 0 ? crc32(table, open.seed) : open.seed);
    const block = restChecksum === fields.restChecksum ? damagedBlock(table, data) : -1;
    if (restChecksum !== fields.restChecksum || block >= 0) {
      const erasure = dataLength === 0 ? undefined : this.#erasures.find(open.segment, this.#position);
      if (erasure !== undefined) return this.#verifyErased(open, { fields, record, erasure });
      if (block < 0) throw this.#damaged(open, "the record's body does not match its checksum");
      throw this.#damaged(open, `block ${block} of the data does not match its checksum`);
    }
    const salt = tail.subarray(0, saltLength(dataLength));
    return {
      fields,
      segment: open.segment,
      dataStart: this.#position + dataAt,
      prefix: record.subarray(0, PREFIX_BYTES),
      data,
      salt,
      body: tail.subarray(salt.length),
      inner:
        dataLength === 0 ? NO_DATA_HASH : this.#innerHash(salt, record.subarray(PREFIX_BYTES, dataAt + dataLength)),
    };
  }

  /** A record of which data were erased, or are just being. */
  #verifyErased(
    open: OpenSegment,
    { fields, record, erasure }: { fields: RecordPrefix; record: Buffer; erasure: Erasure },
  ): VerifiedRecord {
    const dataAt = dataOffset(fields.dataLength);
    const data = record.subarray(dataAt, dataAt + fields.dataLength);
    const tail = record.subarray(dataAt + fields.dataLength);
    const salt = tail.subarray(0, saltLength(fields.dataLength)).fill(0);
    const body = tail.subarray(salt.length);
    const isOfIt = erasure.lsn === fields.lsn && erasure.dataLength === fields.dataLength && !erasure.isBodyDamaged;
    if (!isOfIt || crc32(body, open.seed) !== erasure.bodyChecksum)
      throw this.#damaged(open, "the record's body does not match its checksum, and its data were erased");
    // The window is our own.
    zeroErased(data, erasure);
    const block = damagedSurvivor(record.subarray(PREFIX_BYTES, dataAt), data, erasure);
    if (block >= 0) throw this.#damaged(open, `block ${block} of the data does not match its checksum`);
    const { segment } = open;
    const dataStart = this.#position + dataAt;
    const prefix = record.subarray(0, PREFIX_BYTES);
    return { fields, segment, dataStart, prefix, data, salt, body, inner: erasure.inner, erased: erasure.ranges };
  }

  /** Table and data stand together in the record. */
  #innerHash(salt: Buffer, tableAndData: Buffer): Buffer {
    const length = salt.length + tableAndData.length;
    if (length > this.#scratch.length) return createHash("sha256").update(salt).update(tableAndData).digest();
    salt.copy(this.#scratch);
    tableAndData.copy(this.#scratch, salt.length);
    return hash("sha256", this.#scratch.subarray(0, length), "buffer");
  }

  #damaged(open: OpenSegment, fault: string): Error {
    return damaged(open.segment, { lsn: this.#lsn, position: this.#position, fault });
  }
}

/** What is left of a window and what was read behind it, as one. */
function join(rest: Buffer, buffer: Buffer, count: number): Buffer {
  if (rest.length <= HEAD_ROOM_BYTES) {
    const at = HEAD_ROOM_BYTES - rest.length;
    rest.copy(buffer, at);
    return buffer.subarray(at, HEAD_ROOM_BYTES + count);
  }
  return Buffer.concat([rest, buffer.subarray(HEAD_ROOM_BYTES, HEAD_ROOM_BYTES + count)]);
}
