import type { ObjectKind, ObjectRef } from "./object-cipher.ts";
import { damagedObject } from "./object-errors.ts";

// FORMAT.md, "Object": packs and runs end with the length of their last frame, so that it is found without reading the others. The trailer is not authenticated: the frame it
// leads to is.

export const OBJECT_TRAILER_BYTES = 8;

const MAGIC = Buffer.from("TMRE", "latin1");

/** Whether objects of this kind have a trailer. */
export function hasTrailer(kind: ObjectKind): boolean {
  return kind === "pack" || kind === "run";
}

/** `frameBytes`: of the last frame, with the length in front of it where it has one. */
export function encodeTrailer(frameBytes: number): Buffer {
  const trailer = Buffer.alloc(OBJECT_TRAILER_BYTES);
  trailer.writeUInt32BE(frameBytes, 0);
  MAGIC.copy(trailer, 4);
  return trailer;
}

/** How many bytes the last frame has, which ends right before the trailer. `tail`: the end of the object, the trailer or more. Throws REPOSITORY_DAMAGED. */
export function readTrailer(tail: Buffer, ref: ObjectRef): number {
  const start = tail.length - OBJECT_TRAILER_BYTES;
  if (start < 0 || !tail.subarray(start + 4).equals(MAGIC)) {
    throw damagedObject(
      ref.name,
      `it does not end as a ${ref.kind} does: it is cut off, or something was put behind it`,
    );
  }
  return tail.readUInt32BE(start);
}
