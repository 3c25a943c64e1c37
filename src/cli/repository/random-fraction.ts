import { randomBytes } from "node:crypto";

/** In [0, 1), for jitter. */
export function randomFraction(): number {
  return randomBytes(4).readUInt32BE() / 2 ** 32;
}
