import type { Clock, Timestamp } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Timers } from "../base/timers.ts";
import { type CallOptions, PAGE_ITEMS_MAX } from "../domain/admin-call.ts";
import type { AuditEntry } from "../domain/admin-token.ts";
import type { AppId, Lsn } from "../domain/ids.ts";
import { RECORD_OP } from "../domain/record-op.ts";
import type { EngineCore } from "./core.ts";
import { SERVICE_CONTEXT } from "./open-app.ts";
import { resolveMoment } from "./reading/time.ts";
import { encodeJson } from "./rows.ts";

/** What an entry says, as its record has it (FORMAT.md, "Audit"). */
export type AuditRecord = Pick<AuditEntry, "kind" | "who" | "what" | "on" | "why"> & {
  readonly count?: number;
  readonly appId?: AppId;
};

/** An entry that was read: the app by its id. */
export type ListedAudit = Omit<AuditEntry, "app"> & { readonly appId?: AppId };

/** The same refused again within this is only counted. It doubles each time, so that somebody who tries for ever makes a record an hour. */
const REPEAT_MS = 1_000;
const REPEAT_MS_MAX = 3_600_000;

/** What was not refused for so long is told at once when it is refused again. */
const QUIET_MS = 60_000;

/** Kinds of refusals that are counted apart: far more than honest clients make. Others are counted together. */
const KINDS_MAX = 1_000;

/** All records of refusals together: so many at once, and then one in so long: 20 MB a day at the very most, whoever tries what. */
const BURST_MAX = 200;
const REFILL_MS = 1_000;

/** Characters of each field: names are at most a path; what is longer says nothing more. */
const FIELD_CHARS_MAX = 1_024;

/** Records read before others get their turn. */
const RECORDS_PER_TURN = 2_000;

type Repeated = {
  readonly record: AuditRecord;
  count: number;
  intervalMs: number;
  quietMs: number;
  stop: (() => void) | undefined;
};

export type AuditParts = {
  /** The core of the system app. */
  readonly core: EngineCore;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
};

/**
 * Who was refused what, and what administrators did: records of the service's own journal, so in order, chained and never changed. Appended like any record, no one waits for the disk: it is durable within a second.
 *
 * Refusals are bounded: the same one again (who, what and why) is counted and told later, and all together have a rate. Administrative acts are all there.
 */
export class Audit {
  readonly #parts: AuditParts;
  readonly #repeated = new Map<string, Repeated>();
  #tokens = BURST_MAX;
  #refilledAtMs: number;
  #dropped = 0;
  #notedAtMs = Number.NEGATIVE_INFINITY;

  constructor(parts: AuditParts) {
    this.#parts = parts;
    this.#refilledAtMs = parts.clock.monotonicMs();
  }

  /** Somebody was refused something; `on` is asked for only when it is written. Never throws, never waits. */
  refused({ on, ...refusal }: Omit<AuditRecord, "kind" | "count" | "on"> & { readonly on: () => string }): void {
    const key = `${refusal.who}\0${refusal.what}\0${refusal.why}`;
    const known = this.#repeated.get(key);
    if (known !== undefined) {
      known.count++;
      return;
    }
    if (this.#repeated.size >= KINDS_MAX) {
      this.#dropped++;
      return;
    }
    const record = { kind: "refused", ...refusal, on: on() } as const;
    this.#write({ ...record, count: 1 });
    this.#repeat(key, { record, count: 0, intervalMs: REPEAT_MS, quietMs: 0, stop: undefined });
  }

  /** An administrator did something, or it failed (`why`). Never throws, never waits. */
  act(act: Omit<AuditRecord, "kind" | "count">): void {
    this.#append({ kind: "act", ...act });
  }

  /** Writes what was only counted. */
  close(): void {
    for (const repeated of this.#repeated.values()) {
      repeated.stop?.();
      if (repeated.count > 0) this.#append({ ...repeated.record, count: repeated.count });
    }
    this.#repeated.clear();
    this.#noteDropped({ now: true });
  }

  /** From `since` on, oldest first. */
  async *list(
    request: { since?: Timestamp; appId?: AppId; refusedOnly: boolean },
    options?: CallOptions,
  ): AsyncGenerator<readonly ListedAudit[]> {
    const { core } = this.#parts;
    const { since } = request;
    const before = since === undefined ? 0 : (await resolveMoment(core, { kind: "time", time: since })).lsn;
    const to = core.lastLsn;
    let page: ListedAudit[] = [];
    let read = 0;
    for await (const { op, lsn, time, detail } of core.records((before + 1) as Lsn, to)) {
      options?.signal?.throwIfAborted();
      if (++read % RECORDS_PER_TURN === 0 && page.length > 0) {
        yield page;
        page = [];
      }
      if (op !== RECORD_OP.AUDIT) continue;
      const { count = 1, ...record } = JSON.parse(detail.toString("utf8")) as AuditRecord;
      if (request.refusedOnly && record.kind !== "refused") continue;
      if (request.appId !== undefined && record.appId !== request.appId) continue;
      page.push({ lsn, time, ...record, count });
      if (page.length < PAGE_ITEMS_MAX) continue;
      yield page;
      page = [];
    }
    if (page.length > 0) yield page;
  }

  /** Begins, or goes on, to wait for the same refusal. */
  #repeat(key: string, repeated: Repeated): void {
    this.#repeated.set(key, repeated);
    repeated.stop = this.#parts.timers.after(repeated.intervalMs, () => this.#due(key, repeated));
  }

  #due(key: string, repeated: Repeated): void {
    const { count, intervalMs } = repeated;
    this.#noteDropped({ now: false });
    if (count > 0) {
      this.#write({ ...repeated.record, count });
      repeated.count = 0;
      repeated.quietMs = 0;
      repeated.intervalMs = Math.min(2 * intervalMs, REPEAT_MS_MAX);
    } else repeated.quietMs += intervalMs;
    if (repeated.quietMs < QUIET_MS) this.#repeat(key, repeated);
    else this.#repeated.delete(key);
  }

  /** At most once in QUIET_MS, so that it is no way around the rate; `now`: whenever that was. */
  #noteDropped({ now }: { readonly now: boolean }): void {
    const nowMs = this.#parts.clock.monotonicMs();
    if (this.#dropped === 0 || (!now && nowMs - this.#notedAtMs < QUIET_MS)) return;
    const count = this.#dropped;
    this.#dropped = 0;
    this.#notedAtMs = nowMs;
    this.#append({
      kind: "refused",
      who: "others",
      what: "many things",
      on: "",
      why: "too many to be told apart",
      count,
    });
  }

  /** Within the rate of all refusals. */
  #write(record: AuditRecord): void {
    const nowMs = this.#parts.clock.monotonicMs();
    const refill = Math.floor((nowMs - this.#refilledAtMs) / REFILL_MS);
    if (refill > 0) {
      this.#tokens = Math.min(BURST_MAX, this.#tokens + refill);
      this.#refilledAtMs += refill * REFILL_MS;
    }
    if (this.#tokens === 0) {
      this.#dropped += record.count ?? 1;
      return;
    }
    this.#tokens--;
    this.#append(record);
  }

  #append(record: AuditRecord): void {
    const { core, log } = this.#parts;
    try {
      core.begin(SERVICE_CONTEXT).commit(RECORD_OP.AUDIT, encodeJson(bounded(record)));
    } catch (error) {
      // The disk is full, or the journal failed, which is an alarm of its own. What was decided stands.
      log.error("an entry of the audit log could not be written", { ...bounded(record), cause: error });
    }
  }
}

function bounded(record: AuditRecord): AuditRecord {
  const cut = (text: string): string => (text.length > FIELD_CHARS_MAX ? `${text.slice(0, FIELD_CHARS_MAX)}…` : text);
  return { ...record, who: cut(record.who), what: cut(record.what), on: cut(record.on), why: cut(record.why) };
}
