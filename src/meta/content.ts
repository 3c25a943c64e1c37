import { type ContentId, LIVE, type Lsn } from "../domain/ids.ts";
import { ExtentList, type Run } from "./extent-list.ts";
import { GenerationCache } from "./generation-cache.ts";
import { chunkKey, chunkOfKey, cutKey, lsnAtEnd, prefixEnd, TABLE } from "./keys.ts";
import type { Row, RowStore } from "./row-store.ts";
import { type Cut, decodeCut, decodeExtents, type Extent } from "./rows.ts";

/** Bytes of a chunk: the unit in which slices are listed and checkpoints written. */
export const CHUNK_BYTES = 64 * 1024 * 1024;
const CHUNK_BYTES_BIG = BigInt(CHUNK_BYTES);

/** Slices after the last checkpoint at which the next is written: this, or half the chunk's extents if more. So reading a chunk costs at most about three times its extents. */
export const CHECKPOINT_SLICES_MIN = 64;

/** Checkpoints written with one cut, so that its record stays small; the others come with a later one. */
const CUT_CHECKPOINTS_MAX = 4;

/** Chunks whose extents are kept in memory, in each of two generations. A chunk of one extent takes about 300 bytes. */
const CHUNKS_CACHED = 8192;

/** Extents kept in memory over all cached chunks before the cache is emptied: about 80 bytes each, so 32 MiB. */
const EXTENTS_CACHED_MAX = 400_000;

/** Slices read by one range query while a chunk is loaded. */
const LOAD_ROWS = 4096;

export type Chunk = {
  readonly list: ExtentList;
  /** Slices since the last checkpoint. */
  slices: number;
};

/** Splits [offset, offset + length) at chunk borders. */
export function chunkPieces(
  offset: bigint,
  length: bigint,
): { chunk: number; from: number; to: number; skip: bigint }[] {
  const pieces: { chunk: number; from: number; to: number; skip: bigint }[] = [];
  let at = offset;
  const end = offset + length;
  while (at < end) {
    const chunk = at / CHUNK_BYTES_BIG;
    const start = chunk * CHUNK_BYTES_BIG;
    const to = end < start + CHUNK_BYTES_BIG ? end : start + CHUNK_BYTES_BIG;
    pieces.push({ chunk: Number(chunk), from: Number(at - start), to: Number(to - start), skip: at - offset });
    at = to;
  }
  return pieces;
}

/** First byte of a chunk in the file. */
export function chunkOffset(chunk: number): bigint {
  return BigInt(chunk) * CHUNK_BYTES_BIG;
}

/**
 * File content as slice lists: loads chunks as of any moment and keeps live ones in memory. It decides nothing and writes nothing:
 * operations put the rows and then tell it what they put.
 */
export class ContentMap {
  readonly #store: RowStore;
  readonly #live = new GenerationCache<string, Chunk>(CHUNKS_CACHED);
  readonly #past = new GenerationCache<string, Chunk>(256);
  /** Slices added to chunks that are not loaded, since they were last looked at. */
  readonly #unloaded = new GenerationCache<string, number>(CHUNKS_CACHED);
  #extentsCached = 0;

  constructor(store: RowStore) {
    this.#store = store;
  }

  /** The chunk as of `at`. */
  chunk(content: ContentId, chunk: number, at: Lsn): Chunk {
    const key = `${content}:${chunk}`;
    if (at === LIVE) {
      const cached = this.#live.get(key);
      if (cached !== undefined) return cached;
      const loaded = this.#load(content, chunk, at);
      this.#remember(key, loaded);
      return loaded;
    }
    const pastKey = `${key}:${at}`;
    const cached = this.#past.get(pastKey);
    if (cached !== undefined) return cached;
    const loaded = this.#load(content, chunk, at);
    if (loaded.list.count < 1024) this.#past.set(pastKey, loaded);
    return loaded;
  }

  /** The runs of [offset, offset + length) as of `at`, with the file offset of each. */
  runs(content: ContentId, offset: bigint, length: bigint, at: Lsn): { readonly offset: bigint; readonly run: Run }[] {
    const runs: { offset: bigint; run: Run }[] = [];
    for (const piece of chunkPieces(offset, length)) {
      const list = content === 0 ? EMPTY : this.chunk(content, piece.chunk, at).list;
      const base = chunkOffset(piece.chunk);
      for (const run of list.runs(piece.from, piece.to)) runs.push({ offset: base + BigInt(run.start), run });
    }
    return runs;
  }

  /**
   * Tells that the record being written adds `extents` to a chunk. `isNew`: the content has nothing in that chunk yet for sure.
   * Answers the extents of a checkpoint to write in the same record, if it is time.
   */
  added(content: ContentId, chunk: number, extents: readonly Extent[], isNew: boolean): readonly Extent[] | undefined {
    const key = `${content}:${chunk}`;
    let state = this.#live.get(key);
    if (state === undefined) {
      if (isNew) {
        state = { list: new ExtentList(), slices: 0 };
        this.#remember(key, state);
      } else {
        // Appending a slice never reads: what isn't loaded is only counted, until there are enough to look.
        const count = (this.#unloaded.get(key) ?? 0) + 1;
        this.#unloaded.set(key, count);
        if (count < CHECKPOINT_SLICES_MIN) return undefined;
        this.#unloaded.delete(key);
        state = this.chunk(content, chunk, LIVE);
      }
    }
    const before = state.list.count;
    for (const extent of extents) state.list.insert(extent);
    this.#extentsCached += state.list.count - before;
    state.slices++;
    if (state.slices < Math.max(CHECKPOINT_SLICES_MIN, state.list.count / 2)) return undefined;
    state.slices = 0;
    return state.list.extents;
  }

  /** Tells that [from, to) of the content became a hole. Answers the loaded chunks whose checkpoint is due, if no slice follows in the record. */
  cut(
    content: ContentId,
    from: bigint,
    to: bigint,
    fileSize: bigint,
  ): { readonly chunk: number; readonly extents: readonly Extent[] }[] {
    const end = to < fileSize ? to : fileSize;
    if (end <= from) return [];
    // A cut over a huge sparse file passes over more chunks than are cached: forget instead of walking.
    if ((end - from) / CHUNK_BYTES_BIG > 4096n) {
      this.forget();
      return [];
    }
    const due: { chunk: number; extents: readonly Extent[] }[] = [];
    for (const piece of chunkPieces(from, end - from)) {
      const state = this.#live.get(`${content}:${piece.chunk}`);
      if (state === undefined) continue;
      state.list.cut(piece.from, piece.to);
      state.slices++;
      if (state.slices < Math.max(CHECKPOINT_SLICES_MIN, state.list.count / 2) || due.length === CUT_CHECKPOINTS_MAX)
        continue;
      state.slices = 0;
      due.push({ chunk: piece.chunk, extents: state.list.extents });
    }
    return due;
  }

  /** Forgets everything cached: after a failed append, whose changes must not stay. */
  forget(): void {
    this.#live.clear();
    this.#unloaded.clear();
    this.#extentsCached = 0;
  }

  /** The first chunk ≥ `chunk` with any slice or checkpoint at any time, or undefined: lets a search over a huge sparse file leap. */
  nextChunk(content: ContentId, chunk: number): number | undefined {
    let found: number | undefined;
    for (const table of [TABLE.SLICE, TABLE.CHECKPOINT]) {
      const gte = chunkKey(table, content, chunk, 0);
      const lt = prefixEnd(gte.subarray(0, 9) as Buffer);
      const row = this.#store.range({ gte, lt, limit: 1 })[0];
      if (row === undefined) continue;
      const number = chunkOfKey(row.key);
      if (found === undefined || number < found) found = number;
    }
    return found;
  }

  #remember(key: string, chunk: Chunk): void {
    this.#extentsCached += chunk.list.count + 1;
    if (this.#extentsCached > EXTENTS_CACHED_MAX) {
      this.#live.clear();
      this.#extentsCached = chunk.list.count;
    }
    this.#live.set(key, chunk);
    this.#unloaded.delete(key);
  }

  #load(content: ContentId, chunk: number, at: Lsn): Chunk {
    const limit = at === LIVE ? Number.MAX_SAFE_INTEGER : at + 1;
    const checkpoint = this.#store.range({
      gte: chunkKey(TABLE.CHECKPOINT, content, chunk, 0),
      lt: chunkKey(TABLE.CHECKPOINT, content, chunk, limit),
      reverse: true,
      limit: 1,
    })[0];
    const since = checkpoint === undefined ? 0 : lsnAtEnd(checkpoint.key);
    const list = new ExtentList(checkpoint === undefined ? [] : decodeExtents(checkpoint.value));
    const cuts = this.#cuts(content, since, limit);
    const sliceCount = replay(list, { slices: this.#slices({ content, chunk, since, limit }), cuts, chunk });
    return { list, slices: cuts.length + sliceCount };
  }

  *#slices(of: { content: ContentId; chunk: number; since: number; limit: number }): Generator<Row> {
    const { content, chunk, since, limit } = of;
    let from = chunkKey(TABLE.SLICE, content, chunk, since + 1);
    const to = chunkKey(TABLE.SLICE, content, chunk, limit);
    for (;;) {
      const rows = this.#store.range({ gte: from, lt: to, limit: LOAD_ROWS });
      yield* rows;
      const last = rows.at(-1);
      if (last === undefined || rows.length < LOAD_ROWS) return;
      from = chunkKey(TABLE.SLICE, content, chunk, lsnAtEnd(last.key) + 1);
    }
  }

  #cuts(content: ContentId, since: number, limit: number): Cut[] {
    const cuts: Cut[] = [];
    let from = cutKey(content, since + 1);
    const to = cutKey(content, limit);
    for (;;) {
      const rows = this.#store.range({ gte: from, lt: to, limit: LOAD_ROWS });
      for (const row of rows) cuts.push(decodeCut(lsnAtEnd(row.key), row.value));
      const last = rows.at(-1);
      if (last === undefined || rows.length < LOAD_ROWS) return cuts;
      from = cutKey(content, lsnAtEnd(last.key) + 1);
    }
  }
}

const EMPTY = new ExtentList();

/** Puts the slices and cuts of a chunk since its checkpoint, each in the order of their records, over `list`, which is that. Answers how many slices there were. */
export function replay(
  list: ExtentList,
  since: { readonly slices: Iterable<Row>; readonly cuts: readonly Cut[]; readonly chunk: number },
): number {
  const { cuts, chunk } = since;
  let nextCut = 0;
  let sliceCount = 0;
  for (const { key, value } of since.slices) {
    const lsn = lsnAtEnd(key);
    // A cut of the same record comes first.
    for (let cut = cuts[nextCut]; cut !== undefined && cut.lsn <= lsn; cut = cuts[++nextCut])
      applyCut(list, cut, chunk);
    for (const extent of decodeExtents(value)) list.insert(extent);
    sliceCount++;
  }
  for (const cut of cuts.slice(nextCut)) applyCut(list, cut, chunk);
  return sliceCount;
}

/** Takes what `cut` makes a hole out of the chunk numbered `chunk`. */
function applyCut(list: ExtentList, cut: Cut, chunk: number): void {
  const start = chunkOffset(chunk);
  const from = cut.from > start ? cut.from - start : 0n;
  const to = cut.to - start;
  if (from >= CHUNK_BYTES_BIG || to <= 0n) return;
  list.cut(Number(from), Number(to < CHUNK_BYTES_BIG ? to : CHUNK_BYTES_BIG));
}
