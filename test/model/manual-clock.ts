import type { Clock, Timestamp } from "../../src/base/clock.ts";

const NSEC_PER_SEC = 1_000_000_000;

/** A clock that stands still until a test moves it. The monotonic half never goes back. */
export class ManualClock implements Clock {
  #sec = 1_700_000_000;
  #nsec = 0;
  #monotonicMs = 0;

  now(): Timestamp {
    return { sec: this.#sec, nsec: this.#nsec };
  }

  monotonicMs(): number {
    return this.#monotonicMs;
  }

  /** Moves wall time by `nanoseconds`, a safe integer, negative for a step backwards. */
  step(nanoseconds: number): void {
    const total = this.#nsec + (nanoseconds % NSEC_PER_SEC);
    const carry = Math.floor(total / NSEC_PER_SEC);
    this.#sec += Math.trunc(nanoseconds / NSEC_PER_SEC) + carry;
    this.#nsec = total - carry * NSEC_PER_SEC;
    if (nanoseconds > 0) this.#monotonicMs += nanoseconds / 1_000_000;
  }
}
