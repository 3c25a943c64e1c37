import type { Timestamp } from "../../base/clock.ts";
import type { Actor } from "../../domain/actor.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { Lsn } from "../../domain/ids.ts";
import type { JournalRecord } from "../../journal/record.ts";
import type { EngineCore } from "../core.ts";

/** What a record says besides its rows. */
export type RecordHead = {
  readonly lsn: Lsn;
  readonly time: Timestamp;
  readonly op: number;
  readonly actor: Actor;
  readonly detail: Buffer;
};

/** Records read together when neighbours are asked for: a piece of work by one process is mostly one such block. */
const BLOCK_RECORDS = 64;

/** Heads kept: 64 blocks. */
const HEADS_MAX = 4096;

/** The record `lsn`. Throws OUT_OF_HISTORY when it is not kept any more, DATA_DAMAGED. */
export async function recordAt(core: EngineCore, lsn: Lsn): Promise<JournalRecord> {
  for await (const record of core.records(lsn, lsn)) return record;
  throw new TidemarkError("INTERNAL", `record ${lsn} was not delivered`);
}

/** Heads of records, mostly asked for from the newest to the oldest: neighbours are read together and kept. */
export class RecordHeads {
  readonly #core: EngineCore;
  readonly #heads = new Map<number, RecordHead>();
  #previous = 0;

  constructor(core: EngineCore) {
    this.#core = core;
  }

  /** Throws OUT_OF_HISTORY, DATA_DAMAGED. */
  async at(lsn: Lsn): Promise<RecordHead> {
    const known = this.#heads.get(lsn);
    const isNeighbour = Math.abs(this.#previous - lsn) < BLOCK_RECORDS;
    this.#previous = lsn;
    if (known !== undefined) return known;
    if (this.#heads.size > HEADS_MAX) this.#heads.clear();
    const first = isNeighbour ? Math.max(1, lsn - BLOCK_RECORDS + 1, this.#firstKept(lsn)) : lsn;
    for await (const record of this.#core.records(first as Lsn, lsn)) {
      const { time, op, actor, detail } = record;
      this.#heads.set(record.lsn, { lsn: record.lsn, time, op, actor, detail: Buffer.from(detail) });
    }
    return this.#heads.get(lsn) ?? recordAt(this.#core, lsn);
  }

  // The segment before may have been removed.
  #firstKept(lsn: Lsn): number {
    return this.#core.recordRanges().find(({ to }) => lsn <= to)?.from ?? lsn;
  }
}
