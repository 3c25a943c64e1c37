import fs from "node:fs";
import path from "node:path";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { nativeError } from "./file-ops.ts";
import { nativeCalls } from "./native.ts";

/** Room for about 40,000 unlinks, and for what RocksDB needs to start. */
export const RESERVE_BYTES_DEFAULT = 16 * 1024 * 1024;

/** Taking it again is tried at most this often. */
const RETRY_INTERVAL_MS = 1000;

/** Free space beyond its own size that it wants to see before it takes the space again, so that the next small change doesn't give it up at once. */
const MARGIN_FACTOR = 2;

export type SpaceReserveOptions = {
  readonly folder: string;
  readonly bytes?: number;
  readonly clock: Clock;
  readonly log: Log;
};

/**
 * A file of allocated, unused space, one for a data folder and all its journals. On a full disk it is given up for what frees space (unlink, truncate) and for
 * a restart; while it is given up, journals take nothing else, so that ordinary writers don't eat it.
 */
export class SpaceReserve {
  readonly #file: string;
  readonly #folder: string;
  readonly #bytes: number;
  readonly #clock: Clock;
  readonly #log: Log;
  #held = false;
  #triedMs = Number.NEGATIVE_INFINITY;

  constructor(options: SpaceReserveOptions) {
    this.#folder = options.folder;
    this.#file = path.join(options.folder, "reserve");
    this.#bytes = options.bytes ?? RESERVE_BYTES_DEFAULT;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#held = this.#isAllocated();
  }

  /** Whether the space is kept. Tries to take it (again) when it is not, at most once a second. */
  get held(): boolean {
    if (!this.#held && this.#clock.monotonicMs() - this.#triedMs >= RETRY_INTERVAL_MS) this.take();
    return this.#held;
  }

  /** Takes the space if the disk has room for it and some more. Returns whether it is kept now. */
  take(): boolean {
    if (this.#held) return true;
    this.#triedMs = this.#clock.monotonicMs();
    const { bavail, bsize } = fs.statfsSync(this.#folder);
    if (bavail * bsize < this.#bytes * (1 + MARGIN_FACTOR)) return false;
    try {
      allocate(this.#file, this.#bytes);
      this.#held = true;
    } catch (error) {
      this.#log.debug("the space reserve could not be taken", { cause: error });
      fs.rmSync(this.#file, { force: true });
    }
    return this.#held;
  }

  /** Gives the space up. Safe to repeat. */
  release(): void {
    if (this.#held)
      this.#log.alarm("the disk is full: the space reserve is given up, only deletions are taken", {
        bytes: this.#bytes,
      });
    this.#held = false;
    this.#triedMs = this.#clock.monotonicMs();
    fs.rmSync(this.#file, { force: true });
  }

  #isAllocated(): boolean {
    const stat = fs.statSync(this.#file, { throwIfNoEntry: false });
    return stat !== undefined && stat.blocks * 512 >= this.#bytes;
  }
}

// Without fallocate, zeros do: file systems that compress them away are none where a reserve helps.
function allocate(file: string, bytes: number): void {
  const fd = fs.openSync(file, "w", 0o600);
  try {
    const native = nativeCalls();
    if (native !== undefined) {
      if (native.fallocate(fd, 0, 0, bytes) !== 0) throw nativeError("fallocate");
      return;
    }
    const zeros = Buffer.alloc(1024 * 1024);
    for (let done = 0; done < bytes; done += zeros.length)
      fs.writeSync(fd, zeros, 0, Math.min(zeros.length, bytes - done), done);
  } finally {
    fs.closeSync(fd);
  }
}
