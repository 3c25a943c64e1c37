/** Bounds of one journal. The defaults are for a service of a few dozen apps. */
export type JournalLimits = {
  /** A segment is started when the next record would pass this. The unit of cleaning, and what a checksum of positions (u32) allows by far. */
  readonly segmentBytesMax: number;
  /** How long after the first unsynced change a sync starts by itself: half of the promised second, the other half is for the sync. */
  readonly backgroundSyncDelayMs: number;
  /** Write-back is started when this much was appended since the last start: what a small fsync finds dirty at most, about 10 ms of a slow disk. */
  readonly writeBackBytes: number;
  /** Verified blocks kept in memory, for small reads of one large record: 128 blocks. */
  readonly blockCacheBytesMax: number;
  /** Sealed segments kept open for reading; one descriptor each. */
  readonly openSegmentsMax: number;
};

export const DEFAULT_LIMITS: JournalLimits = {
  segmentBytesMax: 64 * 1024 * 1024,
  backgroundSyncDelayMs: 500,
  writeBackBytes: 4 * 1024 * 1024,
  blockCacheBytesMax: 8 * 1024 * 1024,
  openSegmentsMax: 64,
};

/** How much of a segment a scan holds in memory, if no record is longer. */
export const SCAN_WINDOW_BYTES = 256 * 1024;

/**
 * Headers checked when a journal is opened, newest first, 64 GiB of history with segments of 64 MiB: about 0.1 s of a cold disk. Older ones are checked
 * when they are first used.
 */
export const HEADERS_CHECKED_MAX = 1024;
