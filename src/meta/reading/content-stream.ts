import { CONTENT_PIECE_BYTES_MAX } from "../../domain/admin-call.ts";
import type { DataRange } from "../../domain/admin-reading.ts";
import type { Lsn } from "../../domain/ids.ts";
import { isRegular } from "../../domain/inode.ts";
import { CHUNK_BYTES, chunkOffset } from "../content.ts";
import type { EngineCore } from "../core.ts";
import type { Run } from "../extent-list.ts";
import type { InodeRow } from "../rows.ts";
import type { Work } from "./work.ts";

/** A piece of content. */
export type Piece = { readonly offset: bigint; readonly bytes: Buffer };

/** A run of stored bytes of a file, and its place in the file. Holes are left out. */
export type FileRun = { readonly offset: bigint; readonly run: Run };

const CHUNK_BYTES_BIG = BigInt(CHUNK_BYTES);

/** Over ranges longer than this, chunks without anything are searched for; in shorter ones it is cheaper to look at each. */
const LEAP_BYTES = 8n * CHUNK_BYTES_BIG;

/** The stored runs of [from, to) of a file as of `at`, a chunk at a time, in order; chunks without any are leapt over. `row` is the file as of `at`. */
export function* chunksOfRuns(
  core: EngineCore,
  row: InodeRow,
  at: Lsn,
  range: { from: bigint; to: bigint },
): Generator<FileRun[]> {
  const to = range.to < row.size ? range.to : row.size;
  let offset = range.from;
  if (row.contentId === 0) return;
  const leaps = to - offset > LEAP_BYTES;
  while (offset < to) {
    const chunk = Number(offset / CHUNK_BYTES_BIG);
    const next = leaps ? core.content.nextChunk(row.contentId, chunk) : chunk;
    if (next === undefined) return;
    if (next > chunk) {
      offset = chunkOffset(next);
      continue;
    }
    const chunkEnd = chunkOffset(chunk) + CHUNK_BYTES_BIG;
    const end = chunkEnd < to ? chunkEnd : to;
    const runs = core.content.runs(row.contentId, offset, end - offset, at).filter(({ run }) => run.segment !== 0);
    if (runs.length > 0) yield runs;
    offset = end;
  }
}

/**
 * The stored bytes of [from, to) of a file as of `at`, ascending, holes left out, in pieces of at most CONTENT_PIECE_BYTES_MAX; they may be views of a cache: not to be changed. Small
 * neighbours come together. Throws FsError EIO where bytes are missing or damaged.
 */
export async function* contentPieces(
  core: EngineCore,
  row: InodeRow,
  at: Lsn,
  range: { readonly from: bigint; readonly to: bigint; readonly work: Work },
): AsyncGenerator<Piece> {
  let start = 0n;
  let bytes = 0;
  let held: Buffer[] = [];
  for (const runs of chunksOfRuns(core, row, at, range)) {
    for (const { offset, run } of runs) {
      for (let skip = 0; skip < run.length; ) {
        if (range.work.due) await range.work.pause();
        const isNeighbour = held.length > 0 && start + BigInt(bytes) === offset + BigInt(skip);
        if (held.length > 0 && (!isNeighbour || bytes === CONTENT_PIECE_BYTES_MAX)) {
          yield { offset: start, bytes: joined(held) };
          held = [];
          bytes = 0;
        }
        if (held.length === 0) start = offset + BigInt(skip);
        const length = Math.min(run.length - skip, CONTENT_PIECE_BYTES_MAX - bytes);
        held.push(await readRun(core, run, skip, length));
        bytes += length;
        skip += length;
      }
    }
  }
  if (held.length > 0) yield { offset: start, bytes: joined(held) };
}

/** Where a file as of `at` has stored bytes, ascending, neighbours joined, in batches of at most `countMax`. */
export async function* dataRanges(
  core: EngineCore,
  row: InodeRow,
  at: Lsn,
  { countMax, work }: { readonly countMax: number; readonly work: Work },
): AsyncGenerator<DataRange[]> {
  let batch: DataRange[] = [];
  let last: DataRange | undefined;
  for (const runs of chunksOfRuns(core, row, at, { from: 0n, to: row.size })) {
    if (work.due) await work.pause();
    for (const { offset, run } of runs) {
      const length = BigInt(run.length);
      if (last !== undefined && last.offset + last.length === offset) {
        last = { offset: last.offset, length: last.length + length };
        continue;
      }
      if (last !== undefined) batch.push(last);
      last = { offset, length };
      if (batch.length < countMax) continue;
      yield batch;
      batch = [];
    }
  }
  if (last !== undefined) batch.push(last);
  if (batch.length > 0) yield batch;
}

/** Whether any stored byte of a file as of `at` was erased by order. Costs nothing for an app of which nothing was. */
export async function isPartlyErased(core: EngineCore, row: InodeRow, at: Lsn, work: Work): Promise<boolean> {
  if (!core.data.hasErased || !isRegular(row.mode)) return false;
  for (const runs of chunksOfRuns(core, row, at, { from: 0n, to: row.size })) {
    if (runs.some(({ run }) => core.data.isErased(run))) return true;
    if (work.due) await work.pause();
  }
  return false;
}

/** One is handed on as it is: content is mostly of one piece, and each copy costs memory that must be collected. */
function joined(parts: readonly Buffer[]): Buffer {
  const [only] = parts;
  return only !== undefined && parts.length === 1 ? only : Buffer.concat(parts);
}

/** As `contentPieces` of these runs, of which `buffers` are the bytes: together at most CONTENT_PIECE_BYTES_MAX. */
export function piecesOf(runs: readonly FileRun[], buffers: readonly Buffer[]): Piece[] {
  const pieces: Piece[] = [];
  for (let index = 0; index < runs.length; ) {
    const { offset } = runs[index] as FileRun;
    const held: Buffer[] = [];
    for (let end = offset; runs[index]?.offset === end; index++) {
      held.push(buffers[index] as Buffer);
      end += BigInt((runs[index] as FileRun).run.length);
    }
    pieces.push({ offset, bytes: joined(held) });
  }
  return pieces;
}

async function readRun(core: EngineCore, run: Run, skip: number, length: number): Promise<Buffer> {
  const { segment, dataStart, dataLength } = run;
  return core.data.read({ segment, dataStart, dataLength, skip: run.skip + skip, length });
}
