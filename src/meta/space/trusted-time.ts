import { type Clock, compareTimestamps, type Timestamp } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";

/** A wall clock that is ahead by less than this of what was expected is corrected by NTP or a little fast. */
const AHEAD_MS = 5 * 60_000;

/** After a start: a service may have been away for a night and a day without anything being wrong. */
const AWAY_MS = 36 * 3_600_000;

/** So long a clock that is ahead has to stay so, with the service running, until it is believed: time for a person to see the alarm. */
const BELIEVED_AFTER_MS = 24 * 3_600_000;

export type TrustedTimeOptions = {
  readonly clock: Clock;
  readonly log: Log;
  /** How late it was when that was last noted. */
  readonly noted: Timestamp | undefined;
};

/**
 * How late it is, for what deletes by age. A wall clock that jumps ahead would make everything old at once: so the time that is trusted goes on with the monotonic clock, and follows the wall clock
 * backwards at once, but ahead only when that is within minutes; else there is an alarm, and the wall clock is believed when it has said so for a day of running.
 */
export class TrustedTime {
  readonly #options: TrustedTimeOptions;
  #base: Timestamp;
  #baseMonotonicMs: number;
  #toleranceMs: number;
  #aheadSinceMs: number | undefined;

  constructor(options: TrustedTimeOptions) {
    this.#options = options;
    this.#base = options.noted ?? options.clock.now();
    this.#baseMonotonicMs = options.clock.monotonicMs();
    this.#toleranceMs = options.noted === undefined ? AHEAD_MS : AWAY_MS;
  }

  /** How late it is, at most: the wall clock's time, or the time that is trusted where the wall clock is ahead of it. */
  now(): Timestamp {
    const { clock, log } = this.#options;
    const wall = clock.now();
    const monotonicMs = clock.monotonicMs();
    const expected = plus(this.#base, monotonicMs - this.#baseMonotonicMs);
    if (compareTimestamps(wall, plus(expected, this.#toleranceMs)) <= 0) return this.#trust(wall);
    if (this.#aheadSinceMs === undefined) {
      this.#aheadSinceMs = monotonicMs;
      const hours = BELIEVED_AFTER_MS / 3_600_000;
      log.alarm(
        `the clock of this machine jumped ahead, or the service was away for long: for ${hours} hours no history is dropped because of its age by this clock. If the time is wrong, correct it; if it is right, \`tidemark retention set\` says so at once`,
        { code: "CLOCK_AHEAD", time: wall.sec, expected: expected.sec },
      );
    }
    return monotonicMs - this.#aheadSinceMs >= BELIEVED_AFTER_MS ? this.#trust(wall) : expected;
  }

  /** A person says that the clock is right. */
  believe(): void {
    this.#trust(this.#options.clock.now());
  }

  #trust(wall: Timestamp): Timestamp {
    this.#base = wall;
    this.#baseMonotonicMs = this.#options.clock.monotonicMs();
    this.#toleranceMs = AHEAD_MS;
    this.#aheadSinceMs = undefined;
    return wall;
  }
}

function plus({ sec, nsec }: Timestamp, ms: number): Timestamp {
  const nanoseconds = nsec + Math.round((ms % 1000) * 1e6);
  return { sec: sec + Math.floor(ms / 1000) + Math.floor(nanoseconds / 1e9), nsec: nanoseconds % 1e9 };
}
