import type { Clock } from "../../base/clock.ts";
import type { Output } from "./output.ts";

/** Redrawn at most so often: smooth for an eye, nothing for a terminal. */
const REDRAW_MS = 100;
const BAR_CHARS = 24;

/** A line at the bottom of a terminal that says how far long work is. Without a terminal it says nothing. */
export class ProgressBar {
  readonly #output: Output;
  readonly #clock: Clock;
  #drawnAtMs = -REDRAW_MS;
  #visible = false;

  constructor({ output, clock }: { output: Output; clock: Clock }) {
    this.#output = output;
    this.#clock = clock;
  }

  /** `fraction`: 0 to 1, absent while unknown. */
  update({ fraction, text }: { fraction: number | undefined; text: string }): void {
    const nowMs = this.#clock.monotonicMs();
    if (!this.#output.showsProgress || nowMs - this.#drawnAtMs < REDRAW_MS) return;
    this.#drawnAtMs = nowMs;
    this.#visible = true;
    const line = `${fraction === undefined ? "" : bar(fraction)}${text}`;
    const shown = [...line].slice(0, Math.max(10, this.#output.errorColumns - 1)).join("");
    this.#output.error(`\r\u001b[K${shown}`);
  }

  /** Takes the line away. May be called again. */
  clear(): void {
    if (this.#visible) this.#output.error("\r\u001b[K");
    this.#visible = false;
  }
}

function bar(fraction: number): string {
  const share = Math.min(1, Math.max(0, fraction));
  const filled = Math.round(share * BAR_CHARS);
  return `${"█".repeat(filled)}${"░".repeat(BAR_CHARS - filled)} ${String(Math.floor(share * 100)).padStart(3)}%  `;
}
