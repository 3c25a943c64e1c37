import { CONTENT_PIECE_BYTES_MAX } from "../../domain/admin-call.ts";
import type { DataRange } from "../../domain/admin-reading.ts";
import type { InodeId, Lsn } from "../../domain/ids.ts";
import type { EngineCore } from "../core.ts";
import { firstChunks } from "../first-chunks.ts";
import type { InodeRow } from "../rows.ts";
import { type FileRun, type Piece, piecesOf } from "./content-stream.ts";

/** Larger files are read by themselves: they gain nothing. */
const FILE_BYTES_MAX = BigInt(CONTENT_PIECE_BYTES_MAX);

/** Runs of a file that is read ahead: more of them are the trace of a database, and cost more than what they gain. */
const RUNS_MAX = 64;

/** A file's whole content, and where it is in the file. */
export type WholeContent = { readonly pieces: readonly Piece[]; readonly ranges: readonly DataRange[] };

/** Whether a file's content is worth reading along with that of others. */
export function isReadAhead(row: InodeRow): boolean {
  return row.contentId !== 0 && row.size > 0n && row.size <= FILE_BYTES_MAX;
}

/**
 * Reads the contents of small files together: from an archive, where one by one each waits for the store. Answers those that were found; the others, damaged ones among them, are to be read
 * one by one. Never rejects. Memory: the contents, so the caller bounds them.
 */
export async function readAhead(
  core: EngineCore,
  rows: readonly InodeRow[],
  at: Lsn,
): Promise<ReadonlyMap<InodeId, WholeContent>> {
  const contents = new Map<InodeId, WholeContent>();
  const small = rows.filter(isReadAhead);
  if (small.length === 0 || core.archive === undefined) return contents;
  const files = filesOf(core, small, at);
  const places = files.flatMap(({ runs }) => runs.map(({ run }) => run));
  let buffers: readonly (Buffer | undefined)[];
  try {
    buffers = (await core.data.readTogether(places)) ?? [];
  } catch {
    // Whoever reads the files one by one learns which it is, and tells.
    return contents;
  }
  let next = 0;
  for (const { ino, runs } of files) {
    const own = buffers.slice(next, next + runs.length).filter((bytes) => bytes !== undefined);
    next += runs.length;
    if (own.length !== runs.length) continue;
    const pieces = piecesOf(runs, own);
    const ranges = pieces.map(({ offset, bytes }) => ({ offset, length: BigInt(bytes.length) }));
    contents.set(ino, { pieces, ranges });
  }
  return contents;
}

function filesOf(
  core: EngineCore,
  rows: readonly InodeRow[],
  at: Lsn,
): { readonly ino: InodeId; readonly runs: readonly FileRun[] }[] {
  const chunks = firstChunks(
    core.store,
    rows.map(({ contentId }) => contentId),
    at,
  );
  return rows.flatMap(({ ino, contentId, size }) => {
    const list = chunks.get(contentId);
    if (list === undefined || list.count > RUNS_MAX) return [];
    const runs = list.runs(0, Number(size)).filter(({ segment }) => segment !== 0);
    return [{ ino, runs: runs.map((run) => ({ offset: BigInt(run.start), run })) }];
  });
}
