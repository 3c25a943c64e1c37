import { present } from "../../base/assert.ts";
import type { AppObjects } from "../app-objects.ts";
import { asDamage } from "../as-damage.ts";
import { OBJECT_HEADER_BYTES } from "../object-cipher.ts";
import type { Row, RunBlock, RunPart, RunRef } from "./run-codec.ts";
import { readRows } from "./run-codec.ts";
import { indexStart, lastAtMost, type OpenPart, openBlock, openPart, tailStart } from "./run-part.ts";

/** How much of a part is read at once in reading rows in order. */
const READ_BYTES = 1024 * 1024;

/** Indexes kept in memory by one reader, up to 1 MiB each: neighbouring keys are asked for one after the other. */
const INDEXES_KEPT = 4;

export type RowRange = {
  /** First key; without it all from the first. */
  readonly from?: Buffer;
  /** First key not wanted. */
  readonly to?: Buffer;
};

/** Reads a run's rows, in order or one by its key. Everything is verified. Errors: REPOSITORY_DAMAGED (also for what is missing), BlobErrors of the store. */
export class RunReader {
  readonly ref: RunRef;
  readonly #objects: AppObjects;
  readonly #firstKeys: readonly Buffer[];
  // In order of use, the latest last.
  readonly #open = new Map<string, OpenPart>();

  constructor(objects: AppObjects, ref: RunRef) {
    this.#objects = objects;
    this.ref = ref;
    this.#firstKeys = ref.parts.map(({ firstKey }) => Buffer.from(firstKey, "hex"));
  }

  /** The value of `key`; null: deleted as of this run; undefined: this run says nothing of it. Reads an index, unless it is kept, and one block. */
  async get(key: Buffer): Promise<Buffer | null | undefined> {
    const partIndex = lastAtMost(this.#firstKeys, key);
    const part = this.ref.parts[partIndex];
    if (part === undefined) return undefined;
    const open = await this.#openPart(part);
    const block = open.blocks[lastAtMost(open.firstKeys, key)];
    if (block === undefined) return undefined;
    const stored = await this.#objects.readRange(open.name, { from: block.offset, length: block.storedBytes });
    return rowsOf(open, block, stored).find((row) => row.key.equals(key))?.value;
  }

  /** The rows in order, a block at a time. Memory: some 2 MiB stored, and a block. Rows are views of their batch. */
  async *rows({ from, to }: RowRange = {}): AsyncGenerator<readonly Row[], void> {
    const start = from === undefined ? 0 : Math.max(0, lastAtMost(this.#firstKeys, from));
    for (const [index, part] of this.ref.parts.entries()) {
      if (index < start) continue;
      if (to !== undefined && Buffer.compare(present(this.#firstKeys[index], "first key"), to) >= 0) return;
      yield* this.#partRows(await this.#openPart(part), { from, to });
    }
  }

  async *#partRows(
    open: OpenPart,
    { from, to }: { from: Buffer | undefined; to: Buffer | undefined },
  ): AsyncGenerator<readonly Row[], void> {
    const first = from === undefined ? 0 : Math.max(0, lastAtMost(open.firstKeys, from));
    const wanted = open.blocks.filter(
      ({ firstKey }, index) => index >= first && (to === undefined || Buffer.compare(firstKey, to) < 0),
    );
    const groups = groupBlocks(wanted);
    // One group is read ahead while the rows of the one before are used.
    let ahead = this.#readGroup(open, groups[0]);
    for (const [index, group] of groups.entries()) {
      const stored = await ahead;
      ahead = this.#readGroup(open, groups[index + 1]);
      const start = present(group[0], "block of a group").offset;
      for (const block of group) {
        const at = block.offset - start;
        const rows = rowsOf(open, block, stored.subarray(at, at + block.storedBytes));
        const chosen =
          from === undefined && to === undefined ? rows : rows.filter(({ key }) => isWithin(key, { from, to }));
        if (chosen.length > 0) yield chosen;
      }
    }
  }

  #readGroup(open: OpenPart, group: readonly RunBlock[] | undefined): Promise<Buffer> {
    const first = group?.[0];
    if (group === undefined || first === undefined) return Promise.resolve(Buffer.alloc(0));
    const length = group.reduce((sum, block) => sum + block.storedBytes, 0);
    const reading = this.#objects.readRange(open.name, { from: first.offset, length });
    // The reader may be ended before it asks for this.
    reading.catch(() => {});
    return reading;
  }

  async #openPart(part: RunPart): Promise<OpenPart> {
    const open = this.#open.get(part.id) ?? (await readPart(this.#objects, part));
    this.#open.delete(part.id);
    this.#open.set(part.id, open);
    for (const id of this.#open.keys()) {
      if (this.#open.size <= INDEXES_KEPT) break;
      this.#open.delete(id);
    }
    return open;
  }
}

/** Reads header and index of a part. */
async function readPart(objects: AppObjects, part: RunPart): Promise<OpenPart> {
  const name = objects.name("runs", part.id);
  const read = (from: number, length: number): Promise<Buffer> => objects.readRange(name, { from, length });
  const tail = await read(tailStart(part), part.bytes - tailStart(part));
  const start = indexStart(part, name, tail);
  const whole = start < tailStart(part) ? await read(start, part.bytes - start) : tail;
  const header = whole.length === part.bytes ? whole : await read(0, OBJECT_HEADER_BYTES);
  return openPart(objects.keys, { part, name, header, tail: whole });
}

function rowsOf(open: OpenPart, block: RunBlock, stored: Buffer): Row[] {
  const plain = openBlock(open, block, stored);
  return asDamage(open.name, () => readRows(plain, block.rows));
}

/** Neighbouring blocks in groups of about READ_BYTES. */
function groupBlocks(blocks: readonly RunBlock[]): RunBlock[][] {
  const groups: RunBlock[][] = [];
  let bytes = READ_BYTES;
  for (const block of blocks) {
    if (bytes >= READ_BYTES) {
      groups.push([]);
      bytes = 0;
    }
    groups.at(-1)?.push(block);
    bytes += block.storedBytes;
  }
  return groups;
}

function isWithin(key: Buffer, { from, to }: { from: Buffer | undefined; to: Buffer | undefined }): boolean {
  if (from !== undefined && Buffer.compare(key, from) < 0) return false;
  return to === undefined || Buffer.compare(key, to) < 0;
}
