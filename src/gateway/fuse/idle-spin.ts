/**
 * How long to go on asking for the next request before sleeping until it comes. Waking a thread on a processor that went idle costs tens of microseconds, on a
 * virtual machine more than a whole request (measured on two idle virtual CPUs, a cold `stat`: 64 µs asleep, 16 µs asking); and who works with files asks for the
 * next thing within microseconds of the answer. Asking in vain costs a processor somebody else might want. So the time adapts as the Linux
 * haltpoll governor's does: it grows when a request came soon after sleeping began, shrinks when asking was in vain, and is 0 for who asks rarely.
 */
export class IdleSpin {
  #ms = SPIN_START_MS;

  /** How long to ask now, in milliseconds; 0 = sleep at once. */
  get ms(): number {
    return this.#ms;
  }

  /** A request came while asking. */
  caught(): void {
    this.#ms = Math.min(SPIN_MAX_MS, this.#ms * 2);
  }

  /** Asking was in vain, and then sleep took `sleptMs`; `woken`: by a request. */
  missed(sleptMs: number, woken: boolean): void {
    if (woken && sleptMs <= SPIN_MAX_MS) this.#ms = Math.max(SPIN_START_MS, Math.min(SPIN_MAX_MS, this.#ms * 2));
    else this.#ms = this.#ms / 2 < SPIN_MIN_MS ? 0 : this.#ms / 2;
  }
}

/** A request follows its predecessor within this, when an application does nothing else. */
const SPIN_START_MS = 0.02;
/** More would cost more than what the sleep costs. */
const SPIN_MAX_MS = 0.08;
/** Less is about one call of poll. */
const SPIN_MIN_MS = 0.005;
