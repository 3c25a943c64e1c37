import type { Lsn } from "../../domain/ids.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import type { RowOp } from "../../journal/record.ts";
import { numberKey, pinnedKey, plainKey, TABLE } from "../keys.ts";
import { SERVICE_CONTEXT } from "../open-app.ts";
import { type Extent, encodeJson } from "../rows.ts";
import type { Transaction } from "../transaction.ts";
import type { AppSpace } from "./app-space.ts";
import { encodeFloor, encodeSpan, encodeUse, type SegmentUse, type Span } from "./space-rows.ts";

/** Rows of one record: a fifth of a millisecond of the loop, about 50 KB. */
const BATCH_ROWS = 1000;
const BATCH_BYTES = 128 * 1024;

/**
 * Rows of the next SPACE record. Every batch by itself leaves the rows right: what it deletes nobody needs, and work that is done again after a crash
 * does the same again.
 */
export class SpaceBatch {
  readonly #space: AppSpace;
  #rows: RowOp[] = [];
  #bytes = 0;
  readonly #segments: Set<number>;
  #contents = new Set<number>();
  #walked: Lsn | undefined;

  constructor(space: AppSpace) {
    this.#space = space;
    this.#segments = space.counted;
  }

  get isFull(): boolean {
    return this.#rows.length >= BATCH_ROWS || this.#bytes >= BATCH_BYTES;
  }

  get isEmpty(): boolean {
    return this.#rows.length === 0 && this.#segments.size === 0 && this.#walked === undefined;
  }

  /** Whether rows of the content wait in the batch, which a look into the tables doesn't show. */
  concerns(content: number): boolean {
    return this.#contents.has(content);
  }

  row(key: Buffer, value: Buffer | null): void {
    this.#rows.push({ key, value });
    this.#bytes += key.length + (value?.length ?? 0);
  }

  /** A row of a content's history; see `concerns`. */
  contentRow(content: number, key: Buffer, value: Buffer | null): void {
    this.#contents.add(content);
    this.row(key, value);
  }

  /** Notes that the row `key`, of `span`, is only there for the kept moment `kept`. */
  pin(kept: Lsn, key: Buffer, span: Span): void {
    this.row(pinnedKey(kept, key), encodeSpan(span));
  }

  /** Notes that the collector is done with records up to `lsn`. */
  walked(lsn: Lsn): void {
    this.#walked = lsn;
  }

  use(segment: number, use: SegmentUse | undefined): void {
    if (use === undefined) this.#space.uses.delete(segment);
    else this.#space.uses.set(segment, use);
    this.#segments.add(segment);
  }

  /** Counts rows that began (sign 1) or ceased (sign -1) to name these bytes: what is in use of their segments is estimated by it. */
  count(extents: readonly Extent[], sign: 1 | -1): void {
    for (const extent of extents) {
      if (extent.segment !== 0) this.#count(extent, sign * extent.length);
    }
  }

  #count(extent: Extent, bytes: number): void {
    const { data } = this.#space.app.core;
    let { segment } = extent;
    // Relocated bytes count where they are now. The first piece stands for all: it is an estimate.
    if (data.isGone(segment)) segment = data.relocation(segment, extent.dataStart)[0]?.segment ?? 0;
    const use = this.#space.uses.get(segment);
    if (use === undefined || use.state !== "kept") return;
    const liveBytes = Math.max(0, use.liveBytes + bytes);
    const costBytes = Math.max(0, use.costBytes + bytes);
    this.use(segment, { ...use, liveBytes, costBytes });
  }

  /** Appends what is there as one record. Throws FsError; the batch is lost then, and its work must begin again. */
  commit(detail: Readonly<Record<string, unknown>>): void {
    if (this.isEmpty) return;
    const tx = this.#space.app.core.begin(SERVICE_CONTEXT);
    this.into(tx);
    tx.commit(RECORD_OP.SPACE, encodeJson(detail), { useReserve: true });
  }

  /** Moves what is there into a transaction that is about to be committed. */
  into(tx: Transaction): void {
    for (const { key, value } of this.#rows) tx.row(key, value);
    if (this.#walked !== undefined) {
      this.#space.floor = { ...this.#space.floor, walked: this.#walked };
      tx.row(plainKey(TABLE.FLOOR), encodeFloor(this.#space.floor));
    }
    for (const segment of this.#segments) {
      const use = this.#space.uses.get(segment);
      tx.row(numberKey(TABLE.SEGMENT_USE, segment), use === undefined ? null : encodeUse(use));
    }
    this.#rows = [];
    this.#bytes = 0;
    this.#segments.clear();
    this.#contents = new Set();
    this.#walked = undefined;
  }
}
