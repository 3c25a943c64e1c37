import { assert } from "../../src/base/assert.ts";

/** A run of written bytes. Bytes between pieces are a hole and read as zeros. */
export type Piece = { readonly offset: bigint; readonly bytes: Buffer };

/** What a file holds: pieces in ascending order that do not overlap. Immutable, so that a copy of the past costs nothing. */
export type Content = readonly Piece[];

export const EMPTY_CONTENT: Content = [];

export const larger = (left: bigint, right: bigint): bigint => (left > right ? left : right);
export const smaller = (left: bigint, right: bigint): bigint => (left < right ? left : right);

const endOf = (piece: Piece): bigint => piece.offset + BigInt(piece.bytes.length);

/** Bytes in pieces. */
export const writtenBytes = (content: Content): bigint =>
  content.reduce((sum, piece) => sum + BigInt(piece.bytes.length), 0n);

/** `content` with a hole in [from, to). */
export function punched(content: Content, from: bigint, to: bigint): Content {
  const result: Piece[] = [];
  for (const piece of content) {
    if (endOf(piece) <= from || piece.offset >= to) {
      result.push(piece);
      continue;
    }
    if (piece.offset < from) {
      result.push({ offset: piece.offset, bytes: piece.bytes.subarray(0, Number(from - piece.offset)) });
    }
    if (endOf(piece) > to) result.push({ offset: to, bytes: piece.bytes.subarray(Number(to - piece.offset)) });
  }
  return result;
}

/** `content` with `pieces` in place of whatever was in [from, to). */
export function replaced(
  content: Content,
  range: { readonly from: bigint; readonly to: bigint; readonly by: Content },
): Content {
  const rest = punched(content, range.from, range.to);
  const before = rest.filter((piece) => piece.offset < range.from);
  return [...before, ...range.by, ...rest.slice(before.length)];
}

/** The pieces inside [from, to), clipped to it. */
export function clipped(content: Content, from: bigint, to: bigint): Content {
  const result: Piece[] = [];
  for (const piece of content) {
    const start = larger(piece.offset, from);
    const end = smaller(endOf(piece), to);
    if (start >= end) continue;
    result.push({
      offset: start,
      bytes: piece.bytes.subarray(Number(start - piece.offset), Number(end - piece.offset)),
    });
  }
  return result;
}

/** `length` bytes at `offset`, zeros in holes. The caller has clipped the range to the file's size. */
export function readContent(content: Content, offset: bigint, length: number): Buffer {
  assert(length >= 0, "negative length");
  const result = Buffer.alloc(length);
  for (const piece of clipped(content, offset, offset + BigInt(length))) {
    piece.bytes.copy(result, Number(piece.offset - offset));
  }
  return result;
}

/** The first byte in [from, to) that does not read as zero, or undefined: it may not be called a hole. */
export function firstNonZero(content: Content, from: bigint, to: bigint): bigint | undefined {
  for (const piece of clipped(content, from, to)) {
    const index = piece.bytes.findIndex((byte) => byte !== 0);
    if (index >= 0) return piece.offset + BigInt(index);
  }
  return undefined;
}
