import type { Piece } from "./space-rows.ts";

/** Pieces of a relocation with `piece` in place of what was there of its bytes, in order. The array given may be the one answered. */
export function withPiece(pieces: Piece[], piece: Piece): Piece[] {
  const end = piece.skip + piece.length;
  const last = pieces.at(-1);
  // The usual case, data that was not moved before, comes in order.
  if (last === undefined || last.skip + last.length <= piece.skip) {
    pieces.push(piece);
    return pieces;
  }
  const others = pieces.flatMap((other) => {
    const otherEnd = other.skip + other.length;
    if (otherEnd <= piece.skip || other.skip >= end) return [other];
    const kept: Piece[] = [];
    if (other.skip < piece.skip) kept.push({ ...other, length: piece.skip - other.skip });
    if (otherEnd > end)
      kept.push({ ...other, skip: end, length: otherEnd - end, newSkip: other.newSkip + (end - other.skip) });
    return kept;
  });
  return sortedPieces([...others, piece]);
}

/** Pieces in order of `skip`. */
export function sortedPieces(pieces: readonly Piece[]): Piece[] {
  return [...pieces].sort((left, right) => left.skip - right.skip);
}
