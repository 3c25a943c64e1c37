import { ByteReader } from "../../base/bytes.ts";
import { DELETED_VALUE_LENGTH } from "../../journal/record.ts";

// A row as `writeRow` (run-codec.ts) writes it: length of the key, key, length of the value, value.
const KEY_HEAD_BYTES = 2;
const VALUE_HEAD_BYTES = 4;

/** The rows of one block of a run, found in its bytes as they are: a thousand rows take no more memory than their bytes and where each begins. */
export class RunBlockRows {
  readonly #plain: Buffer;
  readonly #starts: Uint32Array;

  /** Throws RangeError for what is no block of `count` rows. */
  constructor(plain: Buffer, count: number) {
    const reader = new ByteReader(plain);
    const starts = new Uint32Array(count);
    for (let index = 0; index < count; index++) {
      starts[index] = reader.offset;
      reader.skip(reader.u16());
      const length = reader.u32();
      if (length !== DELETED_VALUE_LENGTH) reader.skip(length);
    }
    if (reader.remaining > 0) throw new RangeError(`${reader.remaining} bytes are behind the last row of a block`);
    this.#plain = plain;
    this.#starts = starts;
  }

  get count(): number {
    return this.#starts.length;
  }

  get byteLength(): number {
    return this.#plain.length + this.#starts.byteLength;
  }

  /** A view. */
  key(index: number): Buffer {
    const from = this.#keyStart(index);
    return this.#plain.subarray(from, from + this.#keyLength(index));
  }

  /** A view; null: there is no such row any more. */
  value(index: number): Buffer | null {
    const at = this.#keyStart(index) + this.#keyLength(index);
    const length = this.#plain.readUInt32BE(at);
    if (length === DELETED_VALUE_LENGTH) return null;
    return this.#plain.subarray(at + VALUE_HEAD_BYTES, at + VALUE_HEAD_BYTES + length);
  }

  /** Index of the first row whose key is not below `key`; `count`: none. */
  firstAtLeast(key: Buffer): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >> 1;
      const from = this.#keyStart(middle);
      if (this.#plain.compare(key, 0, key.length, from, from + this.#keyLength(middle)) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #keyStart(index: number): number {
    return (this.#starts[index] as number) + KEY_HEAD_BYTES;
  }

  #keyLength(index: number): number {
    return this.#plain.readUInt16BE(this.#starts[index]);
  }
}
