import type { InodeId } from "../domain/ids.ts";

/** What a cache may hold of an inode: bits of a set. */
export const ATTRIBUTES = 1;
/** Content: pages of a file, the listing of a directory. */
export const DATA = 2;

/** Bit of the inodes about which everything is known; the others' bits say nothing. */
const CERTAIN = 4;

/** Inodes of one page: 2 KiB. */
const PAGE_INODES = 2048;

/** Pages of one cache, 64 MiB together: then everything is in doubt again, which costs only news that nobody needed. */
const PAGES_MAX = 32_768;

/** Absent names remembered for one cache, about 150 bytes each: more lookups than that in a second are no usual ones. Then any name counts as remembered there, for a while. */
const ABSENT_MAX = 65_536;

/**
 * What one cache may hold: so that it is told, and waited for, only when it has something to forget. Errs on "may hold". What was told before this was made is in doubt, for inodes below
 * `doubtfulBelow` (numbers only rise) and all names, until it was forgotten once.
 */
export class CacheKnowledge {
  readonly #pages = new Map<number, Uint8Array>();
  #doubtfulBelow: number;
  /** Names that were found absent, and until when (in ms) that may be remembered; oldest first. */
  readonly #absent = new Map<string, number>();
  #anyAbsentUntilMs: number;

  constructor(doubt: { readonly below: number; readonly anyAbsentUntilMs: number }) {
    this.#doubtfulBelow = doubt.below;
    this.#anyAbsentUntilMs = doubt.anyAbsentUntilMs;
  }

  /** The cache is being told `what` of the inode. */
  learn(ino: InodeId, what: number): void {
    this.#set(ino, this.#bits(ino) | what);
  }

  /** The cache is being told to forget `what` of the inode. */
  forget(ino: InodeId, what: number): void {
    this.#set(ino, this.#bits(ino) & ~what);
  }

  /** Whether it may hold any of `what`. */
  mayHold(ino: InodeId, what: number): boolean {
    return (this.#bits(ino) & what) !== 0;
  }

  /** The cache is being told that there is no such name, which it may remember until `untilMs` (never before that of an earlier call). */
  learnAbsent(key: string, { untilMs, nowMs }: { readonly untilMs: number; readonly nowMs: number }): void {
    this.#absent.delete(key);
    this.#absent.set(key, untilMs);
    for (const [oldest, until] of this.#absent) {
      if (until > nowMs) break;
      this.#absent.delete(oldest);
    }
    if (this.#absent.size <= ABSENT_MAX) return;
    this.#absent.clear();
    this.#anyAbsentUntilMs = Math.max(this.#anyAbsentUntilMs, untilMs);
  }

  /** Whether it may remember that there was no such name. */
  mayHoldAbsent(key: string, nowMs: number): boolean {
    return nowMs < this.#anyAbsentUntilMs || (this.#absent.get(key) ?? 0) > nowMs;
  }

  forgetAbsent(key: string): void {
    this.#absent.delete(key);
  }

  #bits(ino: InodeId): number {
    const bits = this.#pages.get(Math.floor(ino / PAGE_INODES))?.[ino % PAGE_INODES] ?? 0;
    if ((bits & CERTAIN) !== 0 || ino >= this.#doubtfulBelow) return bits;
    return ATTRIBUTES | DATA;
  }

  #set(ino: InodeId, bits: number): void {
    const number = Math.floor(ino / PAGE_INODES);
    let page = this.#pages.get(number);
    if (page === undefined) {
      if (this.#pages.size >= PAGES_MAX) {
        this.#pages.clear();
        this.#doubtfulBelow = Number.MAX_SAFE_INTEGER;
      }
      page = new Uint8Array(PAGE_INODES);
      this.#pages.set(number, page);
    }
    page[ino % PAGE_INODES] = bits | CERTAIN;
  }
}
