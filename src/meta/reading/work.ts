import type { Clock } from "../../base/clock.ts";
import type { CallOptions } from "../../domain/admin-call.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { Turns } from "./turns.ts";

/** How long one call may keep the loop from the mounts it serves: a tenth of what a person notices, some requests of the kernel. */
const TURN_MS = 4;

/** One call at work: shares the loop with the mounts, and ends when the caller goes away. */
export class Work {
  readonly #clock: Clock;
  readonly #turns: Turns;
  readonly signal: AbortSignal | undefined;
  #sinceMs: number;

  constructor(parts: { readonly clock: Clock; readonly turns: Turns }, options: CallOptions = {}) {
    this.#clock = parts.clock;
    this.#turns = parts.turns;
    this.signal = options.signal;
    this.#sinceMs = parts.clock.monotonicMs();
  }

  /** Whether it is time to `pause`. Cheap: asked for every item. */
  get due(): boolean {
    return this.#clock.monotonicMs() - this.#sinceMs >= TURN_MS || this.signal?.aborted === true;
  }

  /** Lets others have the loop. Throws CANCELLED when the caller went away. */
  async pause(): Promise<void> {
    this.check();
    await this.#turns.next();
    this.check();
    this.#sinceMs = this.#clock.monotonicMs();
  }

  /** Throws CANCELLED when the caller went away. */
  check(): void {
    if (this.signal?.aborted === true) throw cancelled();
  }
}

/** The error of a call whose caller went away. */
export function cancelled(): TidemarkError {
  return new TidemarkError("CANCELLED", "the call was cancelled");
}
