import type { Writable } from "node:stream";
import { styleText } from "node:util";
import { toJson } from "./json.ts";

/** The reader of our output went away (`| head`): everything stops, quietly. */
export class OutputClosedError extends Error {
  override name = "OutputClosedError";
}

/** A stream to write to, as process.stdout is one. */
export type OutputStream = Writable & { readonly isTTY?: boolean; readonly columns?: number };

export type Style = "bold" | "dim" | "red" | "green" | "yellow" | "cyan";

/** A column of a list. `human` is shown in a table on a terminal, `plain` (else `human`) in tab-separated lines. */
export type Column<T> = {
  readonly title: string;
  readonly align?: "right";
  readonly human: (item: T) => string;
  readonly plain?: (item: T) => string;
  readonly style?: (item: T) => Style | undefined;
};

export type OutputOptions = {
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly json: boolean;
  readonly color: boolean;
};

/** Where commands write: results to standard output, everything about them (notes, progress, questions) to standard error. */
export class Output {
  readonly json: boolean;
  readonly #stdout: OutputStream;
  readonly #stderr: OutputStream;
  readonly #color: boolean;
  #closed = false;

  constructor({ stdout, stderr, json, color }: OutputOptions) {
    this.#stdout = stdout;
    this.#stderr = stderr;
    this.json = json;
    this.#color = color;
    stdout.on("error", () => {
      this.#closed = true;
    });
    stderr.on("error", () => {});
  }

  /** Whether a person reads the results. */
  get isTerminal(): boolean {
    return !this.json && this.#stdout.isTTY === true;
  }

  /** Whether a person reads what goes to standard error. */
  get showsProgress(): boolean {
    return this.#stderr.isTTY === true && !this.json;
  }

  get errorColumns(): number {
    return this.#stderr.columns ?? 80;
  }

  /** Writes text or bytes as they are, at the reader's pace. Throws OutputClosedError when there is no reader any more. */
  async write(data: string | Uint8Array): Promise<void> {
    if (this.#closed) throw new OutputClosedError();
    if (this.#stdout.write(data)) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        for (const event of ["drain", "error", "close"]) this.#stdout.off(event, done);
        resolve();
      };
      for (const event of ["drain", "error", "close"]) this.#stdout.on(event, done);
    });
    if (this.#closed) throw new OutputClosedError();
  }

  /** A line of the result, for people. */
  async line(text: string): Promise<void> {
    await this.write(`${text}\n`);
  }

  /** One JSON value on a line of its own. */
  async value(value: unknown): Promise<void> {
    await this.write(`${toJson(value)}\n`);
  }

  /** One thing: JSON for programs, a sentence for people. */
  async done(value: unknown, sentence: string): Promise<void> {
    if (this.json) await this.value(value);
    else await this.line(sentence);
  }

  /** Something a person should know besides the result. */
  note(text: string): void {
    this.#stderr.write(`${text}\n`);
  }

  /** Raw text to standard error (progress bars, questions). */
  error(text: string): void {
    this.#stderr.write(text);
  }

  /** `text` in a style, where a terminal shows it. */
  style(style: Style, text: string): string {
    return this.#color ? styleText(style, text, { validateStream: false }) : text;
  }

  /**
   * A list of any length: NDJSON, a table whose widths fit the first page, or tab-separated lines without head. Answers how many items there were.
   * `empty` is said to a person when there are none.
   */
  async list<T>(
    columns: readonly Column<T>[],
    pages: AsyncIterable<readonly T[]>,
    options: { empty: string; json?: (item: T) => unknown },
  ): Promise<number> {
    if (this.isTerminal) {
      const count = await this.#rows(columns, pages);
      if (count === 0) this.note(options.empty);
      return count;
    }
    let count = 0;
    for await (const page of pages) {
      if (this.json) await this.write(page.map((item) => `${toJson(options.json?.(item) ?? item)}\n`).join(""));
      else await this.write(page.map((item) => `${plainLine(columns, item)}\n`).join(""));
      count += page.length;
    }
    return count;
  }

  /** A table that is part of a report for people, wherever that goes. `empty` stands in its place when there are no items. */
  async table<T>(
    columns: readonly Column<T>[],
    pages: AsyncIterable<readonly T[]>,
    { empty }: { empty: string },
  ): Promise<void> {
    if ((await this.#rows(columns, pages)) === 0) await this.line(empty);
  }

  async #rows<T>(columns: readonly Column<T>[], pages: AsyncIterable<readonly T[]>): Promise<number> {
    let count = 0;
    let widths: readonly number[] | undefined;
    for await (const page of pages) {
      widths = await this.#tablePage(columns, page, widths);
      count += page.length;
    }
    return count;
  }

  async #tablePage<T>(
    columns: readonly Column<T>[],
    page: readonly T[],
    before: readonly number[] | undefined,
  ): Promise<readonly number[]> {
    const cells = page.map((item) => columns.map((column) => column.human(item)));
    const widths = before ?? columns.map((column, index) => widest(column.title, cells, index));
    const lines = cells.map((row, index) => this.#row(columns, row, { widths, item: page[index] as T }));
    if (before === undefined) lines.unshift(this.#head(columns, widths));
    await this.write(lines.map((line) => `${line.trimEnd()}\n`).join(""));
    return widths;
  }

  #head<T>(columns: readonly Column<T>[], widths: readonly number[]): string {
    return columns
      .map((column, index) => this.style("dim", pad(column.title, widths[index] ?? 0, column.align)))
      .join("  ");
  }

  #row<T>(
    columns: readonly Column<T>[],
    cells: readonly string[],
    { widths, item }: { widths: readonly number[]; item: T },
  ): string {
    return columns
      .map((column, index) => {
        const last = index === columns.length - 1 && column.align === undefined;
        const text = last ? (cells[index] ?? "") : pad(cells[index] ?? "", widths[index] ?? 0, column.align);
        const style = column.style?.(item);
        return style === undefined ? text : this.style(style, text);
      })
      .join("  ");
  }
}

/** A tab or newline in a cell would break the line; names have them escaped already (byte-text.ts). */
function plainLine<T>(columns: readonly Column<T>[], item: T): string {
  return columns.map((column) => (column.plain ?? column.human)(item).replace(/[\t\n]/g, " ")).join("\t");
}

function widest(title: string, rows: readonly (readonly string[])[], index: number): number {
  return rows.reduce((width, row) => Math.max(width, [...(row[index] ?? "")].length), title.length);
}

function pad(text: string, width: number, align: "right" | undefined): string {
  const space = " ".repeat(Math.max(0, width - [...text].length));
  return align === "right" ? space + text : text + space;
}
