import type { Lsn } from "../../domain/ids.ts";
import type { EngineCore } from "../core.ts";
import type { Extent, InodeRow } from "../rows.ts";
import { chunksOfRuns, type FileRun } from "./content-stream.ts";
import type { Work } from "./work.ts";

/** A file of an app as of a moment; `row` is its row then. */
export type FileThen = { readonly core: EngineCore; readonly row: InodeRow; readonly at: Lsn };

/**
 * Whether two regular files have the same content: the same stored bytes and holes at the same places. Reads no data: content written twice, or
 * to two apps, is taken for different even if the bytes are equal.
 */
export async function hasSameContent(left: FileThen, right: FileThen, work: Work): Promise<boolean> {
  if (left.row.size !== right.row.size) return false;
  if (left.row.contentId === 0 && right.row.contentId === 0) return true;
  if (left.core !== right.core) return left.row.size === 0n;
  if (left.row.ino === right.row.ino && left.row.since === right.row.since) return true;
  const leftRuns = new RunCursor(left);
  const rightRuns = new RunCursor(right);
  for (;;) {
    if (work.due) await work.pause();
    const a = leftRuns.current;
    const b = rightRuns.current;
    if (a === undefined || b === undefined) return a === b;
    if (a.offset !== b.offset || !isSamePlace(a.run, b.run)) return false;
    const length = Math.min(a.run.length, b.run.length);
    leftRuns.advance(length);
    rightRuns.advance(length);
  }
}

function isSamePlace(left: Extent, right: Extent): boolean {
  return left.segment === right.segment && left.dataStart === right.dataStart && left.skip === right.skip;
}

/** Walks the stored runs of a file in steps of any length. */
class RunCursor {
  readonly #chunks: Generator<FileRun[]>;
  #runs: FileRun[] = [];
  #next = 0;
  current: FileRun | undefined;

  constructor({ core, row, at }: FileThen) {
    this.#chunks = chunksOfRuns(core, row, at, { from: 0n, to: row.size });
    this.#take();
  }

  advance(length: number): void {
    const { current } = this;
    if (current === undefined) return;
    const { offset, run } = current;
    if (length >= run.length) {
      this.#take();
      return;
    }
    this.current = {
      offset: offset + BigInt(length),
      run: { ...run, start: run.start + length, length: run.length - length, skip: run.skip + length },
    };
  }

  #take(): void {
    while (this.#next >= this.#runs.length) {
      const chunk = this.#chunks.next();
      if (chunk.done === true) {
        this.current = undefined;
        return;
      }
      this.#runs = chunk.value;
      this.#next = 0;
    }
    this.current = this.#runs[this.#next++];
  }
}
