import { BLOCK_BYTES } from "./blocks.ts";
import { TarError } from "./tar-error.ts";

/** Content that is handed on at a time. */
const PIECE_BYTES_MAX = 1024 * 1024;

/** The bytes of an archive, taken in the sizes that are needed, however they come. Holds no more than one piece of the source beyond what was asked for. */
export class TarSource {
  readonly #pieces: AsyncIterator<Uint8Array>;
  #piece: Buffer = Buffer.alloc(0);
  #offset = 0n;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#pieces = source[Symbol.asyncIterator]();
  }

  /** How many bytes were taken. */
  get offset(): bigint {
    return this.#offset;
  }

  /** The next block; undefined at the end. Throws TAR_DAMAGED for a part of one. */
  async block(): Promise<Buffer | undefined> {
    const block = await this.#upTo(BLOCK_BYTES);
    if (block.length === 0) return undefined;
    if (block.length < BLOCK_BYTES) {
      throw new TarError("TAR_DAMAGED", `the archive is cut off at byte ${this.#offset}, inside of a header`);
    }
    return block;
  }

  /** Exactly `length` bytes, or undefined if there are fewer. `length` is bounded by the caller. */
  async exactly(length: number): Promise<Buffer | undefined> {
    const bytes = await this.#upTo(length);
    return bytes.length < length ? undefined : bytes;
  }

  /** Between 1 and `most` bytes (a bounded piece at a time), valid until the next call; none at the end. */
  async some(most: bigint): Promise<Buffer> {
    if (this.#piece.length === 0 && !(await this.#pull())) return NO_BYTES;
    const least = Math.min(this.#piece.length, PIECE_BYTES_MAX);
    const length = most < BigInt(least) ? Number(most) : least;
    return this.#take(length);
  }

  /** Passes over `bytes`. Answers false when there are fewer. */
  async skip(bytes: bigint): Promise<boolean> {
    for (let left = bytes; left > 0n; ) {
      const piece = await this.some(left);
      if (piece.length === 0) return false;
      left -= BigInt(piece.length);
    }
    return true;
  }

  /** No more is wanted. */
  async close(): Promise<void> {
    await this.#pieces.return?.();
  }

  /** `length` bytes, or what there is before the end. */
  async #upTo(length: number): Promise<Buffer> {
    if (this.#piece.length >= length) return this.#take(length);
    const parts: Buffer[] = [];
    let missing = length;
    while (missing > 0) {
      if (this.#piece.length === 0 && !(await this.#pull())) break;
      const part = this.#take(Math.min(missing, this.#piece.length));
      parts.push(part);
      missing -= part.length;
    }
    return Buffer.concat(parts);
  }

  #take(length: number): Buffer {
    const taken = this.#piece.subarray(0, length);
    this.#piece = this.#piece.subarray(length);
    this.#offset += BigInt(length);
    return taken;
  }

  async #pull(): Promise<boolean> {
    for (;;) {
      const next = await this.#pieces.next();
      if (next.done === true) return false;
      const { buffer, byteOffset, byteLength } = next.value;
      this.#piece = Buffer.from(buffer, byteOffset, byteLength);
      if (byteLength > 0) return true;
    }
  }
}

const NO_BYTES = Buffer.alloc(0);
