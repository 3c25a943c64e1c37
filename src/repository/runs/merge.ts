import type { Row, RowBatches } from "./run-codec.ts";

/** Rows of one batch: enough that a turn of the event loop is not felt, little memory. */
const BATCH_ROWS = 512;

export type MergeOptions = {
  /** Leave out rows that are deleted: there is nothing older. */
  readonly dropDeleted: boolean;
};

/**
 * Merges `sources`, newest first: ascending keys, of equal ones the newest. Memory: one batch of each source. Rows are views of the sources' batches. Ends the sources when it is ended.
 */
export async function* mergeRows(
  sources: readonly RowBatches[],
  { dropDeleted }: MergeOptions,
): AsyncGenerator<readonly Row[], void> {
  const cursors = sources.map((source, age) => new Cursor(source, age));
  try {
    const heap = new CursorHeap();
    for (const cursor of cursors) if (await cursor.load()) heap.push(cursor);
    let batch: Row[] = [];
    let lastKey: Buffer | undefined;
    for (let cursor = heap.top; cursor !== undefined; cursor = heap.top) {
      const row = cursor.row;
      const hidden = lastKey?.equals(row.key) === true;
      if (!hidden && !(dropDeleted && row.value === null)) batch.push(row);
      lastKey = row.key;
      if (cursor.step() || (await cursor.load())) heap.sink();
      else heap.pop();
      if (batch.length < BATCH_ROWS) continue;
      yield batch;
      batch = [];
    }
    if (batch.length > 0) yield batch;
  } finally {
    await Promise.allSettled(cursors.map((cursor) => cursor.close()));
  }
}

/** A place in a source. `age` orders equal keys: 0 is the newest. */
class Cursor {
  readonly age: number;
  readonly #batches: Iterator<readonly Row[]> | AsyncIterator<readonly Row[]>;
  #batch: readonly Row[] = [];
  #index = 0;
  #row: Row | undefined;
  #ended = false;

  constructor(source: RowBatches, age: number) {
    this.age = age;
    this.#batches = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  }

  get row(): Row {
    if (this.#row === undefined) throw new RangeError("a cursor stands behind its last row");
    return this.#row;
  }

  /** Goes to the next row of the batch; false if that was the last. */
  step(): boolean {
    this.#index++;
    this.#row = this.#batch[this.#index];
    return this.#row !== undefined;
  }

  /** Goes to the first row of the next batch; false at the end. */
  async load(): Promise<boolean> {
    for (;;) {
      const next = await this.#batches.next();
      if (next.done === true) {
        this.#ended = true;
        return false;
      }
      this.#batch = next.value;
      this.#index = 0;
      this.#row = this.#batch[0];
      if (this.#row !== undefined) return true;
    }
  }

  async close(): Promise<void> {
    if (!this.#ended) await this.#batches.return?.();
  }
}

/** Binary heap: the smallest key on top, of equal keys the newest. */
class CursorHeap {
  readonly #cursors: Cursor[] = [];

  get top(): Cursor | undefined {
    return this.#cursors[0];
  }

  push(cursor: Cursor): void {
    const cursors = this.#cursors;
    let at = cursors.push(cursor) - 1;
    while (at > 0) {
      const up = (at - 1) >> 1;
      const parent = cursors[up];
      if (parent === undefined || !isBefore(cursor, parent)) break;
      cursors[at] = parent;
      at = up;
    }
    cursors[at] = cursor;
  }

  /** Takes the top away. */
  pop(): void {
    const last = this.#cursors.pop();
    if (last === undefined || this.#cursors.length === 0) return;
    this.#cursors[0] = last;
    this.sink();
  }

  /** Puts the top, whose row has changed, where it belongs. */
  sink(): void {
    const cursors = this.#cursors;
    const moved = cursors[0];
    if (moved === undefined) return;
    let at = 0;
    for (;;) {
      const left = cursors[2 * at + 1];
      const right = cursors[2 * at + 2];
      if (left === undefined) break;
      const rightFirst = right !== undefined && isBefore(right, left);
      const child = rightFirst ? right : left;
      if (!isBefore(child, moved)) break;
      cursors[at] = child;
      at = 2 * at + (rightFirst ? 2 : 1);
    }
    cursors[at] = moved;
  }
}

function isBefore(left: Cursor, right: Cursor): boolean {
  return (Buffer.compare(left.row.key, right.row.key) || left.age - right.age) < 0;
}
