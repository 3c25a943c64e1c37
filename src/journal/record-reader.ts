import { assert, present } from "../base/assert.ts";
import type { AppId, Lsn } from "../domain/ids.ts";
import type { JournalRecord } from "./record.ts";
import { SegmentWalker } from "./segment-walker.ts";

/** Memory of a decoded record beside its body: counted against `maxBytes`. */
const RECORD_OVERHEAD_BYTES = 256;

/** Reads the records of a journal that another thread is writing, in order, synchronously: for a worker. See SegmentWalker for what that means. */
export class SegmentTail {
  readonly #walker: SegmentWalker;

  constructor(folder: string, appId: AppId) {
    this.#walker = new SegmentWalker(folder, appId);
  }

  /** Records `from` to `to` without their data, but no more than about `maxBytes` of memory, and at least one. Errors are those of SegmentWalker.goTo. */
  read(from: Lsn, to: Lsn, maxBytes: number): JournalRecord[] {
    assert(from <= to, "an empty range");
    this.#walker.refresh();
    const records: JournalRecord[] = [];
    let bytes = 0;
    for (let lsn = from; lsn <= to && (records.length === 0 || bytes < maxBytes); lsn = (lsn + 1) as Lsn) {
      const { record, prefix } = this.#walker.goTo(lsn, "record");
      records.push(present(record, "record"));
      bytes += prefix.bodyLength + RECORD_OVERHEAD_BYTES;
    }
    return records;
  }

  close(): void {
    this.#walker.close();
  }
}
