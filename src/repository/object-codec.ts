import { randomFillSync } from "node:crypto";
import { assert } from "../base/assert.ts";
import type { AppKeys } from "./app-keys.ts";
import { compress, framePlain, unpackFrame } from "./compression.ts";
import type { RandomFill } from "./key-wrap.ts";
import {
  decodeObjectHeader,
  encodeObjectHeader,
  FRAME_TAG_BYTES,
  OBJECT_HEADER_BYTES,
  OBJECT_SALT_BYTES,
  ObjectCipher,
  type ObjectKind,
  type ObjectRef,
} from "./object-cipher.ts";
import { damagedObject } from "./object-errors.ts";
import { encodeTrailer, hasTrailer, OBJECT_TRAILER_BYTES, readTrailer } from "./object-trailer.ts";

// FORMAT.md, "Object": all kinds but packs.

/** Most bytes in one frame: what a reader holds at once. */
export const FRAME_PIECE_BYTES_MAX = 1024 * 1024;

/** Bytes of the length in front of a frame. Its highest bit is set on the last frame. */
export const FRAME_LENGTH_BYTES = 4;

const LAST_BIT = 0x8000_0000;
const SEALED_BYTES_MAX = FRAME_PIECE_BYTES_MAX + 1 + FRAME_TAG_BYTES;

/** These objects are rows and JSON, a few per cent of the repository: level 3 makes them a tenth smaller than level 1. */
const LEVEL = 3;

/** Kinds that this file writes. */
export type FramedKind = Exclude<ObjectKind, "pack">;
export type FramedRef = ObjectRef & { readonly kind: FramedKind };

/** A whole object of `plain`, any length of it, as parts to put one after the other. */
export function sealObject(
  keys: AppKeys,
  ref: FramedRef,
  plain: readonly Uint8Array[],
  options: { readonly fill?: RandomFill } = {},
): Buffer[] {
  const writer = new ObjectWriter(keys, ref, options);
  const pieces = [...piecesOf(plain)];
  const last = pieces.pop() ?? Buffer.alloc(0);
  return [writer.start(), ...pieces.flatMap((piece) => writer.frame(piece)), ...writer.frame(last, { last: true })];
}

/** The plain text of a whole object, verified to its end. Throws REPOSITORY_DAMAGED, also if it is longer than `plainBytesMax`; REPOSITORY_NEWER. */
export function openObject(
  keys: AppKeys,
  ref: FramedRef,
  bytes: Buffer,
  options: { readonly plainBytesMax: number },
): Buffer {
  const parser = new FrameParser(keys, ref);
  const pieces: Buffer[] = [];
  let length = 0;
  for (const piece of parser.push(bytes)) {
    pieces.push(piece);
    length += piece.length;
    if (length > options.plainBytesMax)
      throw damagedObject(ref.name, `it holds more than ${options.plainBytesMax} bytes, the most for its kind`);
  }
  parser.end();
  const only = pieces.length === 1 ? pieces[0] : undefined;
  return only ?? Buffer.concat(pieces, length);
}

/**
 * Reads an object as its bytes come: each frame's plain text, verified, as soon as it is there. Memory: one frame and one of `chunks`. When it ends, the object was
 * whole; until then later frames may still be missing. Throws as `openObject`.
 */
export async function* openFrames(
  keys: AppKeys,
  ref: FramedRef,
  chunks: AsyncIterable<Buffer> | Iterable<Buffer>,
): AsyncGenerator<Buffer, void> {
  const parser = new FrameParser(keys, ref);
  for await (const chunk of chunks) yield* parser.push(chunk);
  parser.end();
}

/** Writes an object frame by frame: `start`, frames, the last of them marked. The parts that are returned make up the object. */
export class ObjectWriter {
  readonly #ref: FramedRef;
  readonly #salt = Buffer.alloc(OBJECT_SALT_BYTES);
  readonly #cipher: ObjectCipher;
  #offset = 0;
  #ended = false;

  constructor(keys: AppKeys, ref: FramedRef, options: { readonly fill?: RandomFill } = {}) {
    (options.fill ?? randomFillSync)(this.#salt);
    this.#ref = ref;
    this.#cipher = new ObjectCipher(keys, ref, this.#salt);
  }

  /** Bytes so far: where the next frame begins. With that and the length of its parts a frame can be read by itself. */
  get offset(): number {
    return this.#offset;
  }

  /** The header. Comes first. */
  start(): Buffer {
    assert(this.#offset === 0, "an object has one header");
    this.#offset = OBJECT_HEADER_BYTES;
    return encodeObjectHeader(this.#ref.kind, this.#salt);
  }

  /** A frame of `piece`, at most FRAME_PIECE_BYTES_MAX. The last one may be empty; runs get their trailer behind it. */
  frame(piece: Uint8Array, options: { readonly last?: boolean } = {}): Buffer[] {
    assert(this.#offset > 0 && !this.#ended, "frames stand between the header and the last frame");
    assert(piece.length <= FRAME_PIECE_BYTES_MAX, "the piece is too long for a frame");
    const last = options.last === true;
    const plain = framePlain(compress(piece, LEVEL), piece.length);
    const sealedBytes = plain[0].length + plain[1].length + FRAME_TAG_BYTES;
    const length = Buffer.alloc(FRAME_LENGTH_BYTES);
    length.writeUInt32BE(last ? sealedBytes + LAST_BIT : sealedBytes);
    const parts = [length, ...this.#cipher.seal(plain, { offset: this.#offset + FRAME_LENGTH_BYTES, last })];
    if (last && hasTrailer(this.#ref.kind)) parts.push(encodeTrailer(FRAME_LENGTH_BYTES + sealedBytes));
    this.#offset += FRAME_LENGTH_BYTES + sealedBytes;
    this.#ended = last;
    return parts;
  }
}

/** Opens single frames of an object, in any order: for runs, of which a reader wants a few blocks. */
export class ObjectOpener {
  readonly #ref: FramedRef;
  readonly #cipher: ObjectCipher;

  /** `header`: the object's first OBJECT_HEADER_BYTES, or more. Throws REPOSITORY_DAMAGED, REPOSITORY_NEWER. */
  constructor(keys: AppKeys, ref: FramedRef, header: Buffer) {
    this.#ref = ref;
    this.#cipher = new ObjectCipher(keys, ref, decodeObjectHeader(ref, header));
  }

  /** What is in the frame `stored` (as `ObjectWriter.frame` made it, without a trailer) that begins at `offset`. Throws REPOSITORY_DAMAGED. */
  frame(stored: Buffer, at: { readonly offset: number; readonly last: boolean }): Buffer {
    const { sealedBytes, last } = readFrameLength(this.#ref, stored, at.offset);
    if (stored.length !== FRAME_LENGTH_BYTES + sealedBytes || last !== at.last) {
      throw damagedObject(this.#ref.name, `the frame at byte ${at.offset} is not the one that was expected there`);
    }
    return openFrame(this.#ref, this.#cipher, stored.subarray(FRAME_LENGTH_BYTES), at);
  }
}

/** Cuts bytes that arrive in any pieces into frames. */
class FrameParser {
  readonly #keys: AppKeys;
  readonly #ref: FramedRef;
  #cipher: ObjectCipher | undefined;
  // What has come and was not used; it begins at #offset of the object.
  #rest: Buffer = Buffer.alloc(0);
  #offset = 0;
  #lastFrameBytes: number | undefined;

  constructor(keys: AppKeys, ref: FramedRef) {
    this.#keys = keys;
    this.#ref = ref;
  }

  *push(bytes: Buffer): Generator<Buffer, void> {
    this.#rest = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    for (;;) {
      if (this.#cipher === undefined) {
        if (this.#rest.length < OBJECT_HEADER_BYTES) return;
        const header = this.#take(OBJECT_HEADER_BYTES);
        this.#cipher = new ObjectCipher(this.#keys, this.#ref, decodeObjectHeader(this.#ref, header));
      }
      if (this.#lastFrameBytes !== undefined) {
        if (this.#rest.length > OBJECT_TRAILER_BYTES) throw this.#surplus();
        return;
      }
      if (this.#rest.length < FRAME_LENGTH_BYTES) return;
      const offset = this.#offset;
      const { sealedBytes, last } = readFrameLength(this.#ref, this.#rest, offset);
      if (this.#rest.length < FRAME_LENGTH_BYTES + sealedBytes) return;
      const stored = this.#take(FRAME_LENGTH_BYTES + sealedBytes);
      if (last) this.#lastFrameBytes = stored.length;
      yield openFrame(this.#ref, this.#cipher, stored.subarray(FRAME_LENGTH_BYTES), { offset, last });
    }
  }

  /** Throws unless everything came. */
  end(): void {
    if (this.#lastFrameBytes === undefined) {
      throw damagedObject(this.#ref.name, `it is cut off after ${this.#offset + this.#rest.length} bytes`);
    }
    if (!hasTrailer(this.#ref.kind)) {
      if (this.#rest.length > 0) throw this.#surplus();
      return;
    }
    if (readTrailer(this.#rest, this.#ref) !== this.#lastFrameBytes) {
      throw damagedObject(this.#ref.name, "its trailer does not name its last frame");
    }
  }

  #take(length: number): Buffer {
    const taken = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(length);
    this.#offset += length;
    return taken;
  }

  #surplus(): Error {
    return damagedObject(this.#ref.name, `there are bytes behind its end at byte ${this.#offset}`);
  }
}

function readFrameLength(ref: ObjectRef, stored: Buffer, offset: number): { sealedBytes: number; last: boolean } {
  if (stored.length < FRAME_LENGTH_BYTES) throw damagedObject(ref.name, `it is cut off at byte ${offset}`);
  const field = stored.readUInt32BE(0);
  const last = field >= LAST_BIT;
  const sealedBytes = last ? field - LAST_BIT : field;
  if (sealedBytes <= FRAME_TAG_BYTES || sealedBytes > SEALED_BYTES_MAX) {
    throw damagedObject(ref.name, `the frame at byte ${offset} claims ${sealedBytes} bytes`);
  }
  return { sealedBytes, last };
}

/** `offset` is that of the frame's length; `sealed` what follows it. */
function openFrame(
  ref: ObjectRef,
  cipher: ObjectCipher,
  sealed: Buffer,
  at: { readonly offset: number; readonly last: boolean },
): Buffer {
  const plain = cipher.open(sealed, { offset: at.offset + FRAME_LENGTH_BYTES, last: at.last });
  try {
    return unpackFrame(plain, FRAME_PIECE_BYTES_MAX);
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw damagedObject(ref.name, `${cause.message} (at byte ${at.offset})`, { cause });
  }
}

/** `parts` cut and joined into pieces that fill a frame, but for the last. */
function* piecesOf(parts: readonly Uint8Array[]): Generator<Uint8Array, void> {
  let waiting: Uint8Array[] = [];
  let waitingBytes = 0;
  for (const part of parts) {
    for (let from = 0; from < part.length; ) {
      const taken = part.subarray(from, from + FRAME_PIECE_BYTES_MAX - waitingBytes);
      waiting.push(taken);
      waitingBytes += taken.length;
      from += taken.length;
      if (waitingBytes < FRAME_PIECE_BYTES_MAX) continue;
      yield join(waiting, waitingBytes);
      waiting = [];
      waitingBytes = 0;
    }
  }
  if (waitingBytes > 0) yield join(waiting, waitingBytes);
}

function join(parts: readonly Uint8Array[], length: number): Uint8Array {
  const only = parts.length === 1 ? parts[0] : undefined;
  return only ?? Buffer.concat(parts, length);
}
