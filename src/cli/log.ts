import pino from "pino";
import type { Log, LogFields } from "../base/log.ts";

/** pino's numbers: fatal is 60. An alarm is a fatal line with `alarm: true`, so that any collector can page somebody. */
class PinoLog implements Log {
  readonly #pino: pino.Logger;

  constructor(logger: pino.Logger) {
    this.#pino = logger;
  }

  debug(message: string, fields: LogFields = {}): void {
    this.#pino.debug(plain(fields), message);
  }

  info(message: string, fields: LogFields = {}): void {
    this.#pino.info(plain(fields), message);
  }

  warn(message: string, fields: LogFields = {}): void {
    this.#pino.warn(plain(fields), message);
  }

  error(message: string, fields: LogFields = {}): void {
    this.#pino.error(plain(fields), message);
  }

  alarm(message: string, fields: LogFields = {}): void {
    this.#pino.fatal({ ...plain(fields), alarm: true }, message);
  }

  child(fields: LogFields): Log {
    return new PinoLog(this.#pino.child(plain(fields)));
  }
}

export type LogOptions = {
  readonly level: "debug" | "info" | "warn" | "error";
  readonly destination?: pino.DestinationStream;
};

/** A log of JSON lines through pino, to standard error unless `destination` says otherwise. */
export function createLog({ level, destination }: LogOptions): Log {
  return new PinoLog(pino({ level, base: null }, destination ?? pino.destination(2)));
}

// JSON has no bigint, and pino would throw on one in a field it does not know.
function plain(fields: LogFields): Record<string, unknown> {
  const entries = Object.entries(fields).map(([name, value]) => {
    if (typeof value === "bigint") return [name, value.toString()] as const;
    if (value instanceof Error)
      return [name, { name: value.name, message: value.message, stack: value.stack }] as const;
    return [name, value] as const;
  });
  return Object.fromEntries(entries);
}
