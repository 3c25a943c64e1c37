import { present } from "../base/assert.ts";
import type { RunBlockRows } from "../repository/runs/block-rows.ts";
import type { RunPart, RunRef } from "../repository/runs/run-codec.ts";
import { lastAtMost } from "../repository/runs/run-part.ts";
import type { RunFiles } from "./run-files.ts";

/** A row that is there. Both are views of a block that is kept: they must not be changed. */
export type StackRow = { readonly key: Buffer; readonly value: Buffer };

export type StackRange = {
  /** First key. */
  readonly from: Buffer;
  /** First key not wanted. */
  readonly to: Buffer;
  readonly reverse: boolean;
};

/** The rows of a checkpoint: its runs, newest first, over one another, read from their local files. */
export class RunStack {
  readonly #runs: readonly Run[];

  constructor(files: RunFiles, runs: readonly RunRef[]) {
    this.#runs = runs.map((ref) => new Run(files, ref));
  }

  get(key: Buffer): Buffer | undefined {
    for (const run of this.#runs) {
      const value = run.get(key);
      if (value !== undefined) return value ?? undefined;
    }
    return undefined;
  }

  /** The rows of a range, in order or in reverse. */
  *rows(range: StackRange): Generator<StackRow, void> {
    const cursors = this.#runs.map((run) => new RunCursor(run, range));
    for (;;) {
      const next = nearest(cursors, range.reverse);
      if (next === undefined) return;
      const { key, value } = next;
      // Older runs say the same key again: the newest counts.
      for (const cursor of cursors) if (cursor.key?.equals(key) === true) cursor.step();
      if (value !== null) yield { key, value };
    }
  }
}

/** The cursor whose key comes next; of equal ones that of the newest run. */
function nearest(
  cursors: readonly RunCursor[],
  reverse: boolean,
): { readonly key: Buffer; readonly value: Buffer | null } | undefined {
  let found: RunCursor | undefined;
  for (const cursor of cursors) {
    if (cursor.key === undefined) continue;
    if (found?.key === undefined) found = cursor;
    else {
      const order = Buffer.compare(cursor.key, found.key);
      if (reverse ? order > 0 : order < 0) found = cursor;
    }
  }
  return found?.key === undefined ? undefined : { key: found.key, value: found.value };
}

/** A block of a run, by the number of its part and its own. */
type BlockAt = { readonly part: number; readonly block: number };

class Run {
  readonly #files: RunFiles;
  readonly #parts: readonly RunPart[];
  readonly #firstKeys: readonly Buffer[];

  constructor(files: RunFiles, { parts }: RunRef) {
    this.#files = files;
    this.#parts = parts;
    this.#firstKeys = parts.map(({ firstKey }) => Buffer.from(firstKey, "hex"));
  }

  /** undefined: it says nothing of the key; null: it was deleted. */
  get(key: Buffer): Buffer | null | undefined {
    const at = this.blockOf(key);
    const rows = at === undefined ? undefined : this.rows(at);
    const index = rows?.firstAtLeast(key) ?? 0;
    if (rows === undefined || index === rows.count || !rows.key(index).equals(key)) return undefined;
    return rows.value(index);
  }

  /** The block that has `key` if any has; undefined: all keys are above it. */
  blockOf(key: Buffer): BlockAt | undefined {
    const part = lastAtMost(this.#firstKeys, key);
    if (part < 0) return undefined;
    const open = this.#files.part(present(this.#parts[part], "part"));
    return { part, block: Math.max(0, lastAtMost(open.firstKeys, key)) };
  }

  get first(): BlockAt | undefined {
    return this.#parts.length === 0 ? undefined : { part: 0, block: 0 };
  }

  /** The block after or before another; undefined: there is none. */
  beside({ part, block }: BlockAt, reverse: boolean): BlockAt | undefined {
    if (!reverse) {
      if (block + 1 < this.#blockCount(part)) return { part, block: block + 1 };
      return part + 1 < this.#parts.length ? { part: part + 1, block: 0 } : undefined;
    }
    if (block > 0) return { part, block: block - 1 };
    return part > 0 ? { part: part - 1, block: this.#blockCount(part - 1) - 1 } : undefined;
  }

  rows({ part, block }: BlockAt): RunBlockRows {
    const of = present(this.#parts[part], "part");
    return this.#files.rows(of, present(this.#files.part(of).blocks[block], "block"));
  }

  #blockCount(part: number): number {
    return this.#files.part(present(this.#parts[part], "part")).blocks.length;
  }
}

/** A place in a run, within a range. */
class RunCursor {
  readonly #run: Run;
  readonly #range: StackRange;
  #at: BlockAt | undefined;
  #rows: RunBlockRows | undefined;
  #index = 0;
  /** Of the row it stands at; undefined: behind the last. */
  key: Buffer | undefined;

  constructor(run: Run, range: StackRange) {
    this.#run = run;
    this.#range = range;
    const { from, to, reverse } = range;
    if (Buffer.compare(from, to) >= 0) return;
    this.#at = reverse ? run.blockOf(to) : (run.blockOf(from) ?? run.first);
    if (this.#at === undefined) return;
    this.#rows = run.rows(this.#at);
    this.#index = this.#rows.firstAtLeast(reverse ? to : from) - (reverse ? 1 : 0);
    this.#settle();
  }

  get value(): Buffer | null {
    return present(this.#rows, "rows").value(this.#index);
  }

  step(): void {
    this.#index += this.#range.reverse ? -1 : 1;
    this.#settle();
  }

  /** Goes on into the next block, if need be, and ends at the end of the range. */
  #settle(): void {
    const { from, to, reverse } = this.#range;
    this.key = undefined;
    while (this.#rows !== undefined && (this.#index < 0 || this.#index >= this.#rows.count)) {
      this.#at = this.#at === undefined ? undefined : this.#run.beside(this.#at, reverse);
      this.#rows = this.#at === undefined ? undefined : this.#run.rows(this.#at);
      this.#index = reverse && this.#rows !== undefined ? this.#rows.count - 1 : 0;
    }
    if (this.#rows === undefined) return;
    const key = this.#rows.key(this.#index);
    const outside = reverse ? Buffer.compare(key, from) < 0 : Buffer.compare(key, to) >= 0;
    if (outside) this.#rows = undefined;
    else this.key = key;
  }
}
