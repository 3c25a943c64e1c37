import { readU64Be } from "../../base/bytes.ts";
import type { ContentId, InodeId, Lsn } from "../../domain/ids.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import { inodeOfDetail } from "../detail.ts";
import { chunkKey, inodeKey, inoPrefix, plainKey, prefixEnd, TABLE } from "../keys.ts";
import type { OpenApp } from "../open-app.ts";
import { rowsFrom } from "../reading/paths.ts";
import type { Work } from "../reading/work.ts";
import { decodeExtents, decodeInode } from "../rows.ts";
import { pagesOf } from "../space/app-space.ts";
import { decodePieces } from "../space/space-rows.ts";
import { ErasedBytes } from "./erased-bytes.ts";

/** What history says of files. */
export type FileStates = {
  /** Contents they have or had. */
  readonly contents: ReadonlySet<ContentId>;
  readonly stateCount: number;
};

/** Contents and number of states of files. */
export async function statesOf(app: OpenApp, files: Iterable<InodeId>, work: Work): Promise<FileStates> {
  const { core, store } = app;
  const contents = new Set<ContentId>();
  let stateCount = 0;
  const note = (ino: InodeId, value: Buffer): void => {
    stateCount += 1;
    const { contentId } = decodeInode(ino, value);
    if (contentId !== 0) contents.add(contentId);
  };
  for (const ino of files) {
    const now = store.get(inodeKey(ino));
    if (now !== undefined) note(ino, now);
    const past = inoPrefix(TABLE.INODE_PAST, ino);
    for (const { value } of rowsFrom(core, past, prefixEnd(past))) note(ino, value);
    if (work.due) await work.pause();
  }
  return { contents, stateCount };
}

/**
 * The bytes of these files in records' own data, at all moments: what rows name, and below the floor also what only the journal has still. Throws DATA_DAMAGED
 * when records below the floor can't be read.
 */
export async function bytesOf(
  app: OpenApp,
  of: { readonly files: ReadonlyMap<InodeId, unknown>; readonly contents: ReadonlySet<ContentId> },
  work: Work,
): Promise<ErasedBytes> {
  const { store } = app;
  const bytes = new ErasedBytes();
  for (const content of of.contents) {
    for (const table of [TABLE.SLICE, TABLE.CHECKPOINT]) {
      const gte = chunkKey(table, content, 0, 0);
      for (const page of pagesOf(store, gte, prefixEnd(gte.subarray(0, 9) as Buffer))) {
        for (const { value } of page) bytes.addExtents(decodeExtents(value));
        if (work.due) await work.pause();
      }
    }
  }
  const { floor } = app.core.moments;
  if (floor === 0) return bytes;
  for await (const record of localRecords(app, floor, work)) {
    if (record.dataLength === 0 || !OWN_DATA.has(record.op)) continue;
    if (of.files.has(inodeOfDetail(record.detail) as InodeId)) bytes.add(record, 0, record.dataLength);
  }
  return bytes;
}

/** Records whose detail begins with the inode that their data are of. */
const OWN_DATA: ReadonlySet<number> = new Set([RECORD_OP.WRITE, RECORD_OP.RESTORE_ENTRY]);

/**
 * Where copies of these bytes are that cleaning, or bringing in what was in an archive, has made: in the data of RELOCATE records, those of copies that were moved on since included.
 */
export async function copiesOf(app: OpenApp, bytes: ErasedBytes, work: Work): Promise<ErasedBytes> {
  const copies = new ErasedBytes();
  // Without them there were never any.
  if (app.core.moments.floor === 0 && app.core.archive === undefined) return copies;
  for await (const record of localRecords(app, app.core.lastLsn, work)) {
    if (record.op !== RECORD_OP.RELOCATE || record.dataLength === 0) continue;
    for (const { key, value } of record.rows) {
      if (key[0] !== TABLE.RELOCATION || value === null) continue;
      const named = bytes.get(readU64Be(key, 1), key.readUInt32BE(9));
      if (named === undefined) continue;
      for (const piece of decodePieces(value)) {
        if (piece.segment !== record.segment || piece.dataStart !== record.dataStart) continue;
        for (const { from, to } of named.ranges.within(piece.skip, piece.skip + piece.length)) {
          const at = piece.newSkip + (from - piece.skip);
          copies.add(record, at, at + (to - from));
        }
      }
    }
  }
  return copies;
}

/** The records up to `to` that are in the journal's folder. */
async function* localRecords(app: OpenApp, to: Lsn, work: Work): AsyncGenerator<RecordOf> {
  const { journal } = app;
  for (const { segment, lastLsn } of journal.segments()) {
    const until = Math.min(lastLsn, to) as Lsn;
    if (segment > until) continue;
    for await (const record of journal.readRecords(segment as Lsn, until)) {
      yield record;
      if (work.due) await work.pause();
    }
  }
}

type RecordOf = ReturnType<OpenApp["journal"]["readRecords"]> extends AsyncGenerator<infer R> ? R : never;

/**
 * Other contents that name some of these bytes, and how many. Records of which others name nothing are then among the bytes whole: what of them no row names any more, because retention dropped it, nobody can read, and it is of the
 * same writer. Looks at all rows of content.
 */
export async function sharersOf(
  app: OpenApp,
  { bytes, contents }: { readonly bytes: ErasedBytes; readonly contents: ReadonlySet<ContentId> },
  work: Work,
): Promise<Map<ContentId, number>> {
  const sharers = new Map<ContentId, number>();
  const touched = new Set<string>();
  for (const table of [TABLE.SLICE, TABLE.CHECKPOINT]) {
    const gte = plainKey(table);
    for (const page of pagesOf(app.store, gte, prefixEnd(gte))) {
      for (const { key, value } of page) {
        const content = readU64Be(key, 1) as ContentId;
        if (contents.has(content)) continue;
        const extents = decodeExtents(value);
        for (const name of bytes.touchedBy(extents)) touched.add(name);
        const shared = bytes.sharedWith(extents);
        if (shared > 0) sharers.set(content, Math.max(shared, sharers.get(content) ?? 0));
      }
      if (work.due) await work.pause();
    }
  }
  bytes.widen(touched);
  return sharers;
}

/** The inodes that have or had these contents. Looks at all inodes. */
export async function ownersOf(
  app: OpenApp,
  contents: ReadonlyMap<ContentId, number>,
  work: Work,
): Promise<Map<InodeId, number>> {
  const owners = new Map<InodeId, number>();
  for (const table of [TABLE.INODE, TABLE.INODE_PAST]) {
    const gte = plainKey(table);
    for (const page of pagesOf(app.store, gte, prefixEnd(gte))) {
      for (const { key, value } of page) {
        const ino = (key.readUInt8(1) * 2 ** 32 + key.readUInt32BE(2)) as InodeId;
        const shared = contents.get(decodeInode(ino, value).contentId);
        if (shared !== undefined) owners.set(ino, Math.max(shared, owners.get(ino) ?? 0));
      }
      if (work.due) await work.pause();
    }
  }
  return owners;
}
