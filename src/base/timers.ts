/** Where delays come from. Injected, so that tests decide when they end. */
export interface Timers {
  /** Calls `callback` once, at the earliest `delayMs` from now, unless the returned function is called before. Never keeps the process alive. */
  after(delayMs: number, callback: () => void): () => void;
  /** Resolves after `delayMs` at the earliest. Keeps the process alive. */
  wait(delayMs: number): Promise<void>;
}

/** The machine's timers. */
export class SystemTimers implements Timers {
  after(delayMs: number, callback: () => void): () => void {
    const timer = setTimeout(callback, delayMs);
    timer.unref();
    return () => clearTimeout(timer);
  }

  wait(delayMs: number): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, delayMs));
  }
}

/** Timers that end when a test says so. */
export class ManualTimers implements Timers {
  readonly #pending = new Map<number, { dueMs: number; callback: () => void }>();
  #nowMs = 0;
  #nextId = 1;

  after(delayMs: number, callback: () => void): () => void {
    const id = this.#nextId++;
    this.#pending.set(id, { dueMs: this.#nowMs + delayMs, callback });
    return () => this.#pending.delete(id);
  }

  wait(delayMs: number): Promise<void> {
    return new Promise((resolve) => this.after(delayMs, resolve));
  }

  /** How many callbacks wait. */
  get pendingCount(): number {
    return this.#pending.size;
  }

  /** Lets `ms` pass: calls what falls due, in order of time. */
  advance(ms: number): void {
    const untilMs = this.#nowMs + ms;
    for (;;) {
      const due = [...this.#pending].filter(([, timer]) => timer.dueMs <= untilMs);
      const first = due.sort(([, left], [, right]) => left.dueMs - right.dueMs)[0];
      if (first === undefined) break;
      const [id, timer] = first;
      this.#pending.delete(id);
      this.#nowMs = timer.dueMs;
      timer.callback();
    }
    this.#nowMs = untilMs;
  }
}
