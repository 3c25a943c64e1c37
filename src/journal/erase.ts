import { createHash } from "node:crypto";
import path from "node:path";
import { crc32 } from "node:zlib";
import type { Log } from "../base/log.ts";
import type { AppId } from "../domain/ids.ts";
import { type DataRange, type Erasure, readErasures, writeErasures, zeroErased } from "./erasures.ts";
import type { FileOps } from "./file-ops.ts";
import { nativeCalls } from "./native.ts";
import { BLOCK_BYTES, blockCount, CHECKSUM_BYTES, dataOffset, PREFIX_BYTES, SALT_BYTES } from "./record.ts";
import { damagedBlock, decodePrefix, isFault, type RecordPrefix } from "./record-decoder.ts";
import { segmentName } from "./segment-file.ts";

/** Data to be erased: parts of those that begin at `dataStart` of a segment and are `dataLength` long. */
export type ErasedData = {
  readonly dataStart: number;
  readonly dataLength: number;
  /** In order, apart from each other. */
  readonly ranges: readonly DataRange[];
};

/** A step that was just completed, for tests that stop there. */
export type EraseStep = "noted" | "zeroed" | "synced" | "punched";

/** linux/falloc.h: keep the size, give the blocks back. */
const PUNCH_HOLE = 0x01 | 0x02;

/** Given back are whole blocks of the file system. */
const PAGE_BYTES = 4096;

/** Shorter pieces are not worth the call, nor the pieces that the file is in then. */
const PUNCH_BYTES_MIN = 65_536;

/** Read along with a record's data: the body of most. */
const BODY_BYTES_GUESS = 4096;

/** Zeros written before others have a turn: a few milliseconds. */
const TURN_BYTES = 8 * 1024 * 1024;

const ZEROS = Buffer.alloc(BLOCK_BYTES);

type Where = { readonly folder: string; readonly appId: AppId; readonly segment: number; readonly seed: number };

/**
 * FORMAT.md, "Erasing". In this order, so that whenever it stops every record still verifies, and doing it again goes on:
 * 1  inner hashes, and the checksums of what is left, durably, into the file beside the segment;
 * 2  zeros over the data, their salt; the checksums of what is left over those of before; durably;
 * 3  what is whole blocks of the file system is given back to it.
 */
export async function eraseInSegment(
  where: Where,
  wanted: readonly ErasedData[],
  options: { readonly ops: FileOps; readonly log: Log; readonly onStep?: (step: EraseStep) => void },
): Promise<void> {
  const { ops, log, onStep } = options;
  const fd = ops.open(path.join(where.folder, segmentName(where.segment)), "write");
  try {
    const known = new Map(
      readErasures(where.folder, where.appId, where.segment).map((erasure) => [erasure.position, erasure]),
    );
    const todo: Erasure[] = [];
    let isNew = false;
    for (const data of wanted) {
      const before = known.get(data.dataStart - dataOffset(data.dataLength));
      const erasure = await eraseNote({ ...where, fd, ops, log }, data, before);
      if (erasure === undefined) continue;
      if (erasure !== before) isNew = true;
      known.set(erasure.position, erasure);
      todo.push(erasure);
    }
    if (isNew) await writeErasures(where.folder, where, [...known.values()]);
    onStep?.("noted");
    let bytes = 0;
    for (const erasure of todo) {
      overwrite({ fd, ops }, erasure);
      bytes += erasure.ranges.reduce((sum, { from, to }) => sum + to - from, 0);
      if (bytes < TURN_BYTES) continue;
      bytes = 0;
      await ops.sync(fd);
    }
    onStep?.("zeroed");
    await ops.sync(fd);
    onStep?.("synced");
    if (punchAll(fd, todo)) await ops.sync(fd);
    onStep?.("punched");
  } finally {
    ops.close(fd);
  }
}

type Segment = Where & { readonly fd: number; readonly ops: FileOps; readonly log: Log };

/** What is to be known of a record when its data are gone; `before` if that says all. Undefined: the record's place can't be read any more, so nothing is left of it to be verified. */
async function eraseNote(
  segment: Segment,
  data: ErasedData,
  before: Erasure | undefined,
): Promise<Erasure | undefined> {
  const position = data.dataStart - dataOffset(data.dataLength);
  const ranges = union([...(before?.ranges ?? []), ...data.ranges]);
  if (before !== undefined && sameRanges(before.ranges, ranges)) return before;
  const record = await readRecord(segment, data, position);
  if (record === undefined) {
    const message = "data to be erased are of a record that is damaged: they are overwritten, the record can't be read";
    segment.log.alarm(message, { segment: segment.segment, position });
    return { ...NOTHING_KNOWN, position, dataLength: data.dataLength, ranges };
  }
  const { prefix, bytes: whole } = record;
  const dataAt = dataOffset(prefix.dataLength);
  const table = whole.subarray(PREFIX_BYTES, dataAt);
  const bytes = whole.subarray(dataAt, dataAt + prefix.dataLength);
  const tail = whole.subarray(dataAt + prefix.dataLength);
  const body = tail.subarray(SALT_BYTES);
  if (before !== undefined) {
    // What an earlier order erased may have been cut short.
    zeroErased(bytes, before);
    return { ...before, ranges, blocks: blocksAfter(table, bytes, { ranges, before: before.blocks }) };
  }
  const blocks = blocksAfter(table, bytes, { ranges, before: [] });
  const isBodyDamaged = crc32(tail, crc32(table, segment.seed)) !== prefix.restChecksum;
  if (isBodyDamaged || damagedBlock(table, bytes) >= 0)
    segment.log.alarm("a record was damaged before its data were erased: the chain does not verify there", {
      segment: segment.segment,
      position,
      lsn: prefix.lsn,
    });
  const inner = createHash("sha256").update(tail.subarray(0, SALT_BYTES)).update(table).update(bytes);
  return {
    position,
    lsn: prefix.lsn,
    dataLength: prefix.dataLength,
    inner: inner.digest(),
    bodyChecksum: crc32(body, segment.seed),
    isBodyDamaged,
    ranges,
    blocks,
  };
}

const NOTHING_KNOWN = {
  lsn: 0 as Erasure["lsn"],
  inner: Buffer.alloc(32),
  bodyChecksum: 0,
  isBodyDamaged: true,
  blocks: [],
};

/** Undefined: it has no prefix that verifies. */
async function readRecord(
  { ops, fd, seed }: Segment,
  { dataLength }: ErasedData,
  position: number,
): Promise<{ readonly prefix: RecordPrefix; readonly bytes: Buffer } | undefined> {
  let bytes = Buffer.allocUnsafeSlow(dataOffset(dataLength) + dataLength + SALT_BYTES + BODY_BYTES_GUESS);
  const count = await ops.readLater(fd, bytes, position);
  if (count < PREFIX_BYTES) return undefined;
  const prefix = decodePrefix(bytes, 0, seed);
  if (isFault(prefix) || prefix.dataLength !== dataLength) return undefined;
  if (prefix.length > bytes.length) {
    bytes = Buffer.allocUnsafeSlow(prefix.length);
    await ops.readLater(fd, bytes, position);
  }
  return { prefix, bytes: bytes.subarray(0, prefix.length) };
}

/** The checksums of the blocks that the ranges touch, as they will be. One that doesn't verify now does not then, either. */
function blocksAfter(
  table: Buffer,
  data: Buffer,
  { ranges, before }: { readonly ranges: readonly DataRange[]; readonly before: Erasure["blocks"] },
): Erasure["blocks"] {
  const noted = new Map(before.map(({ index, checksum }) => [index, checksum]));
  const blocks: { index: number; checksum: number }[] = [];
  for (let index = 0; index < blockCount(data.length); index += 1) {
    const from = index * BLOCK_BYTES;
    const to = Math.min(from + BLOCK_BYTES, data.length);
    const within = ranges.filter((range) => range.from < to && range.to > from);
    if (within.length === 0) continue;
    const block = Buffer.from(data.subarray(from, to));
    const isWhole = within[0] !== undefined && within[0].from <= from && within[0].to >= to;
    const wasRight =
      isWhole || crc32(block) === (noted.get(index) ?? table.readUInt32BE(table.length - CHECKSUM_BYTES * (index + 1)));
    for (const range of within) block.fill(0, Math.max(0, range.from - from), Math.min(block.length, range.to - from));
    blocks.push({ index, checksum: wasRight ? crc32(block) : ~crc32(block) >>> 0 });
  }
  return blocks;
}

function overwrite({ fd, ops }: { fd: number; ops: FileOps }, erasure: Erasure): void {
  const { position, dataLength, ranges, blocks } = erasure;
  const dataStart = position + dataOffset(dataLength);
  const put = (bytes: Uint8Array, at: number): void => {
    for (let done = 0; done < bytes.length; ) {
      const count = ops.write(fd, [bytes.subarray(done)], at + done);
      if (count === 0) throw Object.assign(new Error("ENOSPC: nothing was written"), { code: "ENOSPC" });
      done += count;
    }
  };
  for (const { from, to } of ranges)
    for (let at = from; at < to; at += BLOCK_BYTES)
      put(ZEROS.subarray(0, Math.min(BLOCK_BYTES, to - at)), dataStart + at);
  put(ZEROS.subarray(0, SALT_BYTES), dataStart + dataLength);
  const checksum = Buffer.alloc(CHECKSUM_BYTES);
  for (const { index, checksum: value } of blocks) {
    checksum.writeUInt32BE(value);
    put(checksum, dataStart - CHECKSUM_BYTES * (index + 1));
  }
}

/** Answers whether anything was given back. Zeros are there either way: where this can't be done nothing is lost but room. */
function punchAll(fd: number, erased: readonly Erasure[]): boolean {
  const native = nativeCalls();
  if (native === undefined) return false;
  let any = false;
  for (const { position, dataLength, ranges } of erased) {
    const dataStart = position + dataOffset(dataLength);
    for (const { from, to } of ranges) {
      const start = Math.ceil((dataStart + from) / PAGE_BYTES) * PAGE_BYTES;
      const end = Math.floor((dataStart + to) / PAGE_BYTES) * PAGE_BYTES;
      if (end - start >= PUNCH_BYTES_MIN && native.fallocate(fd, PUNCH_HOLE, start, end - start) === 0) any = true;
    }
  }
  return any;
}

/** In order, without overlaps, neighbours joined. */
function union(ranges: readonly DataRange[]): DataRange[] {
  const merged: { from: number; to: number }[] = [];
  for (const range of [...ranges].sort((left, right) => left.from - right.from)) {
    const last = merged.at(-1);
    if (last !== undefined && range.from <= last.to) last.to = Math.max(last.to, range.to);
    else merged.push({ ...range });
  }
  return merged;
}

function sameRanges(left: readonly DataRange[], right: readonly DataRange[]): boolean {
  return (
    left.length === right.length &&
    left.every(({ from, to }, index) => from === right[index]?.from && to === right[index]?.to)
  );
}
