import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";

/** Lines a minute: what one stray client makes is seen whole, and a scanner does not fill the log. */
const LINES_PER_MINUTE = 20;
const MINUTE_MS = 60_000;

/** Says which connections were refused, and why; not more often than a person reads. */
export class RefusalLog {
  readonly #log: Log;
  readonly #clock: Clock;
  #sinceMs: number;
  #lines = 0;
  #hidden = 0;

  constructor(log: Log, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
    this.#sinceMs = clock.monotonicMs();
  }

  /** Something from `address` was refused. */
  refused({ address, reason }: { readonly address: string; readonly reason: string }): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#sinceMs >= MINUTE_MS) {
      if (this.#hidden > 0) this.#log.warn("more was refused than is shown", { count: this.#hidden });
      this.#sinceMs = nowMs;
      this.#lines = 0;
      this.#hidden = 0;
    }
    if (this.#lines >= LINES_PER_MINUTE) {
      this.#hidden += 1;
      return;
    }
    this.#lines += 1;
    this.#log.warn("a connection was refused", { address, reason });
  }
}
