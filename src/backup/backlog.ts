import { FsError } from "../domain/errors.ts";
import { LIVE, type Lsn } from "../domain/ids.ts";

/** What becomes of writers while more is waiting for the repository than should be: they go on and somebody is alarmed, or they are refused. */
export type BacklogPolicy = "serve" | "stop";

/** Journal that may wait for the repository by default: an hour of a bucket's outage at 1 MB/s of changes. */
export const BACKLOG_BYTES_MAX = 4n * 1024n ** 3n;

/** Part of the bound, in percent, to which the backlog must come down before all is well again: or alarms would follow each other. */
const RELIEF_PERCENT = 80n;

/** How the disk is doing: below `reserveBytes` free, the space keeper would have dropped history long ago, if it might. */
export type DiskState = { readonly freeBytes: bigint; readonly reserveBytes: bigint };

/** What was just found. */
export type BacklogNews = "grown" | "relieved" | "continuity-lost";

/**
 * Watches how much of a journal waits for the repository, and decides what that means.
 *
 * What waits is the local journal itself: nothing is kept twice, and it costs no memory. Local history that isn't shipped stays (`floor`), with two ends. Under "stop", writers are
 * refused when the backlog has reached its bound, so that nothing is ever acknowledged that is further ahead of the repository. Under "serve", they go on, with an alarm; and when it comes to the
 * disk's last reserve, serving wins: history may go before it was shipped, and the repository gets a new base (its own history before the gap stays). That is alarmed once more,
 * and holds until everything is shipped.
 */
export class Backlog {
  readonly #policy: BacklogPolicy;
  readonly #bytesMax: bigint;
  #isLarge = false;
  #isGivenUp = false;

  constructor(options: { readonly policy: BacklogPolicy; readonly bytesMax?: bigint | undefined }) {
    this.#policy = options.policy;
    this.#bytesMax = options.bytesMax ?? BACKLOG_BYTES_MAX;
  }

  get bytesMax(): bigint {
    return this.#bytesMax;
  }

  /** More waits than should be. */
  get isLarge(): boolean {
    return this.#isLarge;
  }

  /** Writers are refused. */
  get isStopping(): boolean {
    return this.#isLarge && this.#policy === "stop";
  }

  /** Takes note of what waits. Answers what has changed by it. */
  update(state: { readonly bytes: bigint; readonly disk: DiskState | undefined }): BacklogNews[] {
    const { bytes, disk } = state;
    const news: BacklogNews[] = [];
    if (!this.#isLarge && bytes > this.#bytesMax) {
      this.#isLarge = true;
      news.push("grown");
    } else if (this.#isLarge && bytes * 100n <= this.#bytesMax * RELIEF_PERCENT) {
      this.#isLarge = false;
      news.push("relieved");
    }
    if (bytes === 0n) this.#isGivenUp = false;
    const isShort = disk !== undefined && disk.freeBytes < disk.reserveBytes;
    if (!this.#isGivenUp && this.#policy === "serve" && isShort && bytes > 0n) {
      this.#isGivenUp = true;
      news.push("continuity-lost");
    }
    return news;
  }

  /** Up to where local history may be dropped, given what is protected. */
  floor(shipped: Lsn): Lsn {
    return this.#isGivenUp ? LIVE : shipped;
  }

  /** What a writer gets; undefined: it may go on. */
  refusal(): FsError | undefined {
    if (!this.isStopping) return undefined;
    return new FsError(
      "ENOSPC",
      `more than ${this.#bytesMax} bytes wait for the backup repository, and this app's policy is to stop writing then: see \`tidemark backup status\``,
    );
  }
}
