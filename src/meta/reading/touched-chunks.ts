import { readU40Be, readU64Be } from "../../base/bytes.ts";
import type { ContentId } from "../../domain/ids.ts";
import type { JournalRecord } from "../../journal/record.ts";
import { CHUNK_BYTES } from "../content.ts";
import { lsnAtEnd, TABLE } from "../keys.ts";
import { decodeCut } from "../rows.ts";

/** Chunks [first, last] of a content. */
export type ChunkRange = { readonly first: number; readonly last: number };

/** Chunks and ranges remembered over all contents: about 100 bytes each with what holds them, so 50 MiB. Beyond, whole files are compared, which costs more and is as right. */
const NOTES_MAX = 500_000;

/** A cut over more chunks than this is noted as a range: a truncation leads to the end of all files. */
const SINGLE_CHUNKS_MAX = 16;

const CHUNK_BYTES_BIG = BigInt(CHUNK_BYTES);

/** Which chunks of which contents were written to or cut in some records: only those can differ. */
export class TouchedChunks {
  readonly #since: number;
  readonly #notes = new Map<number, Notes>();
  #count = 0;
  #isComplete = true;

  /** Contents made after `since` are not noted: all of such a content is new. */
  constructor(since: number) {
    this.#since = since;
  }

  /** From now on it knows of nothing. */
  giveUp(): void {
    this.#isComplete = false;
    this.#notes.clear();
  }

  note({ lsn, rows }: JournalRecord): void {
    if (!this.#isComplete) return;
    for (const { key, value } of rows) {
      // Rows that are written anew by cleaning and collecting keep their LSN: they change nothing.
      if (value === null || (key[0] !== TABLE.SLICE && key[0] !== TABLE.CUT) || lsnAtEnd(key) !== lsn) continue;
      const content = readU64Be(key, 1);
      if (content > this.#since) continue;
      if (key[0] === TABLE.SLICE) {
        const chunk = readU40Be(key, 9);
        this.#add(content, chunk, chunk);
      } else {
        const { from, to } = decodeCut(lsn, value);
        this.#add(content, Number(from / CHUNK_BYTES_BIG), Number((to - 1n) / CHUNK_BYTES_BIG));
      }
    }
  }

  /** The chunks of a content that may differ, ascending, without overlap; undefined: any. */
  of(content: ContentId): readonly ChunkRange[] | undefined {
    if (!this.#isComplete) return undefined;
    const notes = this.#notes.get(content);
    if (notes === undefined) return [];
    const singles = [...notes.chunks].map((chunk) => ({ first: chunk, last: chunk }));
    const ranges = [...singles, ...notes.ranges].sort((left, right) => left.first - right.first);
    const joined: ChunkRange[] = [];
    for (const range of ranges) {
      const last = joined.at(-1);
      if (last === undefined || range.first > last.last + 1) joined.push(range);
      else joined[joined.length - 1] = { first: last.first, last: Math.max(last.last, range.last) };
    }
    return joined;
  }

  #add(content: number, first: number, last: number): void {
    let notes = this.#notes.get(content);
    if (notes === undefined) {
      notes = { chunks: new Set(), ranges: [] };
      this.#notes.set(content, notes);
      this.#count++;
    }
    if (last - first >= SINGLE_CHUNKS_MAX) {
      const newest = notes.ranges.at(-1);
      if (newest !== undefined && newest.first <= first && newest.last >= last) return;
      notes.ranges.push({ first, last });
      this.#count++;
    } else {
      const before = notes.chunks.size;
      for (let chunk = first; chunk <= last; chunk++) notes.chunks.add(chunk);
      this.#count += notes.chunks.size - before;
    }
    if (this.#count > NOTES_MAX) this.giveUp();
  }
}

type Notes = { readonly chunks: Set<number>; readonly ranges: ChunkRange[] };
