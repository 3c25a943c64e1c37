/** What a log line says besides its words. Plain values; a `cause` may be an Error. Never contents of files or secrets. */
export type LogFields = Readonly<Record<string, unknown>>;

/** Where a part says what happened. Never throws, never blocks; a line may be lost, so nothing depends on it. */
export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** Somebody must look: stored data is damaged or can't be made durable. Above `error`, and marked as such for machines. */
  alarm(message: string, fields?: LogFields): void;
  /** The same log, with `fields` on every line. */
  child(fields: LogFields): Log;
}

/** A log that says nothing. */
export const silentLog: Log = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  alarm() {},
  child: () => silentLog,
};

export type LogLevel = "debug" | "info" | "warn" | "error" | "alarm";
export type LogLine = { readonly level: LogLevel; readonly message: string; readonly fields: LogFields };

/** Keeps its lines, for tests. */
export class MemoryLog implements Log {
  readonly lines: LogLine[];
  readonly #fields: LogFields;

  constructor(lines: LogLine[] = [], fields: LogFields = {}) {
    this.lines = lines;
    this.#fields = fields;
  }

  debug(message: string, fields?: LogFields): void {
    this.#add("debug", message, fields);
  }

  info(message: string, fields?: LogFields): void {
    this.#add("info", message, fields);
  }

  warn(message: string, fields?: LogFields): void {
    this.#add("warn", message, fields);
  }

  error(message: string, fields?: LogFields): void {
    this.#add("error", message, fields);
  }

  alarm(message: string, fields?: LogFields): void {
    this.#add("alarm", message, fields);
  }

  child(fields: LogFields): Log {
    return new MemoryLog(this.lines, { ...this.#fields, ...fields });
  }

  /** The lines of one level. */
  at(level: LogLevel): LogLine[] {
    return this.lines.filter((line) => line.level === level);
  }

  #add(level: LogLevel, message: string, fields: LogFields = {}): void {
    this.lines.push({ level, message, fields: { ...this.#fields, ...fields } });
  }
}

/** A log for tests: keeps its lines in `lines`. */
export function memoryLog(): MemoryLog {
  return new MemoryLog();
}
