import { readU64Be } from "../base/bytes.ts";
import { type ContentId, LIVE, type Lsn } from "../domain/ids.ts";
import { closeNumbers } from "./close-numbers.ts";
import { replay } from "./content.ts";
import { ExtentList } from "./extent-list.ts";
import { chunkKey, chunkOfKey, cutKey, lsnAtEnd, TABLE } from "./keys.ts";
import type { Row, RowStore } from "./row-store.ts";
import { decodeCut, decodeExtents } from "./rows.ts";

/** Numbers without a file of ours between two that are read together: reading past their rows costs less than another query. */
const GAP_MAX = 16;

/** Rows of one query. A group with more has large files in it, which are better read one by one. */
const ROWS_MAX = 2048;

/**
 * The first chunk of each of `contents` as of `at`, as ContentMap.chunk answers it, in a few queries for files that were made one after the other, as those of one directory
 * mostly are, instead of three for each. Nothing is cached. Contents that are better loaded by themselves are left out.
 */
export function firstChunks(store: RowStore, contents: Iterable<ContentId>, at: Lsn): Map<ContentId, ExtentList> {
  const sorted = [...new Set(contents)].sort((left, right) => left - right);
  const chunks = new Map<ContentId, ExtentList>();
  for (const group of closeNumbers(sorted, GAP_MAX)) addGroup(store, { contents: group, at }, chunks);
  return chunks;
}

type Group = { readonly contents: readonly ContentId[]; readonly at: Lsn };

function addGroup(store: RowStore, { contents, at }: Group, chunks: Map<ContentId, ExtentList>): void {
  const first = contents[0] as number;
  const end = (contents.at(-1) as number) + 1;
  const read = (keyOf: (content: number) => Buffer): Map<number, Row[]> | undefined => {
    const rows = store.range({ gte: keyOf(first), lt: keyOf(end), limit: ROWS_MAX });
    return rows.length === ROWS_MAX ? undefined : byContent(rows, at);
  };
  const slices = read((content) => chunkKey(TABLE.SLICE, content, 0, 0));
  if (slices === undefined) return;
  const checkpoints = read((content) => chunkKey(TABLE.CHECKPOINT, content, 0, 0));
  if (checkpoints === undefined) return;
  const cuts = read((content) => cutKey(content, 0));
  if (cuts === undefined) return;
  for (const content of contents) {
    const of = (rows: Map<number, Row[]>): readonly Row[] => rows.get(content) ?? NO_ROWS;
    chunks.set(content, listOf({ slices: of(slices), checkpoints: of(checkpoints), cuts: of(cuts) }));
  }
}

/** The rows up to `at`; of what is kept by chunks, those of the first one. */
function byContent(rows: readonly Row[], at: Lsn): Map<number, Row[]> {
  const found = new Map<number, Row[]>();
  for (const row of rows) {
    const { key } = row;
    if (at !== LIVE && lsnAtEnd(key) > at) continue;
    if (key[0] !== TABLE.CUT && chunkOfKey(key) !== 0) continue;
    const content = readU64Be(key, 1);
    const before = found.get(content);
    if (before === undefined) found.set(content, [row]);
    else before.push(row);
  }
  return found;
}

type ChunkRows = {
  readonly slices: readonly Row[];
  readonly checkpoints: readonly Row[];
  readonly cuts: readonly Row[];
};

/** What the last checkpoint has, and over it what came since. */
function listOf({ slices, checkpoints, cuts }: ChunkRows): ExtentList {
  const checkpoint = checkpoints.at(-1);
  const since = checkpoint === undefined ? 0 : lsnAtEnd(checkpoint.key);
  const list = new ExtentList(checkpoint === undefined ? [] : decodeExtents(checkpoint.value));
  const isLater = ({ key }: Row): boolean => lsnAtEnd(key) > since;
  const laterCuts = cuts.filter(isLater).map(({ key, value }) => decodeCut(lsnAtEnd(key), value));
  replay(list, { slices: slices.filter(isLater), cuts: laterCuts, chunk: 0 });
  return list;
}

const NO_ROWS: readonly Row[] = [];
