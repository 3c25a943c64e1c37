import { assert } from "../../base/assert.ts";
import { ByteWriter } from "../../base/bytes.ts";
import type { AppObjects } from "../app-objects.ts";
import { FRAME_PIECE_BYTES_MAX, ObjectWriter } from "../object-codec.ts";
import { levelOf } from "./plan-merge.ts";
import {
  BLOCK_BYTES_TARGET,
  INDEX_BYTES_MAX,
  indexEntryBytes,
  PART_BYTES_TARGET,
  type Row,
  type RowBatches,
  type RunPart,
  type RunRef,
  writeIndexEntry,
  writeRow,
} from "./run-codec.ts";

export type RunWriterOptions = {
  /** For tests: smaller parts and blocks. */
  readonly partBytesTarget?: number;
  readonly blockBytesTarget?: number;
};

/** Writes `rows`, whose keys ascend strictly, as a run. Memory: one part. When it fails, parts that nothing names may be left. Errors: those of `BlobStore.put`. */
export async function writeRun(objects: AppObjects, rows: RowBatches, options: RunWriterOptions = {}): Promise<RunRef> {
  const writer = new RunWriter(objects, options);
  for await (const batch of rows) await writer.add(batch);
  return await writer.finish();
}

class RunWriter {
  readonly #objects: AppObjects;
  readonly #partBytesTarget: number;
  readonly #blockBytesTarget: number;
  readonly #parts: RunPart[] = [];
  #part: PartWriter | undefined;
  #lastKey: Buffer | undefined;

  constructor(objects: AppObjects, options: RunWriterOptions) {
    this.#objects = objects;
    this.#partBytesTarget = options.partBytesTarget ?? PART_BYTES_TARGET;
    this.#blockBytesTarget = options.blockBytesTarget ?? BLOCK_BYTES_TARGET;
  }

  async add(rows: readonly Row[]): Promise<void> {
    for (const row of rows) {
      assert(this.#lastKey === undefined || Buffer.compare(this.#lastKey, row.key) < 0, "the rows of a run ascend");
      if (this.#part?.isFull(row.key) === true) await this.#putPart();
      this.#part ??= new PartWriter(this.#objects, {
        bytes: this.#partBytesTarget,
        blockBytes: this.#blockBytesTarget,
      });
      this.#part.add(row);
      this.#lastKey = row.key;
    }
    // The batch's memory may be used again when this returns.
    if (this.#lastKey !== undefined) this.#lastKey = Buffer.from(this.#lastKey);
  }

  async finish(): Promise<RunRef> {
    await this.#putPart();
    const bytes = this.#parts.reduce((sum, part) => sum + part.bytes, 0);
    const rows = this.#parts.reduce((sum, part) => sum + part.rows, 0);
    return { level: levelOf(bytes), rows, bytes, parts: this.#parts };
  }

  async #putPart(): Promise<void> {
    const part = this.#part;
    if (part === undefined) return;
    this.#part = undefined;
    const body = part.finish();
    const bytes = await this.#objects.putSealed(part.name, body);
    this.#parts.push({ id: part.id, rows: part.rows, bytes, firstKey: part.firstKey.toString("hex") });
  }
}

/** One object of a run. */
class PartWriter {
  readonly id: string;
  readonly name: string;
  rows = 0;
  firstKey: Buffer = Buffer.alloc(0);
  readonly #targets: { readonly bytes: number; readonly blockBytes: number };
  readonly #writer: ObjectWriter;
  readonly #body: Buffer[] = [];
  readonly #index = new ByteWriter(65_536);
  readonly #block: ByteWriter;
  #blockRows = 0;
  #blockFirstKey: Buffer = Buffer.alloc(0);

  constructor(objects: AppObjects, targets: { readonly bytes: number; readonly blockBytes: number }) {
    this.id = objects.randomText();
    this.name = objects.name("runs", this.id);
    this.#targets = targets;
    this.#writer = new ObjectWriter(objects.keys, { kind: "run", name: this.name }, { fill: objects.fill });
    this.#body.push(this.#writer.start());
    this.#block = new ByteWriter(2 * targets.blockBytes);
  }

  /** Whether the row with `key` belongs into the next part. */
  isFull(key: Buffer): boolean {
    if (this.#blockRows > 0) return false;
    return this.#writer.offset >= this.#targets.bytes || this.#index.length + indexEntryBytes(key) > INDEX_BYTES_MAX;
  }

  add(row: Row): void {
    if (this.#blockRows === 0) this.#blockFirstKey = Buffer.from(row.key);
    if (this.rows === 0) this.firstKey = this.#blockFirstKey;
    writeRow(this.#block, row);
    this.#blockRows++;
    this.rows++;
    if (this.#block.length >= this.#targets.blockBytes) this.#closeBlock();
  }

  /** The object's bytes. */
  finish(): readonly Buffer[] {
    this.#closeBlock();
    this.#body.push(...this.#writer.frame(this.#index.view(), { last: true }));
    return this.#body;
  }

  #closeBlock(): void {
    if (this.#blockRows === 0) return;
    const offset = this.#writer.offset;
    const plain = this.#block.view();
    for (let from = 0; from < plain.length; from += FRAME_PIECE_BYTES_MAX)
      this.#body.push(...this.#writer.frame(plain.subarray(from, from + FRAME_PIECE_BYTES_MAX)));
    const storedBytes = this.#writer.offset - offset;
    writeIndexEntry(this.#index, { offset, storedBytes, rows: this.#blockRows, firstKey: this.#blockFirstKey });
    this.#block.reset();
    this.#blockRows = 0;
  }
}
