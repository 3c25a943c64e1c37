/** A moment of wall time: whole seconds since 1970 UTC (may be negative, always a safe integer) and nanoseconds 0..999,999,999. */
export type Timestamp = { readonly sec: number; readonly nsec: number };

/** Where time comes from. Injected everywhere, so that tests decide what time it is. */
export interface Clock {
  /** Wall time now. May step in either direction. */
  now(): Timestamp;
  /** Milliseconds on a clock that never steps back; its zero means nothing. */
  monotonicMs(): number;
}

/** The machine's clocks. Wall time has microsecond resolution or better. */
export class SystemClock implements Clock {
  // performance.timeOrigin + now() drifts from the wall clock when that is stepped, so Date.now() decides the millisecond and
  // the monotonic clock only orders calls inside one.
  #lastMs = 0;
  #subNsec = 0;

  now(): Timestamp {
    const ms = Date.now();
    if (ms === this.#lastMs) {
      if (this.#subNsec < 999_000) this.#subNsec += 1000;
    } else {
      this.#lastMs = ms;
      this.#subNsec = 0;
    }
    const sec = Math.floor(ms / 1000);
    return { sec, nsec: (ms - sec * 1000) * 1_000_000 + this.#subNsec };
  }

  monotonicMs(): number {
    return performance.now();
  }
}

/** Negative, zero or positive as `left` is before, at or after `right`. */
export function compareTimestamps(left: Timestamp, right: Timestamp): number {
  return left.sec - right.sec || left.nsec - right.nsec;
}
