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

/** Runs `steps` to the end: in this turn if that is short, else in several, with others in between. It yields where they may come. */
export function inTurns<T>(steps: Generator<void, T>, work: Work): T | Promise<T> {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    if (work.due) return inLaterTurns(steps, work);
  }
}

async function inLaterTurns<T>(steps: Generator<void, T>, work: Work): Promise<T> {
  for (;;) {
    await work.pause().catch((error: unknown) => steps.throw(error));
    do {
      const step = steps.next();
      if (step.done === true) return step.value;
    } while (!work.due);
  }
}
