import type { Log, LogFields } from "../../../base/log.ts";

/** Lines on stdout for the tests' processes: "level message {fields}". */
export const consoleLog: Log = {
  debug: (message, fields) => say("debug", message, fields),
  info: (message, fields) => say("info", message, fields),
  warn: (message, fields) => say("warn", message, fields),
  error: (message, fields) => say("error", message, fields),
  alarm: (message, fields) => say("alarm", message, fields),
  child: () => consoleLog,
};

function say(level: string, message: string, fields: LogFields = {}): void {
  console.log(`${level} ${message} ${JSON.stringify(fields)}`);
}
