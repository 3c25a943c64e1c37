/** Lets a few in at a time, in the order they came. */
export class Gate {
  readonly #insideMax: number;
  readonly #waiting: (() => void)[] = [];
  #inside = 0;

  constructor(insideMax: number) {
    this.#insideMax = insideMax;
  }

  /** Resolves when there is room. Each `enter` is followed by one `leave`. */
  async enter(): Promise<void> {
    if (this.#inside < this.#insideMax) {
      this.#inside += 1;
      return;
    }
    // Whoever leaves hands the room on, so the count stays.
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#inside -= 1;
    else next();
  }
}
