import type { Timestamp } from "../../base/clock.ts";
import type { Timers } from "../../base/timers.ts";
import { PAGE_BYTES_MAX, PAGE_ITEMS_MAX } from "../../domain/admin-call.ts";
import type { ChangeCursor, ChangeRecord, ChangesPage } from "../../domain/admin-changes.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { AppId, Lsn } from "../../domain/ids.ts";
import type { EngineCore } from "../core.ts";
import type { ChangeDescriber } from "./change-record.ts";
import { feedGap } from "./feed-gap.ts";
import type { Work } from "./work.ts";

/** Records looked at for one page, wanted or not: then the reader is told how far it is. A fraction of a second of reading, so that a filtered reader's cursor is never far behind. */
const SCANNED_MAX = 20_000;

/** Fixed parts of a record in a page, about. */
const RECORD_BYTES = 400;

export type FeedOptions = {
  readonly appId: AppId;
  readonly describer: ChangeDescriber;
  /** The first record is the one after this. */
  readonly from: ChangeCursor;
  /** The last record; it is durable. Absent: there is none, the feed follows. */
  readonly to?: Lsn;
  readonly heartbeatMs: number;
  readonly timers: Timers;
  readonly work: Work;
};

/**
 * The records of an app as pages.
 *
 * Invariants
 * F1  Nothing above the durable LSN is in a page, and no cursor is above it (or above where the reader began).
 * F2  Each page begins after the cursor of the one before: a reader that goes on from any cursor misses nothing and sees nothing twice.
 * F3  Between two pages no file is held open and no memory is used but for caches: a reader may take any time.
 */
export class ChangeFeed {
  readonly #core: EngineCore;
  readonly #options: FeedOptions;
  #cursor: ChangeCursor;

  constructor(core: EngineCore, options: FeedOptions) {
    this.#core = core;
    this.#options = options;
    this.#cursor = options.from;
  }

  /** Ends at `to`, with a page; else when the caller ends it. Throws OUT_OF_HISTORY, UNAVAILABLE when nothing becomes durable any more, CANCELLED. */
  async *pages(): AsyncGenerator<ChangesPage> {
    const { to } = this.#options;
    for (;;) {
      const end = Math.min(to ?? this.#durableLsn, this.#durableLsn) as Lsn;
      const records = this.#cursor.lsn < end ? await this.#read(end) : [];
      const isLast = to !== undefined && this.#cursor.lsn >= to;
      if (records.length > 0 || isLast || this.#cursor.lsn < end) yield this.#page(records);
      if (isLast) return;
      if (this.#cursor.lsn < this.#durableLsn) continue;
      if (!(await this.#moved())) yield this.#page([]);
    }
  }

  get #durableLsn(): Lsn {
    return this.#core.journal.durableLsn;
  }

  #page(records: readonly ChangeRecord[]): ChangesPage {
    return { appId: this.#options.appId, records, cursor: this.#cursor, durableLsn: this.#durableLsn };
  }

  /** Wanted records after the cursor, as many as fit a page, and moves the cursor. */
  async #read(end: Lsn): Promise<ChangeRecord[]> {
    const { describer, work } = this.#options;
    const records: ChangeRecord[] = [];
    const first = (this.#cursor.lsn + 1) as Lsn;
    let bytes = 0;
    try {
      for await (const record of this.#core.records(first, Math.min(end, first + SCANNED_MAX - 1) as Lsn)) {
        if (work.due) await work.pause();
        // Names of the time before the floor are not kept; it may have been raised meanwhile.
        if (record.lsn <= this.#core.moments.floor) throw feedGap(this.#core, this.#cursor.lsn);
        const described = describer.describe(record);
        this.#cursor = { lsn: record.lsn, time: timeOf(record) };
        if (described === undefined) continue;
        records.push(described);
        bytes += RECORD_BYTES + pathBytes(described);
        if (records.length >= PAGE_ITEMS_MAX || bytes >= PAGE_BYTES_MAX) break;
      }
    } catch (error) {
      const isGap = error instanceof TidemarkError && error.code === "OUT_OF_HISTORY";
      if (!isGap) throw error;
      // What was read before the gap goes out first: the next call finds it.
      if (records.length === 0) throw feedGap(this.#core, this.#cursor.lsn);
    }
    return records;
  }

  /** Waits until more is durable (true), or it is time for a sign of life (false). */
  async #moved(): Promise<boolean> {
    const { work, timers, heartbeatMs } = this.#options;
    const { journal } = this.#core;
    work.check();
    if (journal.failed)
      throw new TidemarkError(
        "UNAVAILABLE",
        "the journal takes no changes: see `tidemark status`; go on from the cursor later",
      );
    const moved = await new Promise<boolean>((resolve) => {
      const end = (hasMoved: boolean): void => {
        stop();
        cancel();
        work.signal?.removeEventListener("abort", aborted);
        resolve(hasMoved);
      };
      const aborted = (): void => end(false);
      const stop = journal.onDurable(() => end(true));
      const cancel = timers.after(heartbeatMs, () => end(false));
      work.signal?.addEventListener("abort", aborted, { once: true });
    });
    work.check();
    return moved;
  }
}

function timeOf({ time }: { readonly time: Timestamp }): Timestamp {
  return { sec: time.sec, nsec: time.nsec };
}

function pathBytes({ paths, newPath, others, target, details }: ChangeRecord): number {
  let bytes = (newPath?.length ?? 0) + (target?.length ?? 0) + details.length * 64;
  for (const path of paths) bytes += path.length;
  for (const { path } of others) bytes += path.length + 16;
  return bytes;
}
