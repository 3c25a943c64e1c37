/** The tree all tools back up: the same bytes for each of them, from a seed. */
import { randomFillSync } from "node:crypto";
import { closeSync, existsSync, mkdirSync, openSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";

export type TreeSize = { readonly fileCount: number; readonly treeBytes: number; readonly bigBytes: number };

export const FULL_SIZE: TreeSize = { fileCount: 100_000, treeBytes: 1.49e9, bigBytes: 2e9 };
export const QUICK_SIZE: TreeSize = { fileCount: 3_000, treeBytes: 45e6, bigBytes: 60e6 };

const FILES_PER_DIRECTORY = 100;
/** Content is cut from a pool at random places, so that files differ and compress by about a half, as trees of programs and documents do. */
const POOL_BYTES = 64 * 1024 * 1024;
const WORDS_MAX = 1024;
/** Sizes are spread over three orders of magnitude around the mean: e^N(0, 1.6). */
const SIZE_SPREAD = 1.6;
export const PAGE_BYTES = 4096;

/** A small generator with a seed (mulberry32): the bench must give every tool the same tree. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Makes the files of one tree, each time the same. */
export class TreeMaker {
  readonly size: TreeSize;
  readonly #pool: Buffer;
  readonly #scale: number;

  constructor(size: TreeSize) {
    this.size = size;
    this.#pool = makePool();
    // The mean of e^N(0, s) is e^(s²/2).
    this.#scale = size.treeBytes / size.fileCount / Math.exp(SIZE_SPREAD ** 2 / 2);
  }

  /** A file's path below the tree. */
  pathOf(index: number): string {
    return `d${String(Math.floor(index / FILES_PER_DIRECTORY)).padStart(4, "0")}/f${String(index).padStart(6, "0")}.dat`;
  }

  /** Writes version `version` of file `index` below `root`. */
  write(root: string, index: number, version: number): void {
    const random = randomFrom(index * 31 + version * 7919 + 1);
    const bytes = Math.max(1, Math.floor(this.#scale * Math.exp(SIZE_SPREAD * normal(random))));
    const file = join(root, this.pathOf(index));
    const fd = openSync(file, "w");
    try {
      for (let left = bytes; left > 0; ) {
        const count = Math.min(left, 1024 * 1024);
        const at = Math.floor(random() * (POOL_BYTES - count));
        left -= writeSync(fd, this.#pool, at, count);
      }
    } finally {
      closeSync(fd);
    }
  }

  /** Makes the whole tree below `root`. */
  makeTree(root: string): void {
    for (let index = 0; index < this.size.fileCount; index += 1) {
      if (index % FILES_PER_DIRECTORY === 0) mkdirSync(join(root, this.pathOf(index), ".."), { recursive: true });
      this.write(root, index, 0);
    }
  }

  /** Rewrites about one file in a hundred. Returns how many. */
  changeOnePercent(root: string, round: number): number {
    const random = randomFrom(4242 + round);
    let count = 0;
    for (let index = 0; index < this.size.fileCount; index += 1) {
      if (random() >= 0.01) continue;
      this.write(root, index, round);
      count += 1;
    }
    return count;
  }

  /** A file that can't be compressed. */
  makeBigFile(file: string): void {
    const piece = Buffer.allocUnsafe(1024 * 1024);
    if (existsSync(file)) return;
    writeFileSync(file, "");
    const fd = openSync(file, "w");
    try {
      for (let done = 0; done < this.size.bigBytes; done += piece.length) {
        randomFillSync(piece);
        writeSync(fd, piece, 0, Math.min(piece.length, this.size.bigBytes - done));
      }
    } finally {
      closeSync(fd);
    }
  }

  /** Overwrites one page somewhere in it. */
  changeBigFile(file: string, round: number): void {
    const random = randomFrom(99 + round);
    const page = Math.floor((random() * this.size.bigBytes) / PAGE_BYTES - 1);
    const bytes = randomFillSync(Buffer.allocUnsafe(PAGE_BYTES));
    const fd = openSync(file, "r+");
    writeSync(fd, bytes, 0, PAGE_BYTES, Math.max(0, page) * PAGE_BYTES);
    closeSync(fd);
  }
}

/** Random bytes and words, a few of them often, in turn, in stretches of a few thousand bytes. */
function makePool(): Buffer {
  const random = randomFrom(20_261_121);
  const words = Array.from({ length: WORDS_MAX }, () =>
    Buffer.from(`${Math.floor(random() * 36 ** 5).toString(36)} `, "latin1"),
  );
  const pool = Buffer.allocUnsafe(POOL_BYTES);
  for (let at = 0; at < POOL_BYTES; ) {
    const end = Math.min(POOL_BYTES, at + 2000 + Math.floor(random() * 4000));
    if (random() < 0.42) {
      for (; at < end; at += 1) pool[at] = Math.floor(random() * 256);
    } else {
      while (at < end) at += (words[Math.floor(random() ** 4 * WORDS_MAX)] as Buffer).copy(pool, at);
    }
  }
  return pool;
}

/** Box and Muller. */
function normal(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}
