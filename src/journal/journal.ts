import { assert, present } from "../base/assert.ts";
import type { Clock, Timestamp } from "../base/clock.ts";
import { syncFolder } from "../base/durable-file.ts";
import type { Log } from "../base/log.ts";
import { SystemTimers, type Timers } from "../base/timers.ts";
import type { AppId, Lsn } from "../domain/ids.ts";
import { type DataPlace, DataReader } from "./data-reader.ts";
import { type ErasedData, type EraseStep, eraseInSegment } from "./erase.ts";
import { type FileOps, SystemFileOps } from "./file-ops.ts";
import { makeJournalFolder } from "./journal-folder.ts";
import { DEFAULT_LIMITS, type JournalLimits } from "./limits.ts";
import { PositionIndex } from "./position-index.ts";
import { dataOffset, type JournalRecord, type RecordDraft, recordLength } from "./record.ts";
import { bodyLengthOf, RecordEncoder } from "./record-encoder.ts";
import { type Recovered, recover } from "./recovery.ts";
import { SegmentFiles } from "./segment-files.ts";
import { SegmentFolder } from "./segment-folder.ts";
import { type AppendOptions, SegmentWriter } from "./segment-writer.ts";
import type { SpaceReserve } from "./space-reserve.ts";
import { SyncQueue } from "./sync-queue.ts";
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

/** What is known of a segment. */
export type SegmentSummary = {
  readonly segment: number;
  readonly lastLsn: Lsn;
  readonly bytes: number;
  readonly sealed: boolean;
};

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
  readonly #writer: SegmentWriter;
  readonly #encoder = new RecordEncoder();
  #lastLsn: Lsn;
  #lastTime: Timestamp | undefined;
  #placed: { readonly dataLength: number; readonly lsn: Lsn; readonly segment: number } | undefined;
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
    const { clock, log, reserve } = options;
    const limits = this.#limits;
    this.#writer = new SegmentWriter({
      folder,
      files: this.#files,
      queue: this.#queue,
      ops,
      clock,
      log,
      limits,
      reserve,
    });
  }

  /**
   * Opens a journal and recovers it: what it kept is durable when this resolves. Throws TidemarkError DATA_DAMAGED or DATA_FOLDER_FOREIGN, naming
   * file and position, before anything was changed.
   */
  static async open(options: JournalOptions): Promise<Journal> {
    const ops = options.ops ?? new SystemFileOps();
    const readOnly = options.readOnly ?? false;
    if (!readOnly) await makeJournalFolder(options.folder);
    const { log, appliedLsn, onRecord } = options;
    const folder = SegmentFolder.open(options.folder, options.appId, appliedLsn);
    const positions = new PositionIndex();
    const recovered = await recover({ folder, ops, log, appliedLsn, onRecord, readOnly, positions });
    const journal = new Journal(options, { ops, folder, recovered, positions });
    const { tail } = recovered;
    if (tail !== undefined && !readOnly) {
      const { segment, seed } = tail.header;
      const fd = ops.open(folder.pathOf(segment), "write");
      journal.#writer.resume({ segment, seed, fd, end: tail.end }, recovered.lastLsn);
    }
    return journal;
  }

  get lastLsn(): Lsn {
    return this.#lastLsn;
  }

  get durableLsn(): Lsn {
    return this.#queue.durableLsn;
  }

  /** How many bytes a `sync` now would have to make durable: for slowing writers down before the kernel does. */
  get unsyncedBytes(): number {
    return this.#queue.unsyncedBytes;
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
    const tail = this.#writer.tailFor(recordLength(dataLength, bodyBytesEstimate), this.#lastLsn, options);
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
    let { tail } = this.#writer;
    if (placed === undefined || tail === undefined || (dataLength === 0 && placed.dataLength !== 0)) {
      tail = this.#writer.tailFor(recordLength(dataLength, bodyLengthOf(draft)), this.#lastLsn, options);
    } else {
      assert(placed.lsn === lsn, "placed for another LSN");
      assert(placed.dataLength === dataLength, "placed for another length of data");
      assert(placed.segment === tail.segment, "placed in another segment");
    }
    const encoded = this.#encoder.encode(draft, { lsn, durableLsn: this.durableLsn, seed: tail.seed });
    const position = tail.end;
    this.#writer.write(tail, encoded, options);
    this.#positions.note(tail.segment, lsn, position);
    this.#lastLsn = lsn;
    this.#lastTime = draft.time;
    this.#queue.appended(lsn, encoded.length);
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

  /** Reads data, verified; see DataReader.read, also for `into`. */
  readData(place: DataPlace, into?: Buffer): Buffer | Promise<Buffer> {
    return this.#data.read(place, into);
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

  /** Sees to it that all records there are now are in sealed segments. Throws FsError as `append` does. */
  roll(options?: AppendOptions): void {
    this.#checkWritable();
    this.#placed = undefined;
    this.#writer.roll(this.#lastLsn, options);
  }

  /**
   * Erases parts of records' data in a sealed segment, for ever, together with what else could tell them (FORMAT.md, "Erasing"): on the disk when it resolves. Safe to be cut short at any point and to repeat; until it was carried through, reading
   * these records' data may fail. The caller has made sure that nobody reads them any more and that records can't be needed whose own durability is in doubt: the segment is durable. A segment whose records are not kept: nothing
   * happens. Throws Node's errors of the file system.
   */
  async erase(segment: number, wanted: readonly ErasedData[], onStep?: (step: EraseStep) => void): Promise<void> {
    const info = this.#folder.get(segment);
    if (info === undefined || info.removed) return;
    assert(info.sealed, "only in a sealed segment data are erased");
    const { seed } = this.#folder.readHeader(segment);
    const where = { folder: this.#folder.path, appId: this.#folder.appId, segment, seed };
    await eraseInSegment(where, wanted, {
      ops: this.#ops,
      log: this.#options.log,
      ...(onStep === undefined ? {} : { onStep }),
    });
    this.#data.forgetAll();
  }

  /** Makes everything durable and closes. Rejects with EIO if that failed; it is closed then, too. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    try {
      if (this.#queue.durableLsn < this.#lastLsn && !this.failed) await this.#queue.sync(this.#lastLsn);
    } finally {
      await this.#queue.close();
      await this.#writer.close();
      this.#files.closeAll();
    }
  }

  #checkWritable(): void {
    if (this.#queue.failure !== undefined) throw this.#queue.failure;
    assert(!this.#closed, "the journal is closed");
    assert(this.#options.readOnly !== true, "the journal is open for reading");
  }

  #endOf(segment: number): number {
    const { tail } = this.#writer;
    return tail?.segment === segment ? tail.end : present(this.#folder.get(segment), "segment").bytes;
  }
}
