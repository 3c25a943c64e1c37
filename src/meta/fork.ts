import { assert } from "../base/assert.ts";
import type { Lsn } from "../domain/ids.ts";
import { TABLE } from "./keys.ts";

/**
 * The interval tree over LSNs that finds the names which a directory had at a moment and lost since, reading (nearly) no others: the
 * relational interval tree of Kriegel, Pötke and Seidl (VLDB 2000). A dead name of [since, until) belongs to one fork: the number in (since, until] that
 * a power of two divides most. A moment then has one fork on each level where names that hold it can be:
 *
 *   fork ≤ moment   since < fork, so the name holds the moment if until > moment: rows of the fork by their end (`e`)
 *   fork > moment   until ≥ fork, so the name holds the moment if since ≤ moment: rows of the fork by their beginning (`E`)
 *
 * The lowest levels are one: what begins and ends within a block of `BLOCK` LSNs (temporary files, mostly) belongs to the block's middle and has a row by
 * its end only, and all of them that ended after the moment are looked at. So most short-lived names cost one row, and a look has 8 levels less.
 *
 * Numbers are safe integers up to 2^53: no 32-bit operators on whole ones.
 */

/** LSNs of a block: at most so many records ended names that are looked at in vain, a millisecond for the usual one name each. */
const BLOCK = 256;

/** The fork of a name that held over [since, until). */
export function forkOf(since: number, until: number): number {
  assert(since < until, "a name held at no moment");
  const block = until - (until % BLOCK);
  if (since >= block) return block + BLOCK / 2;
  // The highest bit in which the two differ: until has it, since hasn't, and above it they are the same.
  const high = Math.floor(since / TWO_32) ^ Math.floor(until / TWO_32);
  const level = high === 0 ? 31 - Math.clz32((since ^ until) >>> 0) : 63 - Math.clz32(high);
  return until - (until % 2 ** level);
}

/** Which rows a dead name has besides its row by name. One that ended at its fork holds no moment from the fork on, and needs no row by its end. */
export function rowsOfFork(fork: number, until: number): { readonly byEnd: boolean; readonly byBeginning: boolean } {
  if (fork % BLOCK !== 0) return { byEnd: true, byBeginning: false };
  return { byEnd: until > fork, byBeginning: true };
}

/** Rows of one fork: of those by end (`e`) or by beginning (`E`), those with `from` ≤ LSN < `to`. */
export type Look = { readonly table: number; readonly fork: number; readonly from: number; readonly to: number };

/**
 * Where the names are that held at `at` and ended up to `last`: at most 46 places. Rows by end of the first may have begun after `at`, those of the others
 * did not. Ends are not looked at beyond `at`: a row may have ended after `last`.
 */
export function looksAt(at: Lsn, last: Lsn): Look[] {
  if (at >= last) return [];
  const block = at - (at % BLOCK);
  const looks: Look[] = [byEnd(block + BLOCK / 2, at)];
  for (let step = BLOCK; step <= last; step *= 2) {
    const index = Math.floor(at / step);
    if (index % 2 === 1) looks.push(byEnd(index * step, at));
    else if ((index + 1) * step <= last)
      looks.push({ table: TABLE.DENTRY_BEGAN, fork: (index + 1) * step, from: 0, to: at + 1 });
  }
  return looks;
}

function byEnd(fork: number, at: number): Look {
  return { table: TABLE.DENTRY_ENDED, fork, from: at + 1, to: Number.MAX_SAFE_INTEGER };
}

const TWO_32 = 2 ** 32;
