const MIB = 2 ** 20;

/** Segments of a full disk at least: so that taking one away matters, and moving what is in use of one is a small part of the disk. */
const SEGMENTS_PER_DISK = 64;

const SEGMENT_BYTES_MIN = 4 * MIB;
const SEGMENT_BYTES_MAX = 64 * MIB;

/** Room for about 40,000 deletions, and for what RocksDB needs to start. */
const RESERVE_BYTES_MIN = 16 * MIB;

/** Of a segment: cleaning one with 70 % in use must fit, so that a full disk of which a third was deleted comes free again. */
const RESERVE_SEGMENT_RATIO = 0.75;

/** History goes while less than this part of the disk is free. */
const DISK_FREE_RATIO = 1 / 20;
const DISK_FREE_BYTES_MAX = 2048 * MIB;

/** The reserve is taken again when this many times its size is free (SpaceReserve). */
const RESERVE_TAKEN_FACTOR = 3;

/** How large things are on a disk of a size. */
export type DiskLimits = {
  /** For the journals: JournalLimits. */
  readonly segmentBytesMax: number;
  /** For the SpaceReserve. */
  readonly reserveBytes: number;
  /** For the SpaceKeeper: enough that the reserve is taken again. */
  readonly diskFreeBytesMin: number;
};

/** The limits for a data folder on a disk of `totalBytes`. */
export function limitsForDisk(totalBytes: bigint): DiskLimits {
  const total = Number(totalBytes);
  const segmentBytesMax = Math.floor(clamp(total / SEGMENTS_PER_DISK, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX));
  const reserveBytes = Math.ceil(Math.max(RESERVE_BYTES_MIN, segmentBytesMax * RESERVE_SEGMENT_RATIO));
  const least = RESERVE_BYTES_MIN + RESERVE_TAKEN_FACTOR * reserveBytes;
  const diskFreeBytesMin = Math.ceil(clamp(total * DISK_FREE_RATIO, least, DISK_FREE_BYTES_MAX));
  return { segmentBytesMax, reserveBytes, diskFreeBytesMin };
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
