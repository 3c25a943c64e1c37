import { readU40Be, readU64Be } from "../../base/bytes.ts";
import type { Lsn } from "../../domain/ids.ts";
import { chunkKey, chunkOfKey, numberKey, prefixEnd, TABLE } from "../keys.ts";
import type { Work } from "../reading/work.ts";
import { decodeExtents, type Extent } from "../rows.ts";
import { type AppSpace, pagesOf } from "./app-space.ts";
import { ByteRanges } from "./byte-ranges.ts";
import type { SegmentData } from "./segment-data.ts";
import type { Piece } from "./space-rows.ts";

/** What of a record's data is named. */
export type NamedData = { readonly dataLength: number; readonly ranges: ByteRanges };

/** Data of a segment that is gone, of which parts are now in the segment looked at. */
export type MovedData = {
  readonly segment: number;
  readonly dataStart: number;
  readonly pieces: readonly Piece[];
  readonly named: ByteRanges;
};

/** What of a segment below the floor is in use. */
export type SegmentContents = {
  /** By data start: what chunks name directly. */
  readonly named: ReadonlyMap<number, NamedData>;
  readonly moved: readonly MovedData[];
  /** Chunks that name the segment by slices of its own records: references to be kept when it is gone. */
  readonly owners: readonly { readonly content: number; readonly chunk: number }[];
  /** References that name nothing any more. */
  readonly stale: readonly Buffer[];
  readonly liveBytes: number;
  readonly costBytes: number;
};

/** What the rows for one relocated piece take in a record: a relocation of one piece, a reference. */
const PIECE_COST_BYTES = 100;

type At = { readonly segment: number; readonly data: SegmentData };

type Names = { readonly named: Map<number, NamedData>; readonly stale: Buffer[] };

/**
 * Finds what of segments is in use. A segment's own records tell which chunks may name it; references (table Q) tell the others. What the rows of these chunks up to the floor
 * name is in use, and so is what newer slices of referring chunks name; checkpoints above the floor name nothing else. Bytes once out of use stay so: what can be copied
 * is what can be read. So an answer stays safe, whatever happens after it. For one segment each.
 */
export class SegmentReader {
  readonly #space: AppSpace;
  readonly #work: Work;
  /** What is named of the segments that are gone and have data in the one that is read. */
  readonly #gone = new Map<number, Names>();

  constructor(space: AppSpace, work: Work) {
    this.#space = space;
    this.#work = work;
  }

  /** Throws DATA_DAMAGED when the segment's records can't be read. */
  async read(segment: number, lastLsn: Lsn): Promise<SegmentContents> {
    const chunks = new Map<string, { content: number; chunk: number }>();
    const moves = new Map<string, { segment: number; dataStart: number }>();
    for await (const record of this.#space.app.journal.readRecords(segment as Lsn, lastLsn)) {
      for (const { key, value } of record.rows) {
        if (value === null) continue;
        if (key[0] === TABLE.SLICE && decodeExtents(value).some((extent) => extent.segment === segment)) {
          const chunk = { content: readU64Be(key, 1), chunk: chunkOfKey(key) };
          chunks.set(`${chunk.content}:${chunk.chunk}`, chunk);
        } else if (key[0] === TABLE.RELOCATION) {
          const move = { segment: readU64Be(key, 1), dataStart: key.readUInt32BE(9) };
          moves.set(`${move.segment}:${move.dataStart}`, move);
        }
      }
      if (this.#work.due) await this.#work.pause();
    }
    const names: Names = { named: new Map(), stale: [] };
    const owners = [];
    for (const owner of chunks.values()) {
      if (this.#chunkNames(segment, owner, names.named)) owners.push(owner);
      if (this.#work.due) await this.#work.pause();
    }
    await this.#references(segment, names);
    const moved = await this.#moved(segment, moves.values());
    const stale = [...names.stale, ...[...this.#gone.values()].flatMap((gone) => gone.stale)];
    return { named: names.named, moved, owners, stale, ...sizes(segment, names.named, moved) };
  }

  async #references(segment: number, names: Names): Promise<void> {
    const { store } = this.#space.app;
    const gte = numberKey(TABLE.REFERENCE, segment);
    for (const page of pagesOf(store, gte, prefixEnd(gte))) {
      for (const { key } of page) {
        const content = readU64Be(key, 9);
        const chunk = readU40Be(key, 17);
        const lsn = readU64Be(key, 22);
        if (!this.#referenceNames(segment, { content, chunk, lsn }, names.named)) names.stale.push(key);
        if (this.#work.due) await this.#work.pause();
      }
    }
  }

  #referenceNames(
    segment: number,
    at: { content: number; chunk: number; lsn: number },
    named: Map<number, NamedData>,
  ): boolean {
    if (at.lsn <= this.#space.floor.floor) return this.#chunkNames(segment, at, named);
    const value = this.#space.app.store.get(chunkKey(TABLE.SLICE, at.content, at.chunk, at.lsn));
    return value !== undefined && addNamed(this.#at(segment), decodeExtents(value), named);
  }

  /** Adds what a chunk's rows up to the floor name of the segment. */
  #chunkNames(
    segment: number,
    { content, chunk }: { content: number; chunk: number },
    named: Map<number, NamedData>,
  ): boolean {
    const { app, floor } = this.#space;
    let any = false;
    for (const table of [TABLE.SLICE, TABLE.CHECKPOINT]) {
      const lt = chunkKey(table, content, chunk, floor.floor + 1);
      for (const page of pagesOf(app.store, chunkKey(table, content, chunk, 0), lt)) {
        for (const { value } of page) if (addNamed(this.#at(segment), decodeExtents(value), named)) any = true;
      }
    }
    return any;
  }

  #at(segment: number): At {
    return { segment, data: this.#space.app.core.data };
  }

  async #moved(segment: number, moves: Iterable<{ segment: number; dataStart: number }>): Promise<MovedData[]> {
    const { data } = this.#space.app.core;
    const moved: MovedData[] = [];
    for (const move of moves) {
      const pieces = data.relocation(move.segment, move.dataStart);
      if (!pieces.some((piece) => piece.segment === segment)) continue;
      const { named } = await this.#goneNames(move.segment);
      moved.push({ ...move, pieces, named: named.get(move.dataStart)?.ranges ?? new ByteRanges() });
    }
    return moved;
  }

  async #goneNames(segment: number): Promise<Names> {
    let names = this.#gone.get(segment);
    if (names === undefined) {
      names = { named: new Map(), stale: [] };
      await this.#references(segment, names);
      this.#gone.set(segment, names);
    }
    return names;
  }
}

/** What was erased by order is named by nobody. */
function addNamed(at: At, extents: readonly Extent[], named: Map<number, NamedData>): boolean {
  const { segment, data: all } = at;
  let any = false;
  for (const extent of extents) {
    if (extent.segment !== segment) continue;
    const parts = all.erased(segment, extent.dataStart).missing(extent.skip, extent.skip + extent.length);
    if (parts.length === 0) continue;
    any = true;
    let data = named.get(extent.dataStart);
    if (data === undefined) {
      data = { dataLength: extent.dataLength, ranges: new ByteRanges() };
      named.set(extent.dataStart, data);
    }
    for (const { from, to } of parts) data.ranges.add(from, to);
  }
  return any;
}

function sizes(
  segment: number,
  named: ReadonlyMap<number, NamedData>,
  moved: readonly MovedData[],
): { liveBytes: number; costBytes: number } {
  let liveBytes = 0;
  let pieces = 0;
  for (const { ranges } of named.values()) {
    liveBytes += ranges.bytes;
    pieces += ranges.ranges.length;
  }
  for (const data of moved) {
    for (const { from, to } of partsIn(segment, data)) {
      liveBytes += to - from;
      pieces++;
    }
  }
  return { liveBytes, costBytes: liveBytes + pieces * PIECE_COST_BYTES };
}

/** The parts of moved data that are in the segment and in use, with the piece each is of. */
export function partsIn(
  segment: number,
  { pieces, named }: MovedData,
): { readonly piece: Piece; readonly from: number; readonly to: number }[] {
  return pieces
    .filter((piece) => piece.segment === segment)
    .flatMap((piece) => named.within(piece.skip, piece.skip + piece.length).map((range) => ({ piece, ...range })));
}
