import { randomInt } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { assert, present } from "../base/assert.ts";
import type { Clock, Timestamp } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { SystemTimers, type Timers } from "../base/timers.ts";
import { FsError } from "../domain/errors.ts";
import type { AppId, Lsn } from "../domain/ids.ts";
import { type DataPlace, DataReader } from "./data-reader.ts";
import { type FileOps, SystemFileOps, syncFolder } from "./file-ops.ts";
import { DEFAULT_LIMITS, type JournalLimits } from "./limits.ts";
import { PositionIndex } from "./position-index.ts";
import { dataOffset, type JournalRecord, type RecordDraft, recordLength } from "./record.ts";
import { bodyLengthOf, type EncodedRecord, RecordEncoder } from "./record-encoder.ts";
import { type Recovered, recover } from "./recovery.ts";
import { encodeHeader, HEADER_BYTES } from "./segment-file.ts";
import { SegmentFiles } from "./segment-files.ts";
import { SegmentFolder } from "./segment-folder.ts";
import type { SpaceReserve } from "./space-reserve.ts";
import { type DirtyFile, SyncQueue } from "./sync-queue.ts";
import { readRecords } from "./tail-reader.ts";

export type JournalOptions = {
  /** The journal's own folder; made if missing. */
  readonly folder: string;
  readonly appId: AppId;
  readonly clock: Clock;
  readonly log: Log;
  /** What the KV reached; 0 = nothing. */
  readonly appliedLsn: Lsn;
  /** Called for every recovered record after the applied LSN, in order, before `open` resolves. */
  readonly onRecord: (record: JournalRecord) => void;
  readonly limits?: Partial<JournalLimits>;
  /** Changes nothing: no append, and a torn tail is passed over. */
  readonly readOnly?: boolean;
  /** Space kept back for what must work on a full disk. */
  readonly reserve?: SpaceReserve;
  readonly timers?: Timers;
  readonly ops?: FileOps;
};

/** Where the next record will be. */
export type Placement = { readonly lsn: Lsn; readonly segment: number; readonly dataStart: number };

export type AppendOptions = {
  /** For what frees space or must not fail on a full disk: the reserve is given up for it. */
  readonly useReserve?: boolean;
};

/** What is known of a segment. */
export type SegmentSummary = {
  readonly segment: number;
  readonly lastLsn: Lsn;
  readonly bytes: number;
  readonly sealed: boolean;
};

type Tail = { readonly segment: number; readonly seed: number; readonly fd: number; end: number };

type OpenedParts = {
  readonly ops: FileOps;
  readonly folder: SegmentFolder;
  readonly recovered: Recovered;
  readonly positions: PositionIndex;
};

/**
 * One app's journal (FORMAT.md). One writer: the process that holds the data folder's lock.
 *
 * Invariants
 * J1  `append` either adds the whole record, at the journal's end and in the page cache, and returns its LSN; or throws and nothing changed.
 * J2  LSNs are dense; a record is where the `place` before it said.
 * J3  The durable LSN is as SyncQueue says; it never passes the last LSN and never goes back.
 * J4  After a failure that leaves the file's contents in doubt no record is added any more; reads go on.
 */
export class Journal {
  readonly #options: JournalOptions;
  readonly #limits: JournalLimits;
  readonly #ops: FileOps;
  readonly #folder: SegmentFolder;
  readonly #files: SegmentFiles;
  readonly #queue: SyncQueue;
  readonly #data: DataReader;
  readonly #positions: PositionIndex;
  readonly #encoder = new RecordEncoder();
  #tail: Tail | undefined;
  #lastLsn: Lsn;
  #lastTime: Timestamp | undefined;
  #placed: { readonly dataLength: number; readonly lsn: Lsn; readonly segment: number } | undefined;
  #writeBackFrom = 0;
  #writeBack: Promise<void> | undefined;
  #closed = false;

  private constructor(options: JournalOptions, parts: OpenedParts) {
    const { ops, folder, recovered } = parts;
    this.#options = options;
    this.#positions = parts.positions;
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#ops = ops;
    this.#folder = folder;
    this.#lastLsn = recovered.lastLsn;
    this.#lastTime = recovered.lastTime;
    this.#files = new SegmentFiles(folder, { ops, sealedMax: this.#limits.openSegmentsMax });
    this.#data = new DataReader(this.#files, { ops, log: options.log, cacheBytesMax: this.#limits.blockCacheBytesMax });
    this.#queue = new SyncQueue({
      ops,
      timers: options.timers ?? new SystemTimers(),
      log: options.log,
      backgroundSyncDelayMs: this.#limits.backgroundSyncDelayMs,
      durableLsn: recovered.lastLsn,
      syncFolder: () => syncFolder(folder.path),
      onSealedDurable: (file) => this.#files.seal(file.segment),
    });
  }

  /**
   * Opens a journal and recovers it: what it kept is durable when this resolves. Throws TidemarkError DATA_DAMAGED or DATA_FOLDER_FOREIGN, naming
   * file and position, before anything was changed.
   */
  static async open(options: JournalOptions): Promise<Journal> {
    const ops = options.ops ?? new SystemFileOps();
    const readOnly = options.readOnly ?? false;
    if (!readOnly) await makeFolder(options.folder);
    const { log, appliedLsn, onRecord } = options;
    const folder = SegmentFolder.open(options.folder, options.appId, appliedLsn);
    const positions = new PositionIndex();
    const recovered = await recover({ folder, ops, log, appliedLsn, onRecord, readOnly, positions });
    const journal = new Journal(options, { ops, folder, recovered, positions });
    const { tail } = recovered;
    if (tail !== undefined && !readOnly) {
      const { segment, seed } = tail.header;
      const fd = ops.open(folder.pathOf(segment), "write");
      journal.#startTail({ segment, seed, fd, end: tail.end }, { named: true });
    }
    return journal;
  }

  get lastLsn(): Lsn {
    return this.#lastLsn;
  }

  get durableLsn(): Lsn {
    return this.#queue.durableLsn;
  }

  /** Wall time of the last record; undefined when there is none. */
  get lastTime(): Timestamp | undefined {
    return this.#lastTime;
  }

  /** No record is taken any more: the disk failed. Reads go on. */
  get failed(): boolean {
    return this.#queue.failure !== undefined;
  }

  /**
   * Where the next record goes, if it has `dataLength` bytes of data. Starts a new segment first when the record would not fit, taking `bodyBytesEstimate` for its body.
   * Holds until the next `append`. Throws FsError as `append` does.
   */
  place(dataLength: number, bodyBytesEstimate: number, options?: AppendOptions): Placement {
    this.#checkWritable();
    const tail = this.#tailFor(recordLength(dataLength, bodyBytesEstimate), options);
    const lsn = (this.#lastLsn + 1) as Lsn;
    this.#placed = { dataLength, lsn, segment: tail.segment };
    return { lsn, segment: tail.segment, dataStart: tail.end + dataOffset(dataLength) };
  }

  /**
   * Adds a record and returns its LSN: it survives `kill -9` from here on, power loss after `sync`. A draft with data must agree with the last `place`, if there
   * was one. Throws FsError ENOSPC or EIO; nothing is changed then, and the place is void.
   */
  append(draft: RecordDraft, options?: AppendOptions): Lsn {
    this.#checkWritable();
    const dataLength = draft.data?.length ?? 0;
    const placed = this.#placed;
    this.#placed = undefined;
    const lsn = (this.#lastLsn + 1) as Lsn;
    let tail = this.#tail;
    if (placed === undefined || tail === undefined || (dataLength === 0 && placed.dataLength !== 0)) {
      tail = this.#tailFor(recordLength(dataLength, bodyLengthOf(draft)), options);
    } else {
      assert(placed.lsn === lsn, "placed for another LSN");
      assert(placed.dataLength === dataLength, "placed for another length of data");
      assert(placed.segment === tail.segment, "placed in another segment");
    }
    const encoded = this.#encoder.encode(draft, { lsn, durableLsn: this.durableLsn, seed: tail.seed });
    this.#write(tail, encoded, options);
    this.#positions.note(tail.segment, lsn, tail.end);
    tail.end += encoded.length;
    this.#lastLsn = lsn;
    this.#lastTime = draft.time;
    this.#queue.appended(lsn);
    if (tail.end - this.#writeBackFrom >= this.#limits.writeBackBytes) this.#startWriteBack(tail);
    return lsn;
  }

  /** Resolves when everything up to `lsn` survives power loss. Rejects with FsError EIO after a failed sync. */
  sync(lsn: Lsn): Promise<void> {
    assert(lsn <= this.#lastLsn, "sync of a record that does not exist");
    return this.#queue.sync(lsn);
  }

  /** Calls `listener` whenever the durable LSN moved. Returns how to stop. */
  onDurable(listener: (durable: Lsn) => void): () => void {
    return this.#queue.onDurable(listener);
  }

  /** Reads data, verified; see DataReader.read. */
  readData(place: DataPlace): Buffer | Promise<Buffer> {
    return this.#data.read(place);
  }

  /**
   * The records `from` to `to`, in order, without their data; `to` at most the last LSN. Memory is bounded by one window and one record's body. Throws
   * OUT_OF_HISTORY when they are not kept any more, DATA_DAMAGED when they do not verify.
   */
  readRecords(from: Lsn, to: Lsn): AsyncGenerator<JournalRecord> {
    assert(to <= this.#lastLsn, "records past the last one");
    const source = {
      folder: this.#folder,
      ops: this.#ops,
      positions: this.#positions,
      endOf: (segment: number) => this.#endOf(segment),
      lastLsn: () => this.#lastLsn,
    };
    return readRecords(source, from, to);
  }

  /** All segments that have records, oldest first. */
  segments(): SegmentSummary[] {
    const { list } = this.#folder;
    const all = list.map((info, index) => ({
      segment: info.segment,
      lastLsn: this.#folder.lastLsnOf(index, this.#lastLsn),
      bytes: this.#endOf(info.segment),
      sealed: info.sealed,
      removed: info.removed,
    }));
    return all.filter(({ removed }) => !removed).map(({ removed: _, ...summary }) => summary);
  }

  /**
   * Gives back a sealed segment's space. The oldest segments disappear; one between others leaves its header, so that the folder stays dense. Durable when it
   * resolves; safe to repeat. The caller has made sure that nothing names the segment's data, that no reader needs its records, and that the KV holds its rows
   * durably (a KV that fell back behind a removed segment could not be brought forward). The last segment with records stays: nothing happens then.
   */
  async removeSegment(segment: number): Promise<void> {
    const info = this.#folder.get(segment);
    if (info === undefined || info.removed) return;
    assert(info.sealed, "only a sealed segment can be removed");
    const index = this.#folder.list.indexOf(info);
    const following = this.#folder.lastLsnOf(index, this.#lastLsn) + 1;
    if (following > this.#lastLsn) return;
    // Recovery counts on this: a journal never begins with a segment that may be torn.
    await this.sync(following as Lsn);
    this.#files.forget(segment);
    this.#positions.forget(segment);
    info.removed = true;
    await this.#folder.remove(segment, this.#ops);
  }

  /** Gives up the space reserve, so that what follows has room; see SpaceReserve. */
  releaseReserve(): void {
    this.#options.reserve?.release();
  }

  /** Makes everything durable and closes. Rejects with EIO if that failed; it is closed then, too. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    try {
      if (this.#queue.durableLsn < this.#lastLsn && !this.failed) await this.#queue.sync(this.#lastLsn);
    } finally {
      await this.#queue.close();
      await this.#writeBack;
      this.#files.closeAll();
    }
  }

  #checkWritable(): void {
    if (this.#queue.failure !== undefined) throw this.#queue.failure;
    assert(!this.#closed, "the journal is closed");
    assert(this.#options.readOnly !== true, "the journal is open for reading");
  }

  #endOf(segment: number): number {
    return this.#tail?.segment === segment ? this.#tail.end : present(this.#folder.get(segment), "segment").bytes;
  }

  #tailFor(length: number, options: AppendOptions | undefined): Tail {
    const tail = this.#tail;
    if (tail !== undefined && (tail.end === HEADER_BYTES || tail.end + length <= this.#limits.segmentBytesMax))
      return tail;
    return this.#withSpace(options, () => this.#roll());
  }

  // The name of the new file becomes durable with the next sync, before any of its records counts (FORMAT.md, crash argument 3).
  #roll(): Tail {
    const segment = this.#lastLsn + 1;
    const file = this.#folder.pathOf(segment);
    const header = {
      appId: this.#options.appId,
      segment,
      created: this.#options.clock.now(),
      state: "records",
      seed: randomInt(2 ** 32),
    } as const;
    let fd: number | undefined;
    try {
      fd = this.#ops.create(file);
      const written = this.#ops.write(fd, [encodeHeader(header)], 0);
      if (written !== HEADER_BYTES) throw new FsError("ENOSPC");
    } catch (error) {
      if (fd !== undefined) {
        this.#ops.close(fd);
        fs.rmSync(file, { force: true });
      }
      throw error;
    }
    this.#sealTail();
    this.#folder.list.push({ segment, bytes: HEADER_BYTES, sealed: false, removed: false });
    return this.#startTail({ segment, seed: header.seed, fd, end: HEADER_BYTES }, { named: false });
  }

  #sealTail(): void {
    const tail = this.#tail;
    if (tail === undefined) return;
    const info = present(this.#folder.get(tail.segment), "segment");
    info.sealed = true;
    info.bytes = tail.end;
    this.#startWriteBack(tail);
    this.#queue.seal();
  }

  #startTail(tail: Tail, { named }: { named: boolean }): Tail {
    const { segment, fd, seed } = tail;
    this.#files.addWritten(segment, fd, seed);
    const file: DirtyFile = { segment, fd, lastLsn: this.#lastLsn, named, sealed: false };
    this.#queue.add(file);
    const info = present(this.#folder.get(segment), "segment");
    info.sealed = false;
    this.#writeBackFrom = tail.end;
    this.#tail = tail;
    return tail;
  }

  #write(tail: Tail, encoded: EncodedRecord, options: AppendOptions | undefined): void {
    this.#withSpace(options, () => {
      try {
        const written = this.#ops.write(tail.fd, encoded.parts, tail.end);
        if (written !== encoded.length) this.#writeRest(tail, encoded, written);
      } catch (error) {
        this.#cutBack(tail);
        throw error;
      }
    });
  }

  // A short write is the kernel's way to say that the next one will fail, or that a signal came: trying the rest tells which.
  #writeRest(tail: Tail, encoded: EncodedRecord, written: number): void {
    const whole = Buffer.concat(encoded.parts);
    let done = written;
    while (done < whole.length) {
      const count = this.#ops.write(tail.fd, [whole.subarray(done)], tail.end + done);
      if (count === 0) throw new FsError("ENOSPC");
      done += count;
    }
  }

  // Nothing may stand beyond the journal's end when the next record is written there (FORMAT.md, crash argument 2).
  #cutBack(tail: Tail): void {
    try {
      this.#ops.truncate(tail.fd, tail.end);
    } catch (error) {
      this.#options.log.alarm("a journal can't be cut back after a failed write: no further changes are taken", {
        segment: tail.segment,
        position: tail.end,
        cause: error,
      });
      this.#queue.fail(error);
      throw this.#queue.failure;
    }
  }

  // Runs what needs space. On a full disk it is run once more with the reserve given up, if it may be.
  #withSpace<T>(options: AppendOptions | undefined, work: () => T): T {
    const { reserve } = this.#options;
    const useReserve = options?.useReserve === true;
    if (reserve !== undefined && !useReserve && !reserve.held) throw FsError.of("ENOSPC");
    try {
      return work();
    } catch (error) {
      const failure = asFsError(error);
      if (failure.code !== "ENOSPC" || reserve === undefined || !useReserve) throw failure;
      reserve.release();
    }
    try {
      return work();
    } catch (error) {
      throw asFsError(error);
    }
  }

  // One at a time: when the disk is slower than the writer, the next one covers what came meanwhile.
  #startWriteBack(tail: Tail): void {
    if (this.#writeBack !== undefined) return;
    const position = this.#writeBackFrom;
    this.#writeBackFrom = tail.end;
    this.#writeBack = this.#ops.startWriteBack(tail.fd, { position, length: tail.end - position }).finally(() => {
      this.#writeBack = undefined;
    });
  }
}

async function makeFolder(folder: string): Promise<void> {
  const made = await fs.promises.mkdir(folder, { recursive: true, mode: 0o700 });
  if (made === undefined) return;
  // Each new name is durable before anything in it is: from the innermost outward.
  for (let parent = path.dirname(folder); ; parent = path.dirname(parent)) {
    await syncFolder(parent);
    if (parent === path.dirname(made) || parent === path.dirname(parent)) return;
  }
}

function asFsError(error: unknown): FsError {
  if (error instanceof FsError) return error;
  const code = (error as NodeJS.ErrnoException).code;
  if (code === undefined) throw error;
  if (code === "ENOSPC" || code === "EDQUOT") return new FsError("ENOSPC", undefined, { cause: error });
  return new FsError("EIO", `the journal can't be written: ${code}`, { cause: error });
}
