import type { LogRecord, LogRequest } from "../../domain/admin-reading.ts";
import type { Lsn } from "../../domain/ids.ts";
import type { EngineCore } from "../core.ts";
import type { LogDescriber } from "./log-record.ts";
import type { Work } from "./work.ts";

/** Records read together when going backwards, where the journal can only be read forwards: 1 MiB of log at usual lengths. */
const BACK_RECORDS = 512;

/** Records delivered together. */
const BATCH_RECORDS = 100;

export type LogRange = { readonly from: Lsn; readonly to: Lsn };

/** The records of `range` (both ends included) that are wanted, in the order asked for. Ends when the caller ends it. */
export function logRecords(
  core: EngineCore,
  describer: LogDescriber,
  options: {
    readonly range: LogRange;
    readonly order: LogRequest["order"];
    readonly follow: boolean;
    readonly work: Work;
  },
): AsyncGenerator<readonly LogRecord[]> {
  const { range, order, follow, work } = options;
  if (order === "newest-first") return backwards(core, describer, range, work);
  return follow ? following(core, describer, range.from, work) : forwards(core, describer, range, work);
}

/** The parts of a range whose records are kept, oldest first. */
function keptRanges(core: EngineCore, range: LogRange): LogRange[] {
  const ranges: LogRange[] = [];
  for (const kept of core.recordRanges()) {
    const from = Math.max(range.from, kept.from) as Lsn;
    const to = Math.min(range.to, kept.to) as Lsn;
    if (from <= to) ranges.push({ from, to });
  }
  return ranges;
}

async function* forwards(
  core: EngineCore,
  describer: LogDescriber,
  range: LogRange,
  work: Work,
): AsyncGenerator<readonly LogRecord[]> {
  for (const { from, to } of keptRanges(core, range)) {
    let batch: LogRecord[] = [];
    for await (const record of core.records(from, to)) {
      if (work.due) await work.pause();
      const described = describer.describe(record);
      if (described === undefined || batch.push(described) < BATCH_RECORDS) continue;
      yield batch;
      batch = [];
    }
    if (batch.length > 0) yield batch;
  }
}

async function* backwards(
  core: EngineCore,
  describer: LogDescriber,
  range: LogRange,
  work: Work,
): AsyncGenerator<readonly LogRecord[]> {
  for (const { from, to } of keptRanges(core, range).reverse()) {
    for (let last = to; last >= from; ) {
      const first = Math.max(from, last - BACK_RECORDS + 1) as Lsn;
      const batch: LogRecord[] = [];
      for await (const record of core.records(first, last)) {
        if (work.due) await work.pause();
        const described = describer.describe(record);
        if (described !== undefined) batch.push(described);
      }
      if (batch.length > 0) yield batch.reverse();
      last = (first - 1) as Lsn;
    }
  }
}

async function* following(
  core: EngineCore,
  describer: LogDescriber,
  from: Lsn,
  work: Work,
): AsyncGenerator<readonly LogRecord[]> {
  for (let next = from; ; ) {
    const last = core.lastLsn;
    if (last >= next) {
      yield* forwards(core, describer, { from: next, to: last }, work);
      next = (last + 1) as Lsn;
      continue;
    }
    // What is there goes out before the wait.
    yield [];
    await nextRecord(core, next, work);
  }
}

/** Resolves when record `lsn` is in the journal. Rejects with CANCELLED. */
async function nextRecord(core: EngineCore, lsn: Lsn, work: Work): Promise<void> {
  work.check();
  const { signal } = work;
  await new Promise<void>((resolve) => {
    if (core.lastLsn >= lsn) return resolve();
    const end = (): void => {
      stop();
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const stop = core.onCommit(end);
    signal?.addEventListener("abort", end, { once: true });
  });
  work.check();
}
