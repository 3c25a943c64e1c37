import { isatty } from "node:tty";
import pino from "pino";
import type { Log, LogFields } from "../base/log.ts";
import { logText } from "./output/log-text.ts";

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

/** Standard error. */
const LOG_FD = 2;

/** A log through pino to standard error unless `destination` says otherwise: JSON lines, or on a terminal lines for a person. */
export function createLog({ level, destination }: LogOptions): Log {
  return new PinoLog(pino({ level, base: null }, destination ?? standardError()));
}

function standardError(): pino.DestinationStream {
  const out = pino.destination(LOG_FD);
  return isatty(LOG_FD) ? { write: (line) => void out.write(logText(line)) } : out;
}

// JSON has no bigint, and pino would throw on one in a field it does not know.
function plain(fields: LogFields): Record<string, unknown> {
  const entries = Object.entries(fields).map(([name, value]) => {
    if (typeof value === "bigint") return [name, value.toString()] as const;
    if (value instanceof Error) return [name, plainError(value)] as const;
    return [name, value] as const;
  });
  return Object.fromEntries(entries);
}

/** Causes told of one error. */
const CAUSES_MAX = 4;

/** What happened, without a stack trace: expected failures say what is wrong by themselves; of a defect, which has no code, the place is enough to find it. */
function plainError(error: Error, depth = 0): Record<string, unknown> {
  const { code } = error as { code?: unknown };
  const cause = error.cause instanceof Error && depth < CAUSES_MAX ? plainError(error.cause, depth + 1) : undefined;
  return {
    name: error.name,
    message: error.message,
    ...(code === undefined ? { at: placeOf(error.stack) } : { code }),
    ...(cause === undefined ? {} : { cause }),
  };
}

/** "folder/file.ts:line" of the innermost frame. */
function placeOf(stack: string | undefined): string | undefined {
  return /([^/\s]+\/[^/\s]+\.[a-z]+:\d+):\d+\)?$/m.exec(stack ?? "")?.[1];
}
