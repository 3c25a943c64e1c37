import { readU40Be, readU64Be } from "../base/bytes.ts";
import type { VerifiedRecord } from "../journal/verified-stream.ts";
import { CHUNK_BYTES } from "../meta/content.ts";
import { TABLE } from "../meta/keys.ts";

/** A part of a record's data and where in which content it stands: byte `skip` is at `start` of the 64 MiB chunk `chunk`. */
export type DataSlice = {
  /** NO_CONTENT: nothing says whose they are. */
  readonly content: number;
  readonly chunk: number;
  readonly start: number;
  readonly skip: number;
  readonly length: number;
};

/** No content has this number. */
export const NO_CONTENT = 0;

const SLICE_KEY_BYTES = 22;
const EXTENT_BYTES = 28;

/**
 * What a record's data are of, going by its own slice rows (../meta/FORMAT.md, table `C`): together exactly its data, in order. Where the rows don't say that, the data
 * are taken as one piece of nobody: it costs deduplication, nothing else.
 */
export function slicesOf(record: VerifiedRecord): readonly DataSlice[] {
  const { dataLength } = record.fields;
  const slices = readSlices(record);
  if (slices.length > 1) slices.sort((left, right) => left.skip - right.skip);
  let end = 0;
  for (const { skip, length } of slices) {
    if (skip !== end) return whole(dataLength);
    end += length;
  }
  return end === dataLength ? slices : whole(dataLength);
}

/** The parts of a slice that are there, of a record of which something was erased: in order. */
export function* slicesLeft(slice: DataSlice, erased: VerifiedRecord["erased"]): Generator<DataSlice> {
  if (erased === undefined) {
    yield slice;
    return;
  }
  const end = slice.skip + slice.length;
  const part = (from: number, to: number): DataSlice => ({
    ...slice,
    start: slice.start + (from - slice.skip),
    skip: from,
    length: to - from,
  });
  let at = slice.skip;
  for (const { from, to } of erased) {
    if (to <= at) continue;
    if (from >= end) break;
    if (from > at) yield part(at, from);
    at = Math.min(to, end);
  }
  if (at < end) yield part(at, end);
}

/** Where the content goes on behind a slice. */
export function endOf({ chunk, start, length }: DataSlice): { readonly chunk: number; readonly start: number } {
  const end = start + length;
  return end < CHUNK_BYTES ? { chunk, start: end } : { chunk: chunk + 1, start: end - CHUNK_BYTES };
}

function whole(length: number): readonly DataSlice[] {
  return [{ content: NO_CONTENT, chunk: 0, start: 0, skip: 0, length }];
}

/** Reads the rows without decoding the others. The body was verified, so lengths that don't fit are a defect of ours: they make no slices. */
function readSlices({ body, segment, dataStart }: VerifiedRecord): DataSlice[] {
  const slices: DataSlice[] = [];
  let at = 1 + body.readUInt8(0);
  at += 2 + body.readUInt16BE(at);
  const count = body.readUInt32BE(at);
  at += 4;
  for (let row = 0; row < count && at + 6 <= body.length; row += 1) {
    const keyLength = body.readUInt16BE(at);
    const valueLength = body.readUInt32BE(at + 2);
    const key = at + 6;
    const value = key + keyLength;
    if (valueLength === 0xffff_ffff) {
      at = value;
      continue;
    }
    at = value + valueLength;
    if (keyLength !== SLICE_KEY_BYTES || body[key] !== TABLE.SLICE || at > body.length) continue;
    const content = readU64Be(body, key + 1);
    const chunk = readU40Be(body, key + 9);
    for (let extent = value + 4; extent + EXTENT_BYTES <= at; extent += EXTENT_BYTES) {
      if (readU64Be(body, extent + 8) !== segment || body.readUInt32BE(extent + 16) !== dataStart) continue;
      const length = body.readUInt32BE(extent + 4);
      slices.push({ content, chunk, start: body.readUInt32BE(extent), length, skip: body.readUInt32BE(extent + 24) });
    }
  }
  return slices;
}
