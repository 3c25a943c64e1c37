import type { Timestamp } from "../base/clock.ts";
import type { Lsn } from "../domain/ids.ts";
import type { DataPlace } from "./data-reader.ts";
import type { JournalRecord } from "./record.ts";

/**
 * The older part of a journal, kept elsewhere: records up to `lastLsn` and the data of segments numbered up to it. The journal's folder begins with
 * `lastLsn` + 1. What is in it never changes; it may lose its oldest records.
 */
export interface JournalArchive {
  /** Where it is, for messages; no secrets. */
  readonly description: string;
  /** The oldest record that is there; `lastLsn` + 1 when there is none. */
  readonly firstLsn: Lsn;
  readonly lastLsn: Lsn;
  /** Wall time of the record `lastLsn`. */
  readonly lastTime: Timestamp | undefined;
  /** Moments that can be read although they are older than all others that can: what its retention keeps of the older past. */
  readonly kept: readonly Lsn[];

  /**
   * The bytes of `place`, verified: at once when they are in memory, else a promise. The buffer may be a view of a cache: it must not be changed. `into` may be used
   * or not, as in DataReader.read. Throws, or rejects with, FsError EIO when they are damaged, missing, or can't be had in a bounded time; the log has an alarm then.
   */
  readData(place: DataPlace, into?: Buffer): Buffer | Promise<Buffer>;

  /**
   * The bytes of each of `places`, in their order, read together; they may be views of a cache. For places whose bytes are in memory at a time: some megabytes. Rejects, with FsError EIO,
   * when any of them can't be had: who then asks for them one by one learns which.
   */
  readMany(places: readonly DataPlace[]): Promise<Buffer[]>;

  /**
   * The records `from` to `to` (at most `lastLsn`), in order, without their data. Their `segment` and `position` are 0 where the archive doesn't know them. Throws OUT_OF_HISTORY when
   * they are not kept, DATA_DAMAGED when they do not verify, UNAVAILABLE when they can't be had in a bounded time.
   */
  readRecords(from: Lsn, to: Lsn): AsyncGenerator<JournalRecord>;

  /** Ends it: reads under way fail. Once. */
  close(): Promise<void>;
}
