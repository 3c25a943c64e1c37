import type { Log, LogFields } from "../../base/log.ts";
import type { Output } from "../output/output.ts";

/** Lines that one command may say about what it uses; beyond it they say nothing new. */
const NOTES_MAX = 20;

/** The log of what a command uses: what went wrong there becomes notes to the person, each once; the rest is nobody's business. */
export class NoteLog implements Log {
  readonly #output: Output;
  readonly #said: Set<string>;

  constructor(output: Output, said: Set<string> = new Set()) {
    this.#output = output;
    this.#said = said;
  }

  debug(): void {}

  info(): void {}

  warn(): void {}

  error(message: string, fields: LogFields = {}): void {
    const cause = fields["cause"] ?? fields["error"];
    const why = cause instanceof Error ? `: ${cause.message}` : "";
    const what = fields["app"] ?? fields["appId"] ?? fields["tag"] ?? "";
    const text = `note: ${message}${what === "" ? "" : ` (${String(what)})`}${why}`;
    if (this.#said.has(text) || this.#said.size >= NOTES_MAX) return;
    this.#said.add(text);
    this.#output.note(text);
  }

  alarm(message: string, fields: LogFields = {}): void {
    this.error(message, fields);
  }

  child(): Log {
    return new NoteLog(this.#output, this.#said);
  }
}
