import type { Clock } from "../../base/clock.ts";
import type { Log, LogFields } from "../../base/log.ts";
import { ALARMS_MAX, type Alarm } from "../../domain/admin-status.ts";

/** A log that also keeps the newest alarms, for `tidemark status`. */
export class AlarmLog implements Log {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #alarms: Alarm[];
  readonly #fields: LogFields;

  constructor(log: Log, clock: Clock, alarms: Alarm[] = [], fields: LogFields = {}) {
    this.#log = log;
    this.#clock = clock;
    this.#alarms = alarms;
    this.#fields = fields;
  }

  /** Newest last. */
  get alarms(): readonly Alarm[] {
    return this.#alarms;
  }

  debug(message: string, fields?: LogFields): void {
    this.#log.debug(message, fields);
  }

  info(message: string, fields?: LogFields): void {
    this.#log.info(message, fields);
  }

  warn(message: string, fields?: LogFields): void {
    this.#log.warn(message, fields);
  }

  error(message: string, fields?: LogFields): void {
    this.#log.error(message, fields);
  }

  alarm(message: string, fields: LogFields = {}): void {
    const { code, appId } = { ...this.#fields, ...fields };
    this.#alarms.push({ time: this.#clock.now(), code: String(code ?? "ALARM"), app: String(appId ?? ""), message });
    if (this.#alarms.length > ALARMS_MAX) this.#alarms.shift();
    this.#log.alarm(message, fields);
  }

  child(fields: LogFields): Log {
    return new AlarmLog(this.#log.child(fields), this.#clock, this.#alarms, { ...this.#fields, ...fields });
  }
}
