import type { ChunkPlace } from "../repository/chunk-place.ts";
import type { ArchiveIndex } from "./archive-index.ts";

/** Bytes asked for ahead of a reader that goes on in order: hides some 50 ms of a store at 80 MB/s; a quarter of the cache of blocks, so that it isn't pushed out before it is read. */
const AHEAD_BYTES = 4 * 1024 * 1024;

/** Of them and those that were fetched before and not read yet. */
const DISTANCE_BYTES = 6 * 1024 * 1024;

/** Records' data looked at for that. */
const AHEAD_RECORDS = 64;

/** Data that were read or asked for lately: some readers side by side, and small files by the hundred. */
const REMEMBERED_MAX = 1024;

/**
 * Notices who reads data in the order in which they were written (a file from its begin, a tree in the order in which it was copied) and fetches what comes next into the reader's cache.
 * One fetch at a time; failures are left to who reads.
 */
export class ReadAhead {
  readonly #index: ArchiveIndex;
  readonly #fetch: (places: readonly ChunkPlace[]) => Promise<unknown>;
  readonly #recent = new Set<string>();
  /** What is being fetched, by whose data. */
  readonly #fetching = new Set<string>();
  /** In the middle of what was fetched last: when it is read, the next are fetched. */
  #trigger: string | undefined;
  #running: Promise<void> | undefined;

  constructor(index: ArchiveIndex, fetch: (places: readonly ChunkPlace[]) => Promise<unknown>) {
    this.#index = index;
    this.#fetch = fetch;
  }

  /** Tells that the data at `dataStart` of `segment` are about to be read. Resolves when a fetch that has them is done; undefined: there is none. */
  note(segment: number, dataStart: number): Promise<void> | undefined {
    const name = nameOf(segment, dataStart);
    if (this.#fetching.has(name)) return this.#running;
    const isNew = this.#remember(name);
    const isWanted = name === this.#trigger || (isNew && this.#isNext(segment, dataStart));
    if (isWanted && this.#running === undefined) this.#begin(segment, dataStart);
    return undefined;
  }

  /** Whether what was written before was read lately. */
  #isNext(segment: number, dataStart: number): boolean {
    const before = this.#index.neighbours(segment, dataStart, { reverse: true, count: 1 })[0];
    return before !== undefined && this.#recent.has(nameOf(before.segment, before.dataStart));
  }

  #begin(segment: number, dataStart: number): void {
    const places: ChunkPlace[] = [];
    const names: string[] = [];
    let bytes = 0;
    let distance = 0;
    for (const next of this.#index.neighbours(segment, dataStart, { reverse: false, count: AHEAD_RECORDS })) {
      if (bytes >= AHEAD_BYTES || distance >= DISTANCE_BYTES) break;
      distance += next.data.dataLength;
      const name = nameOf(next.segment, next.dataStart);
      // It is in the cache, or was.
      if (this.#recent.has(name)) continue;
      for (const { place } of next.data.pieces) places.push(place);
      bytes += next.data.dataLength;
      names.push(name);
    }
    if (places.length === 0) return;
    for (const name of names) this.#fetching.add(name);
    this.#trigger = names[Math.floor(names.length / 2)];
    this.#running = this.#fetch(places)
      .then(
        () => {
          for (const name of this.#fetching) this.#remember(name);
        },
        () => {},
      )
      .finally(() => {
        this.#fetching.clear();
        this.#running = undefined;
      });
  }

  /** Answers whether it was not known. */
  #remember(name: string): boolean {
    const isNew = !this.#recent.delete(name);
    this.#recent.add(name);
    if (this.#recent.size > REMEMBERED_MAX)
      for (const oldest of this.#recent) return this.#recent.delete(oldest) && isNew;
    return isNew;
  }
}

function nameOf(segment: number, dataStart: number): string {
  return `${segment}:${dataStart}`;
}
