import type { ContentId } from "../../domain/ids.ts";
import type { RequestContext } from "../../domain/metadata-api.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import { chunkPieces } from "../content.ts";
import type { EngineCore } from "../core.ts";
import { rangeDetail } from "../detail.ts";
import type { FileThen } from "../reading/content-compare.ts";
import { chunksOfRuns, contentPieces, type FileRun, type Piece } from "../reading/content-stream.ts";
import { toDamage } from "../reading/failures.ts";
import type { Work } from "../reading/work.ts";
import type { Extent, InodeRow } from "../rows.ts";
import type { Transaction } from "../transaction.ts";

/** Extents in one record: 1.8 MiB of it, a tenth of what a record may have. */
const EXTENTS_PER_RECORD = 65_536;

/**
 * Content to be put back: nothing stored, runs of the same app that one record can name, data of another app that one record can carry, or a
 * content id that earlier records have laid down.
 */
export type Content =
  | { readonly kind: "empty" }
  | { readonly kind: "runs"; readonly runs: readonly FileRun[] }
  | { readonly kind: "data"; readonly piece: Piece }
  | { readonly kind: "laid"; readonly contentId: ContentId };

export type LayOptions = { readonly core: EngineCore; readonly context: RequestContext; readonly work: Work };

/**
 * Gets a file's content ready for one record of the app `options.core`: shares the stored bytes within an app, copies them from another. Long content is laid
 * down in records of its own first, which nobody sees yet: each such record yields. Throws DATA_DAMAGED for damage in another app, FsError as a commit does.
 */
export async function* layContent(source: FileThen, options: LayOptions): AsyncGenerator<void, Content> {
  if (source.core === options.core) return yield* layRuns(source, options);
  return yield* layData(source, options);
}

async function* layRuns(source: FileThen, options: LayOptions): AsyncGenerator<void, Content> {
  const { row } = source;
  let contentId = 0 as ContentId;
  let held: FileRun[] = [];
  for (const runs of chunksOfRuns(source.core, row, source.at, { from: 0n, to: row.size })) {
    for (let start = 0; start < runs.length; ) {
      if (held.length === EXTENTS_PER_RECORD) {
        contentId = layDown(options, contentId, row, { kind: "runs", runs: held });
        held = [];
        yield;
        if (options.work.due) await options.work.pause();
      }
      const end = Math.min(runs.length, start + EXTENTS_PER_RECORD - held.length);
      for (const run of runs.slice(start, end)) held.push(run);
      start = end;
    }
  }
  if (contentId === 0) return held.length === 0 ? { kind: "empty" } : { kind: "runs", runs: held };
  if (held.length > 0) layDown(options, contentId, row, { kind: "runs", runs: held });
  return { kind: "laid", contentId };
}

async function* layData(source: FileThen, options: LayOptions): AsyncGenerator<void, Content> {
  const { row } = source;
  let contentId = 0 as ContentId;
  let held: Piece | undefined;
  for await (const piece of readPieces(source, options.work)) {
    if (held !== undefined) {
      contentId = layDown(options, contentId, row, { kind: "data", piece: held });
      yield;
    }
    held = piece;
  }
  if (held === undefined) return { kind: "empty" };
  if (contentId === 0) return { kind: "data", piece: held };
  layDown(options, contentId, row, { kind: "data", piece: held });
  return { kind: "laid", contentId };
}

async function* readPieces({ core, row, at }: FileThen, work: Work): AsyncGenerator<Piece> {
  try {
    yield* contentPieces(core, row, at, { from: 0n, to: row.size, work });
  } catch (error) {
    throw toDamage(error, `reading inode ${row.ino} at LSN ${at}`);
  }
}

/** One record of content. Answers the content id, the record's own LSN if it is the first. */
function layDown(
  { core, context }: LayOptions,
  contentId: ContentId,
  row: InodeRow,
  content: Content & { kind: "runs" | "data" },
): ContentId {
  const tx = core.begin(context);
  const id = contentId === 0 ? (tx.lsn as number as ContentId) : contentId;
  const { data, range } = addContent(tx, id, content);
  tx.commit(
    RECORD_OP.RESTORE_CONTENT,
    rangeDetail(row.ino, range.from, range.to - range.from),
    data === undefined ? {} : { data },
  );
  return id;
}

/** Adds content to a record, and answers the data that its commit must carry. */
export function addContent(
  tx: Transaction,
  contentId: ContentId,
  content: Content & { kind: "runs" | "data" },
): { readonly data?: Buffer; readonly range: { readonly from: bigint; readonly to: bigint } } {
  const chunks = new Map<number, Extent[]>();
  const add = (offset: bigint, extent: Extent): void => {
    for (const piece of chunkPieces(offset, BigInt(extent.length))) {
      const extents = chunks.get(piece.chunk) ?? [];
      extents.push({
        ...extent,
        start: piece.from,
        length: piece.to - piece.from,
        skip: extent.skip + Number(piece.skip),
      });
      chunks.set(piece.chunk, extents);
    }
  };
  let data: Buffer | undefined;
  let from = 0n;
  let to = 0n;
  if (content.kind === "data") {
    data = content.piece.bytes;
    const { segment, dataStart } = tx.place(data.length);
    from = content.piece.offset;
    to = from + BigInt(data.length);
    add(from, { start: 0, length: data.length, segment, dataStart, dataLength: data.length, skip: 0 });
  } else {
    from = content.runs[0]?.offset ?? 0n;
    for (const { offset, run } of content.runs) {
      add(offset, run);
      to = offset + BigInt(run.length);
    }
  }
  // Nothing was in a chunk of a new content before its first extents; of a chunk begun by an earlier record the engine knows.
  for (const [chunk, extents] of chunks) tx.addExtents(contentId, chunk, extents, (contentId as number) === tx.lsn);
  return { ...(data === undefined ? {} : { data }), range: { from, to } };
}
