import { TidemarkError } from "../../domain/errors.ts";
import type { Extent } from "../rows.ts";
import { ByteRanges } from "../space/byte-ranges.ts";

/** What of one record's data is to be erased. */
export type RecordBytes = { readonly dataLength: number; readonly ranges: ByteRanges };

/** Records of one order: some 400 bytes each, and 45 in the journal. */
const RECORDS_MAX = 400_000;

function recordName(segment: number, dataStart: number): string {
  return `${segment}:${dataStart}`;
}

/** Bytes of records' data, by where they stand: segment and data start. */
export class ErasedBytes {
  readonly #segments = new Map<number, Map<number, RecordBytes>>();
  recordCount = 0;

  add(
    place: { readonly segment: number; readonly dataStart: number; readonly dataLength: number },
    from: number,
    to: number,
  ): void {
    const { segment, dataStart, dataLength } = place;
    let records = this.#segments.get(segment);
    if (records === undefined) {
      records = new Map();
      this.#segments.set(segment, records);
    }
    let record = records.get(dataStart);
    if (record === undefined) {
      if (++this.recordCount > RECORDS_MAX)
        throw new TidemarkError(
          "FAILED_PRECONDITION",
          `the order is about more than ${RECORDS_MAX} writes: erase in parts, one directory or file after the other`,
        );
      record = { dataLength, ranges: new ByteRanges() };
      records.set(dataStart, record);
    }
    record.ranges.add(from, to);
  }

  addExtents(extents: readonly Extent[]): void {
    for (const extent of extents) if (extent.segment !== 0) this.add(extent, extent.skip, extent.skip + extent.length);
  }

  get(segment: number, dataStart: number): RecordBytes | undefined {
    return this.#segments.get(segment)?.get(dataStart);
  }

  hasSegment(segment: number): boolean {
    return this.#segments.has(segment);
  }

  /** The records among these that the extents name any byte of, by name. */
  *touchedBy(extents: readonly Extent[]): Generator<string> {
    for (const { segment, dataStart } of extents)
      if (this.get(segment, dataStart) !== undefined) yield recordName(segment, dataStart);
  }

  /** Makes whole what is there of records, but for those named. */
  widen(except: ReadonlySet<string>): void {
    for (const { segment, dataStart, dataLength, ranges } of this.all())
      if (!except.has(recordName(segment, dataStart))) ranges.add(0, dataLength);
  }

  /** How many bytes of the extents are among these. */
  sharedWith(extents: readonly Extent[]): number {
    let bytes = 0;
    for (const { segment, dataStart, skip, length } of extents) {
      const ranges = this.get(segment, dataStart)?.ranges.within(skip, skip + length) ?? [];
      for (const { from, to } of ranges) bytes += to - from;
    }
    return bytes;
  }

  get bytes(): number {
    let sum = 0;
    for (const { ranges } of this.all()) sum += ranges.bytes;
    return sum;
  }

  get segments(): number[] {
    return [...this.#segments.keys()];
  }

  *all(): Generator<{ readonly segment: number; readonly dataStart: number } & RecordBytes> {
    for (const [segment, records] of this.#segments)
      for (const [dataStart, record] of records) yield { segment, dataStart, ...record };
  }
}
