/** How much each row does. */

export type Sizes = {
  bigBytes: number;
  randomBytes: number;
  randomWrites: number;
  randomSyncedWrites: number;
  /** The tree for stat, open and rename. */
  fileCount: number;
  filesPerDir: number;
  createCount: number;
  syncedCreateCount: number;
  removeCount: number;
  /** Warm rows repeat until they have run this long, so that fast targets are not measured by a few milliseconds. */
  warmMs: number;
  gitFileCount: number;
  pgbenchScale: number;
  pgbenchSeconds: number;
  sqliteSeconds: number;
  memoryFileCount: number;
};

const MIB = 1024 * 1024;

/** The sizes of a full run: about two minutes a round with four targets, on the reference machine. */
export const FULL_SIZES: Sizes = {
  bigBytes: 256 * MIB,
  randomBytes: 64 * MIB,
  randomWrites: 20_000,
  randomSyncedWrites: 3_000,
  fileCount: 10_000,
  filesPerDir: 100,
  createCount: 5_000,
  syncedCreateCount: 2_000,
  removeCount: 10_000,
  warmMs: 500,
  gitFileCount: 4_000,
  pgbenchScale: 10,
  pgbenchSeconds: 4,
  sqliteSeconds: 1,
  memoryFileCount: 100_000,
};

/** A look, not a measurement. */
export const QUICK_SIZES: Sizes = {
  ...FULL_SIZES,
  bigBytes: 64 * MIB,
  randomWrites: 5_000,
  randomSyncedWrites: 500,
  fileCount: 3_000,
  createCount: 2_000,
  syncedCreateCount: 500,
  warmMs: 200,
  pgbenchSeconds: 2,
  sqliteSeconds: 0.5,
  memoryFileCount: 20_000,
};
