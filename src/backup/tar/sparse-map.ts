import { BLOCK_BYTES, paddingOf } from "./blocks.ts";
import type { RangeList } from "./range-list.ts";

/** Text of a map that is made at a time. */
const PIECE_BYTES = 64 * 1024;

/**
 * The map of GNU's sparse format 1.0 (GNU tar manual, "Storing Sparse Files"), which is the beginning of the member's content: in decimal, a line each, how many ranges there are, then
 * offset and length of each; zeros up to the next block. A hole at the end is told by an empty range at the size.
 */
export class SparseMap {
  readonly #ranges: RangeList;
  readonly #size: bigint;
  readonly #textBytes: number;

  constructor(ranges: RangeList, size: bigint) {
    this.#ranges = ranges;
    this.#size = size;
    let bytes = 0;
    for (const line of this.#lines()) bytes += line.length;
    this.#textBytes = bytes;
  }

  /** Bytes of the map, a whole number of blocks. */
  get bytes(): number {
    return this.#textBytes + paddingOf(BigInt(this.#textBytes));
  }

  /** The map in pieces. */
  *pieces(): Generator<Buffer> {
    let text = "";
    for (const line of this.#lines()) {
      text += line;
      if (text.length < PIECE_BYTES) continue;
      yield Buffer.from(text, "latin1");
      text = "";
    }
    if (text !== "") yield Buffer.from(text, "latin1");
    const padding = this.bytes - this.#textBytes;
    if (padding > 0) yield Buffer.alloc(Math.min(padding, BLOCK_BYTES));
  }

  *#lines(): Generator<string> {
    const { count } = this.#ranges;
    const last = count === 0 ? undefined : this.#ranges.at(count - 1);
    const endsInHole = last === undefined || last.offset + last.length < this.#size;
    yield `${count + (endsInHole ? 1 : 0)}\n`;
    for (const { offset, length } of this.#ranges) yield `${offset}\n${length}\n`;
    if (endsInHole) yield `${this.#size}\n0\n`;
  }
}
