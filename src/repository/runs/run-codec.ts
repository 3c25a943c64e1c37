import { assert } from "../../base/assert.ts";
import { ByteReader, type ByteWriter } from "../../base/bytes.ts";
import { DELETED_VALUE_LENGTH, type RowOp } from "../../journal/record.ts";
import { JsonFields } from "../json-fields.ts";
import { FRAME_PIECE_BYTES_MAX } from "../object-codec.ts";

// FORMAT.md, "Runs and checkpoints".

/** A row of a run. null: the key has no row any more. */
export type Row = RowOp;

/** Rows in ascending order of keys, in batches of any size. */
export type RowBatches = Iterable<readonly Row[]> | AsyncIterable<readonly Row[]>;

/** One object of a run. */
export type RunPart = {
  /** 128 bits as hex: its name in `runs/`. */
  readonly id: string;
  readonly rows: number;
  readonly bytes: number;
  /** As hex. */
  readonly firstKey: string;
};

/** A run as a checkpoint names it: objects in order of keys. */
export type RunRef = {
  /** How large it is, as a power of 8: see `planMerge`. */
  readonly level: number;
  readonly rows: number;
  readonly bytes: number;
  readonly parts: readonly RunPart[];
};

/** A block as the index has it. */
export type RunBlock = {
  readonly offset: number;
  readonly storedBytes: number;
  readonly rows: number;
  readonly firstKey: Buffer;
};

/** A block is closed when its plain text has this much: what one reads to get one row. */
export const BLOCK_BYTES_TARGET = 64 * 1024;

/** A part is closed at this length: it is held in memory until it is put. A run of any length is many of them. */
export const PART_BYTES_TARGET = 32 * 1024 * 1024;

/** The index is one frame. */
export const INDEX_BYTES_MAX = FRAME_PIECE_BYTES_MAX;

/** Most parts of one run: 2 TiB of rows. Bounds what a reader believes. */
const PARTS_MAX = 65_536;

const KEY_BYTES_MAX = 0xffff;
const ID_BYTES = 16;
const INDEX_ENTRY_BYTES = 4 + 4 + 2;

/** Length of a row in a block. */
export function rowBytes({ key, value }: Row): number {
  return 2 + key.length + 4 + (value?.length ?? 0);
}

/** Adds a row to a block. */
export function writeRow(writer: ByteWriter, { key, value }: Row): void {
  assert(key.length <= KEY_BYTES_MAX, "the key of a row is too long");
  writer.u16(key.length).bytes(key);
  if (value === null) writer.u32(DELETED_VALUE_LENGTH);
  else writer.sized(value);
}

/** The rows of a block; views of it. Throws RangeError for what is no block. */
export function readRows(plain: Buffer, count: number): Row[] {
  const reader = new ByteReader(plain);
  const rows: Row[] = [];
  for (let index = 0; index < count; index++) {
    const key = reader.bytes(reader.u16());
    const length = reader.u32();
    rows.push({ key, value: length === DELETED_VALUE_LENGTH ? null : reader.bytes(length) });
  }
  if (reader.remaining > 0) throw new RangeError(`${reader.remaining} bytes are behind the last row of a block`);
  return rows;
}

/** Length of a block's entry in the index. */
export function indexEntryBytes(firstKey: Buffer): number {
  return INDEX_ENTRY_BYTES + firstKey.length;
}

/** Adds a block to the index. */
export function writeIndexEntry(writer: ByteWriter, block: RunBlock): void {
  writer.u32(block.storedBytes).u32(block.rows).u16(block.firstKey.length).bytes(block.firstKey);
}

/** Reads an index: blocks back to back from `start`, up to `end`. Throws RangeError. */
export function readIndex(plain: Buffer, { start, end }: { start: number; end: number }): RunBlock[] {
  const reader = new ByteReader(plain);
  const blocks: RunBlock[] = [];
  let offset = start;
  while (reader.remaining > 0) {
    const storedBytes = reader.u32();
    const rows = reader.u32();
    const firstKey = Buffer.from(reader.bytes(reader.u16()));
    const before = blocks.at(-1);
    if (storedBytes === 0 || rows === 0) throw new RangeError("the index names an empty block");
    if (before !== undefined && Buffer.compare(before.firstKey, firstKey) >= 0)
      throw new RangeError("the blocks of the index are out of order");
    blocks.push({ offset, storedBytes, rows, firstKey });
    offset += storedBytes;
  }
  if (offset !== end) throw new RangeError(`the blocks of the index end at byte ${offset}, not at ${end}`);
  return blocks;
}

/** Reads a run's reference out of a checkpoint. Throws RangeError. */
export function readRunRef(value: unknown): RunRef {
  const fields = new JsonFields(value);
  const parts = fields.list("parts", PARTS_MAX).map(readPart);
  const ref = { level: fields.count("level"), rows: fields.count("rows"), bytes: fields.count("bytes"), parts };
  const rows = parts.reduce((sum, part) => sum + part.rows, 0);
  const bytes = parts.reduce((sum, part) => sum + part.bytes, 0);
  if (rows !== ref.rows || bytes !== ref.bytes) throw new RangeError("a run is not the sum of its parts");
  return ref;
}

function readPart(value: unknown): RunPart {
  const fields = new JsonFields(value);
  const id = fields.hex("id", ID_BYTES);
  return { id, rows: fields.count("rows"), bytes: fields.count("bytes"), firstKey: fields.hex("firstKey") };
}
