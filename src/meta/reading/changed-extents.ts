import type { DeltaExtent } from "../../domain/admin-changes.ts";
import type { ContentId, Lsn } from "../../domain/ids.ts";
import { CHUNK_BYTES, chunkOffset } from "../content.ts";
import type { EngineCore } from "../core.ts";
import type { Run } from "../extent-list.ts";
import type { InodeRow } from "../rows.ts";
import type { ChunkRange } from "./touched-chunks.ts";
import type { Work } from "./work.ts";

/** A regular file as of a moment; `undefined` content stands for one that was not there. */
export type ContentThen = { readonly row: InodeRow | undefined; readonly at: Lsn };

type PlacedRun = { readonly offset: bigint; readonly run: Run };

const CHUNK_BYTES_BIG = BigInt(CHUNK_BYTES);

/** Over ranges of more chunks, those without anything are leapt over; in shorter ones it is cheaper to look at each. */
const LEAP_CHUNKS = 8;

/**
 * What of a file's content at `after` (below its size then) is not what was stored there at `before`, ascending, neighbours of one kind joined, in batches of at most `countMax`. Reads no data: what is stored
 * at another place counts as changed. `touched`: the only chunks that may differ, where both have the same content id.
 */
export async function* changedExtents(
  core: EngineCore,
  { before, after }: { readonly before: ContentThen; readonly after: ContentThen & { readonly row: InodeRow } },
  options: { readonly touched: readonly ChunkRange[] | undefined; readonly countMax: number; readonly work: Work },
): AsyncGenerator<DeltaExtent[]> {
  const contents = { before: before.row?.contentId ?? (0 as ContentId), after: after.row.contentId };
  const isSame = contents.before === contents.after;
  const chunks =
    isSame && options.touched !== undefined ? options.touched : [{ first: 0, last: Number.POSITIVE_INFINITY }];
  const { size } = after.row;
  let batch: DeltaExtent[] = [];
  let last: DeltaExtent | undefined;
  for (const chunk of chunksWithContent(core, contents, chunks, size)) {
    if (options.work.due) await options.work.pause();
    const from = chunkOffset(chunk);
    const end = from + CHUNK_BYTES_BIG;
    const length = (end < size ? end : size) - from;
    const left = core.content.runs(contents.before, from, length, before.at);
    const right = core.content.runs(contents.after, from, length, after.at);
    for (const extent of differences(left, right)) {
      if (last !== undefined && last.kind === extent.kind && last.offset + last.length === extent.offset) {
        last = { ...last, length: last.length + extent.length };
        continue;
      }
      if (last !== undefined) batch.push(last);
      last = extent;
      if (batch.length < options.countMax) continue;
      yield batch;
      batch = [];
    }
  }
  if (last !== undefined) batch.push(last);
  if (batch.length > 0) yield batch;
}

/** The chunks of `ranges`, below `size`, in which one of the contents ever had anything. */
function* chunksWithContent(
  core: EngineCore,
  contents: { readonly before: ContentId; readonly after: ContentId },
  ranges: readonly ChunkRange[],
  size: bigint,
): Generator<number> {
  const chunkCount = Number((size + CHUNK_BYTES_BIG - 1n) / CHUNK_BYTES_BIG);
  for (const range of ranges) {
    const last = Math.min(range.last, chunkCount - 1);
    const leaps = last - range.first > LEAP_CHUNKS;
    for (let chunk = range.first; chunk <= last; chunk++) {
      const next = leaps ? nextChunk(core, contents, chunk) : chunk;
      if (next === undefined || next > last) break;
      yield next;
      chunk = next;
    }
  }
}

function nextChunk(
  core: EngineCore,
  contents: { readonly before: ContentId; readonly after: ContentId },
  chunk: number,
): number | undefined {
  const after = contents.after === 0 ? undefined : core.content.nextChunk(contents.after, chunk);
  if (contents.before === 0 || contents.before === contents.after) return after;
  const before = core.content.nextChunk(contents.before, chunk);
  if (before === undefined || after === undefined) return before ?? after;
  return Math.min(before, after);
}

/** Where two lists of runs over the same range differ: with the kind of the second. */
function* differences(left: readonly PlacedRun[], right: readonly PlacedRun[]): Generator<DeltaExtent> {
  let leftIndex = 0;
  let rightIndex = 0;
  let position = right[0]?.offset ?? 0n;
  for (;;) {
    const a = left[leftIndex];
    const b = right[rightIndex];
    if (a === undefined || b === undefined) return;
    const leftEnd = a.offset + BigInt(a.run.length);
    const rightEnd = b.offset + BigInt(b.run.length);
    const end = leftEnd < rightEnd ? leftEnd : rightEnd;
    if (!isSamePlace(a, b)) {
      const kind = b.run.segment === 0 ? ("hole" as const) : ("data" as const);
      yield { kind, offset: position, length: end - position };
    }
    position = end;
    if (leftEnd === end) leftIndex++;
    if (rightEnd === end) rightIndex++;
  }
}

/** Whether two runs that overlap have the same stored bytes where they do, or are both holes. */
function isSamePlace(left: PlacedRun, right: PlacedRun): boolean {
  if (left.run.segment !== right.run.segment) return false;
  if (left.run.segment === 0) return true;
  const shift = BigInt(left.run.skip - right.run.skip);
  return left.run.dataStart === right.run.dataStart && left.offset - right.offset === shift;
}
