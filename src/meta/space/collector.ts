import { readU40Be, readU64Be } from "../../base/bytes.ts";
import type { ContentId, InodeId, Lsn } from "../../domain/ids.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import type { JournalRecord, RowOp } from "../../journal/record.ts";
import { CHUNK_BYTES } from "../content.ts";
import { GenerationCache } from "../generation-cache.ts";
import {
  chunkKey,
  chunkOfKey,
  cutKey,
  inodeKey,
  inodePastKey,
  inoPrefix,
  lsnAtEnd,
  numberKey,
  plainKey,
  prefixEnd,
  TABLE,
  timeKey,
} from "../keys.ts";
import type { Work } from "../reading/work.ts";
import type { RowStore } from "../row-store.ts";
import { type Cut, decodeCut, decodeExtents, decodeJson, decodeSince, INODE_CONTENT_OFFSET } from "../rows.ts";
import { type AppSpace, pagesOf } from "./app-space.ts";
import { ChunkHistory, cutsOf } from "./chunk-history.ts";
import type { Kept } from "./kept.ts";
import { SpaceBatch } from "./space-batch.ts";
import { type Span, spanOfPast } from "./space-rows.ts";

/** Chunks remembered as reduced, in each of two generations: 100 bytes each. Forgetting one only means to look again. */
const CHUNKS_REMEMBERED = 32_768;

/** Tables of superseded rows whose span `spanOfPast` tells. */
const PAST: ReadonlySet<number> = new Set([
  TABLE.INODE_PAST,
  TABLE.DENTRY_PAST,
  TABLE.DENTRY_ENDED,
  TABLE.DENTRY_BEGAN,
  TABLE.XATTR_PAST,
  TABLE.PARENT_PAST,
  TABLE.SNAPSHOT_PAST,
]);

/** What a record did to files' content. */
type Touched = {
  /** Contents and the inode whose row in this record names them. */
  readonly owners: Map<ContentId, InodeId>;
  /** Contents that inodes named before the record. */
  readonly before: Map<ContentId, InodeId>;
  readonly slices: { readonly content: ContentId; readonly chunk: number }[];
  readonly cuts: { readonly content: ContentId; readonly cut: Cut }[];
};

/**
 * Drops what only unreadable moments need, by walking the records between the previous floor and the floor: each tells what it superseded.
 *
 * Invariants
 * V1  Of rows that hold at or after the floor, or at a kept moment, none is touched.
 * V2  `walked` passes a record only with or after everything it asks for. Doing a record again does the same.
 */
export class Collector {
  readonly #space: AppSpace;
  readonly #work: Work;
  readonly #batch: SpaceBatch;
  readonly #kept: Kept;
  readonly #chunks: ChunkHistory;
  readonly #reduced = new GenerationCache<string, true>(CHUNKS_REMEMBERED);
  readonly #floorTimeKey: Buffer;
  /** Content that a restore laid down below the floor and no inode had yet. One restore runs at a time, so there are few. */
  readonly #laid = new Set<ContentId>();
  #cuts: { readonly content: ContentId; readonly cuts: readonly Cut[] } | undefined;

  constructor(space: AppSpace, work: Work) {
    this.#space = space;
    this.#work = work;
    this.#batch = new SpaceBatch(space);
    const laid = plainKey(TABLE.LAID);
    for (const page of pagesOf(space.app.store, laid, prefixEnd(laid))) {
      for (const { key } of page) this.#laid.add(readU64Be(key, 1) as ContentId);
    }
    this.#kept = space.app.core.moments.kept;
    const flush = (): Promise<void> => this.#flush();
    this.#chunks = new ChunkHistory(space, { batch: this.#batch, kept: this.#kept, flush, work });
    this.#floorTimeKey = timeKey(space.floor.era, space.floor.time.sec, space.floor.time.nsec);
  }

  /** Walks on from where the last walk came to. Throws DATA_DAMAGED when a record can't be read, FsError when none can be written, CANCELLED. */
  async run(): Promise<void> {
    const { floor, walked } = this.#space.floor;
    if (walked === floor) return;
    for await (const record of this.#space.app.core.records((walked + 1) as Lsn, floor)) {
      await this.#record(record);
      this.#batch.walked(record.lsn);
      if (this.#batch.isFull) await this.#flush();
      else if (this.#work.due) await this.#work.pause();
    }
    await this.#flush();
  }

  async #flush(): Promise<void> {
    this.#batch.commit({ floor: this.#space.floor.floor, collectedTo: this.#space.floor.walked });
    await this.#space.breathe(this.#work);
  }

  async #record(record: JournalRecord): Promise<void> {
    const touched: Touched = { owners: new Map(), before: new Map(), slices: [], cuts: [] };
    for (const row of record.rows) if (row.value !== null) this.#row(record.lsn, row, row.value, touched);
    for (const [content, ino] of touched.before) {
      if (!touched.owners.has(content) && contentAt(this.#space, ino) !== content) await this.#end(content, record.lsn);
    }
    for (const { content, chunk } of touched.slices)
      if (this.#lives(content, touched)) await this.#reduce(content, chunk);
    for (const { content, cut } of touched.cuts) if (this.#lives(content, touched)) await this.#cut(content, cut);
    await this.#layDown(record, touched);
  }

  /** What a restore laid down and never gave to an inode, because it was cancelled or cut short, goes when it has ended. */
  async #layDown({ op, lsn }: JournalRecord, touched: Touched): Promise<void> {
    for (const content of touched.owners.keys())
      if (this.#laid.delete(content)) this.#batch.row(laidKey(content), null);
    if (op === RECORD_OP.RESTORE_CONTENT && touched.slices.some(({ content }) => (content as number) === lsn)) {
      // A content's id is the LSN of its first record.
      this.#laid.add(lsn as number as ContentId);
      this.#batch.row(laidKey(lsn), NO_BYTES);
    }
    if (op !== RECORD_OP.RESTORE_END) return;
    for (const content of this.#laid) {
      if (this.#batch.concerns(content)) await this.#flush();
      await this.#drop(content);
      this.#batch.row(laidKey(content), null);
    }
    this.#laid.clear();
  }

  #row(lsn: Lsn, { key }: RowOp, value: Buffer, touched: Touched): void {
    const table = key.readUInt8(0);
    if (PAST.has(table)) this.#past(key, spanOfPast(key, value));
    switch (table) {
      case TABLE.INODE:
        note(touched.owners, key, value);
        return;
      case TABLE.INODE_PAST:
        note(touched.before, key, value);
        return;
      case TABLE.SHARE_PAST:
        this.#past(key, { since: decodeJson<{ since: Lsn }>(value).since, until: lsnAtEnd(key) });
        return;
      case TABLE.TIME:
        if (!key.equals(this.#floorTimeKey)) this.#batch.row(key, null);
        return;
      case TABLE.SLICE:
        touched.slices.push({ content: readU64Be(key, 1) as ContentId, chunk: chunkOfKey(key) });
        return;
      case TABLE.CUT:
        touched.cuts.push({ content: readU64Be(key, 1) as ContentId, cut: decodeCut(lsn, value) });
        return;
      default:
    }
  }

  /** A superseded row goes, unless a kept moment is in its span. */
  #past(key: Buffer, span: Span): void {
    const kept = this.#kept.newestIn(span.since, span.until);
    if (kept === undefined) this.#batch.row(key, null);
    else this.#batch.pin(kept, key, span);
  }

  /** Whether the content is in use at the floor. If not, the record that ended it is still to come. Without an owner in its record it is taken to live. */
  #lives(content: ContentId, touched: Touched): boolean {
    const owner = touched.owners.get(content);
    return owner === undefined || contentAt(this.#space, owner) === content;
  }

  async #reduce(content: ContentId, chunk: number): Promise<void> {
    const name = `${content}:${chunk}`;
    if (this.#reduced.get(name) !== undefined) return;
    await this.#chunks.reduce({ content, chunk, endedBy: undefined, cuts: this.#cutsOf(content) });
    this.#reduced.set(name, true);
  }

  /** When all its chunks are reduced, nothing needs a cut any more. */
  async #cut(content: ContentId, cut: Cut): Promise<void> {
    const first = Number(cut.from / BigInt(CHUNK_BYTES));
    for (const chunk of this.#chunkNumbers(content, first)) {
      if (BigInt(chunk) * BigInt(CHUNK_BYTES) >= cut.to) break;
      await this.#reduce(content, chunk);
      if (this.#batch.isFull) await this.#flush();
      if (this.#work.due) await this.#work.pause();
    }
    this.#batch.contentRow(content, cutKey(content, cut.lsn), null);
  }

  /** The content ended with a record: nothing of it is left but what kept moments show. */
  async #end(content: ContentId, endedBy: Lsn): Promise<void> {
    if (this.#batch.concerns(content)) await this.#flush();
    if (this.#kept.newestIn(content, endedBy) !== undefined) {
      const cuts = this.#cutsOf(content);
      for (const chunk of this.#chunkNumbers(content, 0)) {
        await this.#chunks.reduce({ content, chunk, endedBy, cuts });
        if (this.#batch.isFull) await this.#flush();
      }
      await this.#deleteAll(TABLE.CUT, content);
    } else await this.#drop(content);
  }

  /** Deletes all rows of a content that no readable moment shows. */
  async #drop(content: ContentId): Promise<void> {
    for (const table of [TABLE.SLICE, TABLE.CHECKPOINT, TABLE.CUT]) await this.#deleteAll(table, content);
  }

  async #deleteAll(table: number, content: ContentId): Promise<void> {
    const gte = table === TABLE.CUT ? cutKey(content, 0) : chunkKey(table, content, 0, 0);
    for (const page of pagesOf(this.#space.app.store, gte, prefixEnd(gte.subarray(0, 9)))) {
      for (const { key, value } of page) {
        this.#batch.contentRow(content, key, null);
        if (table !== TABLE.CUT && lsnAtEnd(key) <= this.#space.floor.previous)
          this.#batch.count(decodeExtents(value), -1);
      }
      if (this.#batch.isFull) await this.#flush();
    }
  }

  /** Kept for the last content, whose records mostly come together; a cut deleted meanwhile does no harm to chunks it was applied to. */
  #cutsOf(content: ContentId): readonly Cut[] {
    if (this.#cuts?.content !== content) {
      this.#cuts = { content, cuts: cutsOf(this.#space.app.store, content, this.#space.floor.floor) };
    }
    return this.#cuts.cuts;
  }

  *#chunkNumbers(content: ContentId, first: number): Generator<number> {
    for (let chunk = this.#space.app.core.content.nextChunk(content, first); chunk !== undefined; ) {
      yield chunk;
      chunk = this.#space.app.core.content.nextChunk(content, chunk + 1);
    }
  }
}

const NO_BYTES = Buffer.alloc(0);

function laidKey(content: number): Buffer {
  return numberKey(TABLE.LAID, content);
}

function note(contents: Map<ContentId, InodeId>, key: Buffer, value: Buffer): void {
  const content = readU64Be(value, INODE_CONTENT_OFFSET) as ContentId;
  if (content !== 0) contents.set(content, readU40Be(key, 1) as InodeId);
}

/** The content of an inode as of the floor; 0 without an inode or content. Past the caches of the live engine, which this must not sweep. */
function contentAt({ app, floor }: AppSpace, ino: InodeId): ContentId | 0 {
  const value = rowAt(app.store, ino, floor.floor);
  return value === undefined ? 0 : (readU64Be(value, INODE_CONTENT_OFFSET) as ContentId);
}

function rowAt(store: RowStore, ino: InodeId, at: Lsn): Buffer | undefined {
  const now = store.get(inodeKey(ino));
  if (now !== undefined && decodeSince(now).since <= at) return now;
  const lt = prefixEnd(inoPrefix(TABLE.INODE_PAST, ino));
  const past = store.range({ gte: inodePastKey(ino, at + 1), lt, limit: 1 })[0];
  return past !== undefined && decodeSince(past.value).since <= at ? past.value : undefined;
}
