import type { Log } from "../../base/log.ts";
import type { DiskSpace } from "../open-app.ts";
import { limitsForDisk } from "./disk-limits.ts";
import { type AppUsage, type Bounds, historyBytesOf } from "./policy.ts";

export type DiskRoomOptions = {
  /** The data folder's disk, as it is now. */
  readonly diskSpace: () => DiskSpace;
  /** Taken again as soon as there is room for it; cleaning may use it. */
  readonly reserve?: { take(): boolean; readonly held: boolean };
  readonly log: Log;
  /** Bytes of journals that the present doesn't need; absent: half the disk. */
  readonly historyBytesMax?: bigint;
  /** History goes while less than this is free; absent: as `limitsForDisk` says, which also says how large the reserve is. */
  readonly diskFreeBytesMin?: bigint;
};

/** Part of the room there is that cleaning one segment may take: rows, and other writers, need some too. */
const COPY_RATIO = 0.8;

const WARN_RATIO = 0.8;
const WARN_AGAIN_RATIO = 0.7;

/** Compares what journals take with what they may. */
export class DiskRoom {
  readonly #options: DiskRoomOptions;
  #hasWarned = false;

  constructor(options: DiskRoomOptions) {
    this.#options = options;
  }

  get historyBytesMax(): bigint {
    return this.#options.historyBytesMax ?? this.#options.diskSpace().totalBytes / 2n;
  }

  /** How much history there is too much, or room too little. */
  bounds(apps: readonly AppUsage[]): Bounds {
    const { diskSpace, diskFreeBytesMin, reserve } = this.#options;
    const { totalBytes, freeBytes } = diskSpace();
    const limits = limitsForDisk(totalBytes);
    const historyBytesMax = Number(this.#options.historyBytesMax ?? totalBytes / 2n);
    const historyBytes = apps.reduce((sum, app) => sum + historyBytesOf(app), 0);
    this.#warn(historyBytes, historyBytesMax);
    const shortBytes = Number(diskFreeBytesMin ?? limits.diskFreeBytesMin) - Number(freeBytes);
    const roomBytes = Number(freeBytes) + (reserve?.held === true ? limits.reserveBytes : 0);
    return {
      excessBytes: Math.max(historyBytes - historyBytesMax, shortBytes),
      shortBytes,
      historyBytes,
      historyBytesMax,
      copyBytesMax: roomBytes * COPY_RATIO,
    };
  }

  /** Takes the reserve if it can be had. Answers whether there is room again. */
  recover(apps: readonly AppUsage[]): boolean {
    const { reserve } = this.#options;
    return reserve?.take() === true && this.bounds(apps).shortBytes <= 0;
  }

  #warn(historyBytes: number, historyBytesMax: number): void {
    if (historyBytes < historyBytesMax * WARN_AGAIN_RATIO) this.#hasWarned = false;
    if (historyBytes <= historyBytesMax * WARN_RATIO || this.#hasWarned) return;
    this.#hasWarned = true;
    const message = "history takes more than 80 % of its bound: soon the oldest goes";
    this.#options.log.warn(message, { historyBytes, historyBytesMax });
  }
}
