import { assert } from "./assert.ts";

const TWO_32 = 0x1_0000_0000;

/** Writes `value` (an unsigned safe integer) as 8 bytes, big endian. Returns the offset after it. */
export function writeU64Be(buffer: Buffer, value: number, offset: number): number {
  assert(Number.isSafeInteger(value) && value >= 0, "u64 out of the safe range");
  buffer.writeUInt32BE(Math.floor(value / TWO_32), offset);
  return buffer.writeUInt32BE(value >>> 0, offset + 4);
}

/** Reads 8 bytes, big endian, as a safe integer. Throws RangeError when the value is above 2^53-1. */
export function readU64Be(buffer: Buffer, offset: number): number {
  const high = buffer.readUInt32BE(offset);
  if (high > 0x1f_ffff) throw new RangeError(`64-bit value at byte ${offset} is above 2^53-1`);
  return high * TWO_32 + buffer.readUInt32BE(offset + 4);
}

/** Writes an unsigned integer below 2^40 as 5 bytes, big endian. Returns the offset after it. */
export function writeU40Be(buffer: Buffer, value: number, offset: number): number {
  assert(Number.isSafeInteger(value) && value >= 0 && value < 2 ** 40, "u40 out of range");
  buffer[offset] = Math.floor(value / TWO_32);
  return buffer.writeUInt32BE(value >>> 0, offset + 1);
}

/** Reads 5 bytes, big endian. */
export function readU40Be(buffer: Buffer, offset: number): number {
  return buffer.readUInt8(offset) * TWO_32 + buffer.readUInt32BE(offset + 1);
}

/** A growing byte buffer with fixed-width little helpers; everything big endian, so that encoded keys sort like their numbers. */
export class ByteWriter {
  #buffer: Buffer;
  #length = 0;

  constructor(capacityBytes = 256) {
    this.#buffer = Buffer.allocUnsafe(capacityBytes);
  }

  get length(): number {
    return this.#length;
  }

  /** Forgets what was written; the memory is used again. */
  reset(): void {
    this.#length = 0;
  }

  u8(value: number): this {
    const at = this.#grow(1);
    this.#buffer.writeUInt8(value, at);
    return this;
  }

  u16(value: number): this {
    const at = this.#grow(2);
    this.#buffer.writeUInt16BE(value, at);
    return this;
  }

  u32(value: number): this {
    const at = this.#grow(4);
    this.#buffer.writeUInt32BE(value, at);
    return this;
  }

  u40(value: number): this {
    const at = this.#grow(5);
    writeU40Be(this.#buffer, value, at);
    return this;
  }

  /** An unsigned safe integer in 8 bytes. */
  u64(value: number): this {
    const at = this.#grow(8);
    writeU64Be(this.#buffer, value, at);
    return this;
  }

  /** An exact unsigned 64-bit value. */
  big64(value: bigint): this {
    const at = this.#grow(8);
    this.#buffer.writeBigUInt64BE(value, at);
    return this;
  }

  /** A signed safe integer in 8 bytes, two's complement. */
  i64(value: number): this {
    assert(Number.isSafeInteger(value), "i64 out of the safe range");
    const at = this.#grow(8);
    this.#buffer.writeInt32BE(Math.floor(value / TWO_32), at);
    this.#buffer.writeUInt32BE(value >>> 0, at + 4);
    return this;
  }

  bytes(value: Uint8Array): this {
    const at = this.#grow(value.length);
    this.#buffer.set(value, at);
    return this;
  }

  /** A length (u32) and that many bytes. */
  sized(value: Uint8Array): this {
    return this.u32(value.length).bytes(value);
  }

  /** Patches an earlier u32. */
  patchU32(offset: number, value: number): void {
    assert(offset + 4 <= this.#length, "patch past the end");
    this.#buffer.writeUInt32BE(value, offset);
  }

  /** A copy of what was written. */
  finish(): Buffer {
    return Buffer.from(this.#buffer.subarray(0, this.#length));
  }

  /** What was written, without copying: valid until the next write or reset. */
  view(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  /** Makes room and answers where. May replace the buffer: call it before naming that. */
  #grow(bytes: number): number {
    const at = this.#length;
    this.#length = at + bytes;
    if (this.#length > this.#buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.#length, this.#buffer.length * 2));
      this.#buffer.copy(larger, 0, 0, at);
      this.#buffer = larger;
    }
    return at;
  }
}

/** Reads what `ByteWriter` wrote. Every read past the end throws RangeError: foreign bytes never crash anything else. */
export class ByteReader {
  readonly #buffer: Buffer;
  #offset: number;

  constructor(buffer: Buffer, offset = 0) {
    this.#buffer = buffer;
    this.#offset = offset;
  }

  get offset(): number {
    return this.#offset;
  }

  get remaining(): number {
    return this.#buffer.length - this.#offset;
  }

  u8(): number {
    return this.#buffer.readUInt8(this.#take(1));
  }

  u16(): number {
    return this.#buffer.readUInt16BE(this.#take(2));
  }

  u32(): number {
    return this.#buffer.readUInt32BE(this.#take(4));
  }

  u40(): number {
    return readU40Be(this.#buffer, this.#take(5));
  }

  u64(): number {
    return readU64Be(this.#buffer, this.#take(8));
  }

  big64(): bigint {
    return this.#buffer.readBigUInt64BE(this.#take(8));
  }

  i64(): number {
    const at = this.#take(8);
    const value = this.#buffer.readInt32BE(at) * TWO_32 + this.#buffer.readUInt32BE(at + 4);
    if (!Number.isSafeInteger(value))
      throw new RangeError(`signed 64-bit value at byte ${at} is outside the safe range`);
    return value;
  }

  /** Passes over the next `length` bytes. */
  skip(length: number): void {
    this.#take(length);
  }

  /** A view of the next `length` bytes, not a copy. */
  bytes(length: number): Buffer {
    const at = this.#take(length);
    return this.#buffer.subarray(at, at + length);
  }

  sized(): Buffer {
    return this.bytes(this.u32());
  }

  #take(bytes: number): number {
    const at = this.#offset;
    if (bytes > this.#buffer.length - at)
      throw new RangeError(`truncated: ${bytes} bytes wanted at ${at} of ${this.#buffer.length}`);
    this.#offset = at + bytes;
    return at;
  }
}
