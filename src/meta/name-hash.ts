import type { NameHash } from "./keys.ts";

/** Hashes below this are reserved for "." and ".." and for "before everything" as readdir cookies. */
const RESERVED = 16;

/**
 * A seeded 63-bit hash of a name, never below 16. Two rounds of murmur3's 32-bit mixer with different seeds
 * (Austin Appleby's MurmurHash3, public domain); seeding by app keeps one prepared set of names from colliding everywhere.
 */
export function nameHash(name: Uint8Array, seed: number): NameHash {
  const low = mix(name, seed);
  const high = mix(name, seed ^ 0x5bd1_e995) & 0x7fff_ffff;
  return high === 0 && low < RESERVED ? { high: 1, low } : { high, low };
}

function mix(bytes: Uint8Array, seed: number): number {
  let hash = seed | 0;
  const length = bytes.length;
  for (let at = 0; at < length; at += 4) {
    let word =
      (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24);
    word = Math.imul(word, 0xcc9e_2d51);
    word = (word << 15) | (word >>> 17);
    hash ^= Math.imul(word, 0x1b87_3593);
    hash = (hash << 13) | (hash >>> 19);
    hash = (Math.imul(hash, 5) + 0xe654_6b64) | 0;
  }
  hash ^= length;
  hash ^= hash >>> 16;
  hash = Math.imul(hash, 0x85eb_ca6b);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, 0xc2b2_ae35);
  hash ^= hash >>> 16;
  return hash >>> 0;
}

/** The hash as a readdir cookie. */
export function cookieOf(hash: NameHash): bigint {
  return (BigInt(hash.high) << 32n) | BigInt(hash.low);
}

/** The words of a cookie. Cookies from the kernel are foreign: the top bit is ignored. */
export function hashOfCookie(cookie: bigint): NameHash {
  return { high: Number((cookie >> 32n) & 0x7fff_ffffn), low: Number(cookie & 0xffff_ffffn) };
}
