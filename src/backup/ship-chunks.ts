import type { ChunkPlace } from "../repository/chunk-place.ts";
import { CHUNK_SIZES, Chunker, NO_CUT } from "../repository/chunker.ts";
import { type DataSlice, endOf, NO_CONTENT } from "./ship-slices.ts";

/** Where a chunk is, or will be: a ticket of a pack that is being written has no place before its block is closed. */
export type ChunkSource = { readonly place: ChunkPlace | undefined };

/** Bytes `skip` to `skip + length` of a record's data are those from `chunkSkip` of a chunk. */
export type DraftPiece = {
  readonly skip: number;
  readonly length: number;
  readonly source: ChunkSource;
  readonly chunkSkip: number;
};

/** Who keeps chunks. */
export interface ChunkKeeper {
  /** Keeps a chunk; the bytes are a view, valid during the call. */
  store(bytes: Buffer): ChunkSource;
  /** To be waited for, if it is a promise, after each chunk. Rejects when no more can be kept. */
  flow(): Promise<void> | undefined;
}

/** Contents that are written to at the same time and keep their run: with the longest chunk pending in each, 8 MiB. */
const RUNS_MAX = 32;

/** Bytes that wait for their chunk's end, and whose they are. */
type Waiting = { readonly pieces: DraftPiece[]; readonly skip: number; readonly length: number };

type Run = {
  readonly chunker: Chunker;
  buffer: Buffer;
  pendingBytes: number;
  waiting: Waiting[];
  nextChunk: number;
  nextStart: number;
};

/**
 * Cuts the data of records into chunks. Slices of one content that continue each other are one run of bytes, however many other contents are written in between, so that a large
 * file is cut the same whatever wrote it, and a small one is one chunk. One call at a time.
 */
export class ShipChunks {
  readonly #gear: Uint32Array;
  readonly #keeper: ChunkKeeper;
  /** By content, the one used last at the end. */
  readonly #runs = new Map<number, Run>();
  #spare: Run[] = [];

  constructor(gear: Uint32Array, keeper: ChunkKeeper) {
    this.#gear = gear;
    this.#keeper = keeper;
  }

  /** Takes the bytes of a slice, which must stay as they are until it resolves. Their pieces come into `pieces` as chunks end, at the latest with `end`, in any order. */
  async add(slice: DataSlice, bytes: Buffer, pieces: DraftPiece[]): Promise<void> {
    const run = await this.#runOf(slice);
    const { chunker } = run;
    let from = 0;
    while (from < bytes.length) {
      const cut = chunker.next(bytes, from, bytes.length);
      const to = cut === NO_CUT ? bytes.length : cut;
      run.waiting.push({ pieces, skip: slice.skip + from, length: to - from });
      if (cut !== NO_CUT && run.pendingBytes === 0) this.#emit(run, bytes.subarray(from, to));
      else {
        hold(run, bytes.subarray(from, to));
        if (cut !== NO_CUT) this.#emit(run, run.buffer.subarray(0, run.pendingBytes));
      }
      from = to;
      const flow = cut === NO_CUT ? undefined : this.#keeper.flow();
      if (flow !== undefined) await flow;
    }
    if (slice.content === NO_CONTENT) await this.#end(NO_CONTENT, run);
  }

  /** Ends all runs: every piece is there. */
  async end(): Promise<void> {
    for (const [content, run] of this.#runs) await this.#end(content, run);
  }

  /** Lets go of memory, after `end`. */
  release(): void {
    this.#spare = [];
  }

  async #runOf(slice: DataSlice): Promise<Run> {
    const { content, chunk, start } = slice;
    let run = this.#runs.get(content);
    if (run !== undefined) {
      this.#runs.delete(content);
      if (run.nextChunk !== chunk || run.nextStart !== start) await this.#flush(run);
    } else {
      const [oldest] = this.#runs;
      if (oldest !== undefined && this.#runs.size >= RUNS_MAX) await this.#end(...oldest);
      run = this.#spare.pop() ?? newRun(this.#gear);
    }
    this.#runs.set(content, run);
    const next = endOf(slice);
    run.nextChunk = next.chunk;
    run.nextStart = next.start;
    return run;
  }

  async #end(content: number, run: Run): Promise<void> {
    await this.#flush(run);
    this.#runs.delete(content);
    this.#spare.push(run);
  }

  /** What waits is the run's last chunk. */
  async #flush(run: Run): Promise<void> {
    run.chunker.reset();
    if (run.pendingBytes === 0) return;
    this.#emit(run, run.buffer.subarray(0, run.pendingBytes));
    await this.#keeper.flow();
  }

  #emit(run: Run, bytes: Buffer): void {
    const source = this.#keeper.store(bytes);
    let chunkSkip = 0;
    for (const { pieces, skip, length } of run.waiting) {
      pieces.push({ skip, length, source, chunkSkip });
      chunkSkip += length;
    }
    run.waiting = [];
    run.pendingBytes = 0;
  }
}

function newRun(gear: Uint32Array): Run {
  const buffer = Buffer.allocUnsafeSlow(CHUNK_SIZES.averageBytes);
  return { chunker: new Chunker(gear), buffer, pendingBytes: 0, waiting: [], nextChunk: 0, nextStart: 0 };
}

function hold(run: Run, bytes: Buffer): void {
  const length = run.pendingBytes + bytes.length;
  if (length > run.buffer.length) {
    const larger = Buffer.allocUnsafeSlow(CHUNK_SIZES.maxBytes);
    run.buffer.copy(larger, 0, 0, run.pendingBytes);
    run.buffer = larger;
  }
  bytes.copy(run.buffer, run.pendingBytes);
  run.pendingBytes = length;
}
