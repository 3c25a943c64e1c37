import type { Log } from "../base/log.ts";
import type { Lsn } from "../domain/ids.ts";
import { RECORD_OP } from "../domain/record-op.ts";
import { CHAIN_START } from "../journal/chain.ts";
import type { RowOp } from "../journal/record.ts";
import { addToCounters, type Counters, emptyCounters } from "../meta/counters.ts";
import type { AppRepository } from "../repository/app-repository.ts";
import type { Checkpoint } from "../repository/checkpoint.ts";
import { planMerge } from "../repository/runs/plan-merge.ts";
import type { RunRef } from "../repository/runs/run-codec.ts";
import type { Seal } from "../repository/seal-codec.ts";
import type { AppDescription } from "../repository/seal-head.ts";
import { journalRecordOf, type SealRecord } from "../repository/seal-record.ts";
import {
  countersFromJson,
  countersToJson,
  encodeArchivedData,
  keptRows,
  runDataKey,
  runRowKey,
} from "./archive-rows.ts";
import type { SealDraft } from "./ship-seal.ts";

/** When a checkpoint is due: so many seals bound the requests of a recovery, so many bytes of records (their rows are most of them) what it has to go through. */
const SEALS_MAX = 64;
const RECORD_BYTES_MAX = 8 * 1024 * 1024;

/** Bytes of records that a shipper's start takes an unsealed LSN for: only to guess whether a checkpoint is due. */
const RECORD_BYTES_GUESS = 400;

/** Rows of one run before they are written, with what they weigh in memory. */
const RUN_BYTES_MAX = 24 * 1024 * 1024;
const ROW_BYTES = 200;

/** Rows handed over at a time. */
const BATCH_ROWS = 1000;

export type CheckpointWriterOptions = {
  readonly repository: AppRepository;
  readonly log: Log;
  /** Lets others in, and throws when it is time to stop. */
  readonly turn: () => Promise<void>;
};

type Latest = { readonly checkpoint: Checkpoint | null };

/**
 * Adds up what seals say: reads them back, so that a checkpoint is made of what is really in the repository, with the chain verified; lays their rows, last ones only, down as a run, and merges
 * runs as they grow. A crash leaves runs that nothing names. Memory: one seal and the rows of one run.
 */
export class CheckpointWriter {
  readonly #options: CheckpointWriterOptions;
  #latest: Latest | undefined;
  #sealCount = 0;
  #recordBytes = 0;
  #writing: Promise<boolean> | undefined;

  constructor(options: CheckpointWriterOptions) {
    this.#options = options;
  }

  /** Looks which checkpoint is the newest. `lsn`: how far seals go. */
  async start(lsn: Lsn): Promise<void> {
    const latest = await this.#options.repository.latestCheckpoint({});
    this.#latest = { checkpoint: latest?.checkpoint ?? null };
    this.#sealCount = 0;
    this.#recordBytes = (lsn - (latest?.checkpoint.to ?? 0)) * RECORD_BYTES_GUESS;
  }

  /** A seal was published. */
  shipped(draft: SealDraft): void {
    this.#sealCount += 1;
    this.#recordBytes += draft.plainBytes;
  }

  /** See ShipBackend.checkpoint. One at a time: who comes while one is written gets its answer. */
  write(options: { readonly force: boolean; readonly app: AppDescription }): Promise<boolean> {
    const isDue = this.#sealCount >= SEALS_MAX || this.#recordBytes >= RECORD_BYTES_MAX;
    if (this.#writing !== undefined) return this.#writing;
    if ((!isDue && !options.force) || this.#latest === undefined) return Promise.resolve(false);
    this.#writing = this.#write(this.#latest, options.app).finally(() => {
      this.#writing = undefined;
    });
    return this.#writing;
  }

  /** Resolves when none is being written. */
  async idle(): Promise<void> {
    await this.#writing?.catch(() => {});
  }

  /** The newest checkpoint, as it is now: pruning may have written one since, and what it dropped must not come back. */
  async #newest({ checkpoint }: Latest): Promise<Checkpoint | null> {
    const found = (await this.#options.repository.latestCheckpoint({}))?.checkpoint ?? null;
    return found === null || found.to < (checkpoint?.to ?? 0) ? checkpoint : found;
  }

  async #write(latest: Latest, app: AppDescription): Promise<boolean> {
    const checkpoint = await this.#newest(latest);
    const { repository, turn, log } = this.#options;
    const counted = { seals: this.#sealCount, bytes: this.#recordBytes };
    const rows = new RunRows(repository, { runs: checkpoint?.runs ?? [], turn });
    const counters = checkpoint === null ? emptyCounters() : countersFromJson(checkpoint.counters);
    let last: Seal["head"] | undefined;
    const after = checkpoint === null ? {} : { after: { epoch: checkpoint.epoch, sequence: checkpoint.sequence } };
    const chain = checkpoint === null ? CHAIN_START : Buffer.from(checkpoint.chain, "hex");
    const from = { lsn: checkpoint?.to ?? (0 as Lsn), chain };
    for await (const seal of repository.seals({ ...after, verify: "chain", from })) {
      await turn();
      let untilTurn = BATCH_ROWS;
      for (const record of seal.records()) {
        rows.add(record, counters);
        if (--untilTurn > 0) continue;
        untilTurn = BATCH_ROWS;
        await turn();
      }
      if (rows.isFull) await rows.flush();
      last = seal.head;
    }
    if (last === undefined) return false;
    const { epoch, sequence, to } = last;
    const written: Checkpoint = {
      appId: repository.appId,
      epoch,
      sequence,
      to,
      chain: last.chain,
      runs: await rows.finish(),
      counters: countersToJson(counters),
      app,
      floor: checkpoint?.floor ?? null,
      kept: checkpoint?.kept ?? [],
      pruning: checkpoint?.pruning,
      repairs: checkpoint?.repairs,
      lostPacks: checkpoint?.lostPacks,
      purgedPacks: checkpoint?.purgedPacks,
    };
    await repository.publishCheckpoint(written);
    this.#latest = { checkpoint: written };
    // It may have been looked at anew meanwhile.
    this.#sealCount = Math.max(0, this.#sealCount - counted.seals);
    this.#recordBytes = Math.max(0, this.#recordBytes - counted.bytes);
    log.debug("a checkpoint was written", { appId: repository.appId, lsn: to, runs: written.runs.length });
    return true;
  }
}

/** Rows on their way into runs: last value of each key. */
export class RunRows {
  readonly #repository: AppRepository;
  readonly #turn: () => Promise<void>;
  readonly #rows = new Map<string, Buffer | null>();
  #bytes = 0;
  #runs: readonly RunRef[];

  constructor(
    repository: AppRepository,
    options: { readonly runs: readonly RunRef[]; readonly turn: () => Promise<void> },
  ) {
    this.#repository = repository;
    this.#runs = options.runs;
    this.#turn = options.turn;
  }

  get isFull(): boolean {
    return this.#bytes >= RUN_BYTES_MAX;
  }

  /** Adds a sealed record's rows, and where its data are; counts them. */
  add(sealed: SealRecord, counters: Counters): void {
    const record = journalRecordOf(sealed);
    const rows = keptRows(record);
    for (const { key, value } of rows) this.put(runRowKey(key), value);
    addToCounters(counters, rows);
    if (sealed.data === null || record.op === RECORD_OP.RELOCATE) return;
    const { segment, dataStart, pieces } = sealed.data;
    this.put(runDataKey(segment, dataStart), encodeArchivedData({ dataLength: record.dataLength, pieces }));
  }

  /** Adds a row of a run. */
  put(key: Buffer, value: Buffer | null): void {
    this.#rows.set(key.toString("latin1"), value);
    this.#bytes += ROW_BYTES + key.length + (value?.length ?? 0);
  }

  /** Writes what there is as a run, over the others. */
  async flush(): Promise<void> {
    if (this.#rows.size === 0) return;
    await this.#turn();
    const run = await this.#repository.writeRun(this.#batches());
    this.#rows.clear();
    this.#bytes = 0;
    this.#runs = [run, ...this.#runs];
    for (let plan = planMerge(this.#runs); plan !== null; plan = planMerge(this.#runs)) {
      await this.#turn();
      const merged = await this.#repository.mergeRuns(this.#runs.slice(0, plan.count), plan);
      this.#runs = [merged, ...this.#runs.slice(plan.count)];
    }
  }

  /** Writes what is left. Answers all runs, newest first. */
  async finish(): Promise<readonly RunRef[]> {
    await this.flush();
    return this.#runs;
  }

  async *#batches(): AsyncGenerator<RowOp[]> {
    // Latin-1 strings compare by code unit, which is the order of the bytes.
    const keys = [...this.#rows.keys()].sort((left, right) => (left < right ? -1 : 1));
    for (let from = 0; from < keys.length; from += BATCH_ROWS) {
      await this.#turn();
      yield keys
        .slice(from, from + BATCH_ROWS)
        .map((key) => ({ key: Buffer.from(key, "latin1"), value: this.#rows.get(key) ?? null }));
    }
  }
}
