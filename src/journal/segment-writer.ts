import { randomInt } from "node:crypto";
import fs from "node:fs";
import { present } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { FsError } from "../domain/errors.ts";
import type { Lsn } from "../domain/ids.ts";
import type { FileOps } from "./file-ops.ts";
import type { JournalLimits } from "./limits.ts";
import type { EncodedRecord } from "./record-encoder.ts";
import { encodeHeader, HEADER_BYTES } from "./segment-file.ts";
import type { SegmentFiles } from "./segment-files.ts";
import type { SegmentFolder } from "./segment-folder.ts";
import type { SpaceReserve } from "./space-reserve.ts";
import type { DirtyFile, SyncQueue } from "./sync-queue.ts";

const PAGE_BYTES = 4096;

/** The segment that is written to, and where the next record begins in it. */
export type Tail = { readonly segment: number; readonly seed: number; readonly fd: number; end: number };

export type AppendOptions = {
  /** For what frees space or must not fail on a full disk: the reserve is given up for it. */
  readonly useReserve?: boolean;
};

export type SegmentWriterOptions = {
  readonly folder: SegmentFolder;
  readonly files: SegmentFiles;
  readonly queue: SyncQueue;
  readonly ops: FileOps;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: JournalLimits;
  readonly reserve: SpaceReserve | undefined;
};

/** Writes encoded records at the journal's end: starts segments, and leaves nothing behind where a write fails. It knows no LSNs but those it is told. */
export class SegmentWriter {
  readonly #options: SegmentWriterOptions;
  #tail: Tail | undefined;
  #writeBackFrom = 0;
  #writeBack: Promise<void> | undefined;

  constructor(options: SegmentWriterOptions) {
    this.#options = options;
  }

  get tail(): Tail | undefined {
    return this.#tail;
  }

  /** Goes on in a segment that is there already, after the record `lastLsn`. */
  resume(tail: Tail, lastLsn: Lsn): void {
    this.#start(tail, { lastLsn, named: true });
  }

  /** The segment for a record of `length` bytes after `lastLsn`: the one being written, or a new one where it would not fit. Throws FsError; nothing changed then. */
  tailFor(length: number, lastLsn: Lsn, options: AppendOptions | undefined): Tail {
    const tail = this.#tail;
    const { segmentBytesMax } = this.#options.limits;
    if (tail !== undefined && (tail.end === HEADER_BYTES || tail.end + length <= segmentBytesMax)) return tail;
    return this.#withSpace(options, () => this.#roll(lastLsn));
  }

  /** Starts a new segment, unless the one being written has no records yet. Throws FsError; nothing changed then. */
  roll(lastLsn: Lsn, options: AppendOptions | undefined): void {
    if (this.#tail === undefined || this.#tail.end === HEADER_BYTES) return;
    this.#withSpace(options, () => this.#roll(lastLsn));
  }

  /** Writes a record at the end of `tail`, the one being written. Throws FsError ENOSPC or EIO; nothing stands beyond the end then. */
  write(tail: Tail, encoded: EncodedRecord, options: AppendOptions | undefined): void {
    this.#withSpace(options, () => {
      try {
        const written = this.#options.ops.write(tail.fd, encoded.parts, tail.end);
        if (written !== encoded.length) this.#writeRest(tail, encoded, written);
      } catch (error) {
        this.#cutBack(tail);
        throw error;
      }
    });
    tail.end += encoded.length;
    if (tail.end - this.#writeBackFrom >= this.#options.limits.writeBackBytes) this.#startWriteBack(tail);
  }

  /** Resolves when no write-back is under way. */
  async close(): Promise<void> {
    await this.#writeBack;
  }

  // The name of the new file becomes durable with the next sync, before any of its records counts (FORMAT.md, crash argument 3).
  #roll(lastLsn: Lsn): Tail {
    const { folder, ops, clock } = this.#options;
    const segment = lastLsn + 1;
    const file = folder.pathOf(segment);
    const header = {
      appId: folder.appId,
      segment,
      created: clock.now(),
      state: "records",
      seed: randomInt(2 ** 32),
    } as const;
    let fd: number | undefined;
    try {
      fd = ops.create(file);
      const written = ops.write(fd, [encodeHeader(header)], 0);
      if (written !== HEADER_BYTES) throw new FsError("ENOSPC");
    } catch (error) {
      if (fd !== undefined) {
        ops.close(fd);
        fs.rmSync(file, { force: true });
      }
      throw error;
    }
    this.#sealTail();
    folder.list.push({ segment, bytes: HEADER_BYTES, sealed: false, removed: false });
    return this.#start({ segment, seed: header.seed, fd, end: HEADER_BYTES }, { lastLsn, named: false });
  }

  #sealTail(): void {
    const tail = this.#tail;
    if (tail === undefined) return;
    const { folder, queue } = this.#options;
    const info = present(folder.get(tail.segment), "segment");
    info.sealed = true;
    info.bytes = tail.end;
    this.#startWriteBack(tail);
    queue.seal();
  }

  #start(tail: Tail, { lastLsn, named }: { lastLsn: Lsn; named: boolean }): Tail {
    const { segment, fd, seed } = tail;
    const { files, queue, folder } = this.#options;
    files.addWritten(segment, fd, seed);
    const file: DirtyFile = { segment, fd, lastLsn, named, sealed: false };
    queue.add(file);
    present(folder.get(segment), "segment").sealed = false;
    this.#writeBackFrom = Math.floor(tail.end / PAGE_BYTES) * PAGE_BYTES;
    this.#tail = tail;
    return tail;
  }

  // A short write is the kernel's way to say that the next one will fail, or that a signal came: trying the rest tells which.
  #writeRest(tail: Tail, encoded: EncodedRecord, written: number): void {
    const whole = Buffer.concat(encoded.parts);
    let done = written;
    while (done < whole.length) {
      const count = this.#options.ops.write(tail.fd, [whole.subarray(done)], tail.end + done);
      if (count === 0) throw new FsError("ENOSPC");
      done += count;
    }
  }

  // Nothing may stand beyond the journal's end when the next record is written there (FORMAT.md, crash argument 2).
  #cutBack(tail: Tail): void {
    try {
      this.#options.ops.truncate(tail.fd, tail.end);
    } catch (error) {
      this.#options.log.alarm("a journal can't be cut back after a failed write: no further changes are taken", {
        segment: tail.segment,
        position: tail.end,
        cause: error,
      });
      this.#options.queue.fail(error);
      throw this.#options.queue.failure;
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
    // Whole pages only: the last one is about to be written to again.
    const length = Math.floor((tail.end - position) / PAGE_BYTES) * PAGE_BYTES;
    this.#writeBackFrom = position + length;
    this.#writeBack = this.#options.ops.startWriteBack(tail.fd, { position, length }).finally(() => {
      this.#writeBack = undefined;
    });
  }
}

function asFsError(error: unknown): FsError {
  if (error instanceof FsError) return error;
  const code = (error as NodeJS.ErrnoException).code;
  if (code === undefined) throw error;
  if (code === "ENOSPC" || code === "EDQUOT") return new FsError("ENOSPC", undefined, { cause: error });
  return new FsError("EIO", `the journal can't be written: ${code}`, { cause: error });
}
