import { ByteWriter } from "../base/bytes.ts";
import type { Log } from "../base/log.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { Lsn } from "../domain/ids.ts";
import { RECORD_OP } from "../domain/record-op.ts";
import { CHAIN_START } from "../journal/chain.ts";
import type { RowOp } from "../journal/record.ts";
import type { KvOperation, KvStore } from "../kv/kv-store.ts";
import { addToCounters, type Counters, emptyCounters, encodeApplied } from "../meta/counters.ts";
import { plainKey, TABLE } from "../meta/keys.ts";
import type { AppRepository } from "../repository/app-repository.ts";
import { isDamage } from "../repository/as-damage.ts";
import type { Checkpoint } from "../repository/checkpoint.ts";
import type { FoundCheckpoint } from "../repository/latest-checkpoint.ts";
import type { SealId } from "../repository/names.ts";
import { mergeRows } from "../repository/runs/merge.ts";
import type { RunRef } from "../repository/runs/run-codec.ts";
import type { Seal } from "../repository/seal-codec.ts";
import { journalRecordOf } from "../repository/seal-record.ts";
import { ArchiveIndex, LAID_VERSION, type LaidProgress, type LaidState } from "./archive-index.ts";
import {
  countersFromJson,
  countersToJson,
  encodeArchivedData,
  keptRows,
  RUN_DATA,
  RUN_ROW,
  runDataKey,
} from "./archive-rows.ts";
import { floorOperation } from "./laid-floor.ts";

/** Rows of one batch of the KV: RocksDB's cost per batch vanishes, memory stays small. */
const BATCH_BYTES_MAX = 4 * 1024 * 1024;
const BATCH_ROWS_MAX = 20_000;

/** Rough memory of an operation beside its bytes. */
const OPERATION_BYTES = 100;

export type MaterialiseProgress = {
  readonly phase: "checkpoint" | "seals";
  readonly rowCount: number;
  readonly rowCountTotal: number | undefined;
  readonly lsn: Lsn;
};

export type MaterialiseOptions = {
  readonly app: AppRepository;
  readonly kv: KvStore;
  /** The app's number in the KV. Its rows belong to this function. */
  readonly slot: number;
  readonly log: Log;
  /** Takes the runs of a checkpoint below the rows of `kv`: then they are not laid down. */
  readonly below?: { use(runs: readonly RunRef[]): Promise<void> };
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: MaterialiseProgress) => void;
};

export type Materialised = LaidState & {
  readonly firstLsn: Lsn;
  /** Why the newest seals could not be read, if so: the app is as it was before them. */
  readonly cutShort: Error | undefined;
};

/**
 * Lays the rows of an app in a repository down in the KV: latest checkpoint, then the seals after it, in order; and where its data are. Goes on where an earlier call was
 * cut off or what it reached ended, if the repository's line goes on from there; else it begins again. Every record was part of the chain, and of a line of seals without a gap; where a
 * seal is damaged or missing it ends before that, with an alarm. Nothing is durable until the caller syncs the KV. Throws TidemarkError and BlobError of reading the repository, CANCELLED, KvError.
 */
export async function materialise(options: MaterialiseOptions): Promise<Materialised> {
  const index = new ArchiveIndex(options.kv, options.slot);
  const progress = index.progress();
  if (progress?.tag === options.app.tag) {
    try {
      await options.below?.use(index.runs());
      return await new Materialiser(options, index).run(progress);
    } catch (error) {
      if (!mayComeFromBefore(error)) throw error;
      options.log.warn("what was laid down of a repository earlier doesn't fit it: beginning again", { cause: error });
    }
  }
  // The latest checkpoint, or one before, or none: the seals alone are enough while they begin with the first record.
  for (let lsnAtMost: Lsn | undefined, tries = 0; ; tries++) {
    await index.clear();
    try {
      return await new Materialiser(options, index, tries < CHECKPOINTS_TRIED_MAX ? lsnAtMost : NO_CHECKPOINT).run(
        undefined,
      );
    } catch (error) {
      if (!(error instanceof UnusableCheckpoint)) throw error;
      options.log.alarm("a checkpoint of an app is damaged: an older one and more seals are read", {
        cause: error.cause,
      });
      lsnAtMost = (error.lsn - 1) as Lsn;
    }
  }
}

/** Checkpoints that may be damaged before seals alone are tried. */
const CHECKPOINTS_TRIED_MAX = 8;

/** Oldest seals that may be damaged before it is given up to find one. */
const SEALS_TRIED_MAX = 16;

/** No checkpoint is of a record before the first. */
const NO_CHECKPOINT = -1 as Lsn;

/** The runs of the checkpoint at `lsn` can't be read. */
class UnusableCheckpoint extends Error {
  readonly lsn: Lsn;

  constructor(lsn: Lsn, cause: unknown) {
    super("a checkpoint can't be read", { cause });
    this.lsn = lsn;
  }
}

/** What was reached is not of the line any more, or what follows it is gone: a newer checkpoint may have all of it. */
function mayComeFromBefore(error: unknown): boolean {
  if (error instanceof UnusableCheckpoint) return true;
  if (!(error instanceof TidemarkError)) return false;
  return error.code === "REPOSITORY_DAMAGED" || error.code === "FAILED_PRECONDITION";
}

class Materialiser {
  readonly #options: MaterialiseOptions;
  readonly #index: ArchiveIndex;
  /** Only checkpoints up to it are looked at; undefined: all. */
  readonly #lsnAtMost: Lsn | undefined;
  #operations: KvOperation[] = [];
  #operationBytes = 0;
  #rowCount = 0;
  #counters: Counters = emptyCounters();
  #cutShort: Error | undefined;

  constructor(options: MaterialiseOptions, index: ArchiveIndex, lsnAtMost?: Lsn) {
    this.#options = options;
    this.#index = index;
    this.#lsnAtMost = lsnAtMost;
  }

  async run(progress: LaidProgress | undefined): Promise<Materialised> {
    const before = progress?.reached;
    const from = before === undefined ? await this.#layCheckpoint(progress?.runs) : await this.#lookAtFloor(before);
    const isNew = before === undefined;
    const reached = await this.#laySeals(from, isNew);
    const firstLsn = reached.firstLsn ?? (await this.#firstLsn(reached));
    const laid = { ...reached, firstLsn };
    this.#add(this.#index.rowOperation(plainKey(TABLE.APPLIED), appliedRow(laid)));
    this.#add(this.#index.rowOperation(CHAIN_KEY, chainRow(laid)));
    await this.#flush({ reached: laid });
    return { ...laid, cutShort: this.#cutShort };
  }

  /** The rows of the latest checkpoint, if there is one; of the same one as before behind the key that was reached. */
  async #layCheckpoint(begun: LaidProgress["runs"]): Promise<LaidState> {
    const { app } = this.#options;
    const latest = await app.latestCheckpoint({ lsnAtMost: this.#lsnAtMost });
    if (begun !== undefined && begun.checkpoint !== latest?.name) await this.#index.clear();
    if (latest === null) return NOTHING;
    await (this.#options.below === undefined ? this.#layRuns(latest, begun) : this.#useRuns(latest.checkpoint));
    const { name, checkpoint } = latest;
    const reached = { ...(await this.#stateOf(latest)), checkpoint: name };
    // The floor's row needs the time index to be there.
    await this.#write([]);
    this.#addFloor(checkpoint);
    await this.#flush({ reached });
    return reached;
  }

  async #useRuns({ runs, to }: Checkpoint): Promise<void> {
    try {
      await this.#options.below?.use(runs);
    } catch (error) {
      throw isDamage(error) ? new UnusableCheckpoint(to, error) : error;
    }
    this.#add(this.#index.runsOperation(runs));
  }

  async #layRuns({ name, checkpoint }: FoundCheckpoint, begun: LaidProgress["runs"]): Promise<void> {
    const { onProgress } = this.#options;
    const from = begun?.checkpoint === name ? Buffer.from(begun.after, "hex") : undefined;
    const rowCountTotal = checkpoint.runs.reduce((sum, run) => sum + run.rows, 0);
    let last: Buffer | undefined;
    for await (const rows of this.#rowsOf(checkpoint, from)) {
      this.#check();
      for (const { key, value } of rows) {
        if (value !== null) this.#layRow(key, value);
        last = key;
      }
      if (!this.#isFull() || last === undefined) continue;
      await this.#flush({ runs: { checkpoint: name, after: last.toString("hex") } });
      onProgress?.({ phase: "checkpoint", rowCount: this.#rowCount, rowCountTotal, lsn: checkpoint.to });
    }
  }

  async *#rowsOf({ runs, to }: Checkpoint, from: Buffer | undefined): AsyncGenerator<readonly RowOp[]> {
    const { app } = this.#options;
    const sources = runs.map((run) => app.openRun(run).rows(from === undefined ? {} : { from }));
    try {
      yield* mergeRows(sources, { dropDeleted: true });
    } catch (error) {
      throw isDamage(error) ? new UnusableCheckpoint(to, error) : error;
    }
  }

  #layRow(key: Buffer, value: Buffer): void {
    if (key[0] === RUN_ROW) this.#add(this.#index.rowOperation(key.subarray(1), value));
    else if (key[0] === RUN_DATA) this.#add(this.#index.dataOperation(key, value));
    else throw new TidemarkError("DATA_DAMAGED", `a run has a row of the unknown kind ${key[0]}`);
  }

  async #stateOf({ checkpoint }: { readonly checkpoint: Checkpoint }): Promise<LaidState> {
    const { epoch, sequence, to, chain, app, floor, pruning } = checkpoint;
    const counters = countersToJson(countersFromJson(checkpoint.counters));
    const pruned = pruning?.count ?? 0;
    const state = { lsn: to, chain, counters, app, checkpoint: undefined, floor: floor?.lsn ?? (0 as Lsn), pruned };
    const id = { epoch, sequence };
    // The seal whose end the checkpoint is of, if it is there: the next one's line begins with it. A base has none.
    if (sequence === 0) return { ...state, seal: id, time: undefined };
    const seal = await this.#readable(id);
    if (seal === undefined) return { ...state, seal: id, time: undefined };
    const { head, hash } = seal;
    if (head.to !== to || head.chain !== chain)
      throw new TidemarkError("DATA_DAMAGED", `a checkpoint is of record ${to}, its seal ends with record ${head.to}`);
    return { ...state, seal: { ...id, hash: hash.toString("hex") }, time: head.lastTime };
  }

  /** A newer checkpoint may say that old moments are not kept any more. */
  async #lookAtFloor(reached: LaidState): Promise<LaidState> {
    const { app } = this.#options;
    const newest = (await app.checkpoints()).at(-1)?.name;
    if (newest === undefined || newest === reached.checkpoint) return reached;
    const latest = await app.latestCheckpoint();
    if (latest === null) return reached;
    // Places of data are other ones then, and rows that are gone can be told from what is there only by all of it.
    if ((latest.checkpoint.pruning?.count ?? 0) !== (reached.pruned ?? 0))
      throw new TidemarkError("FAILED_PRECONDITION", "the app was pruned since its rows were laid down");
    this.#addFloor(latest.checkpoint);
    const { firstLsn: _, ...rest } = reached;
    return { ...rest, checkpoint: newest, floor: latest.checkpoint.floor?.lsn ?? reached.floor };
  }

  #addFloor({ floor, kept }: Checkpoint): void {
    const { kv, slot } = this.#options;
    if (floor === null) return;
    this.#add(floorOperation({ kv, slot, index: this.#index, floor }));
    this.#add(this.#index.keptOperation(kept));
  }

  async #laySeals(from: LaidState, isNew: boolean): Promise<LaidState> {
    const { app, log } = this.#options;
    let reached = from;
    this.#counters = countersFromJson(reached.counters);
    const start = { lsn: reached.lsn, chain: Buffer.from(reached.chain, "hex") };
    const walk = app.seals({ ...(reached === NOTHING ? {} : { after: reached.seal }), verify: "chain", from: start });
    for (;;) {
      let next: IteratorResult<Seal, void>;
      try {
        next = await walk.next();
      } catch (error) {
        if (!isNew || reached.lsn === 0 || !isDamage(error)) throw error;
        log.alarm("an app's newest seals can't be read: it is as it was before them", {
          lsn: reached.lsn,
          cause: error,
        });
        this.#cutShort = error;
        return reached;
      }
      if (next.done === true) return reached;
      reached = await this.#laySeal(next.value, reached);
    }
  }

  async #laySeal(seal: Seal, before: LaidState): Promise<LaidState> {
    const { head } = seal;
    for (const sealed of seal.records()) {
      const record = journalRecordOf(sealed);
      const rows = keptRows(record);
      for (const { key, value } of rows) this.#add(this.#index.rowOperation(key, value));
      if (sealed.data !== null && record.op !== RECORD_OP.RELOCATE) {
        const { segment, dataStart, pieces } = sealed.data;
        const value = encodeArchivedData({ dataLength: record.dataLength, pieces });
        this.#add(this.#index.dataOperation(runDataKey(segment, dataStart), value));
      }
      addToCounters(this.#counters, rows);
      if (!this.#isFull()) continue;
      // Between two records the rows are those of a moment; how far they are is told with the seal's last, up to which it would be laid again.
      await this.#write([]);
    }
    const { epoch, sequence, to, chain, lastTime, app } = head;
    const reached = {
      ...before,
      seal: { epoch, sequence, hash: seal.hash.toString("hex") },
      lsn: to,
      chain,
      time: lastTime,
      counters: countersToJson(this.#counters),
      app,
    };
    this.#add(this.#index.rowOperation(plainKey(TABLE.APPLIED), appliedRow(reached)));
    await this.#flush({ reached });
    this.#options.onProgress?.({ phase: "seals", rowCount: this.#rowCount, rowCountTotal: undefined, lsn: to });
    this.#check();
    return reached;
  }

  /** Of the oldest seal that can be read and from which all are there. */
  async #firstLsn({ lsn }: LaidState): Promise<Lsn> {
    const { app, log } = this.#options;
    const none = (lsn + 1) as Lsn;
    try {
      const line = await app.line();
      let id = line.next(null);
      for (let tries = 0; id !== undefined && tries < SEALS_TRIED_MAX; tries++) {
        const seal = await this.#readable(id);
        if (seal !== undefined) return Math.min(seal.head.from, none) as Lsn;
        id = line.next(id);
      }
    } catch (error) {
      if (!isDamage(error)) throw error;
      log.alarm("which old records are in the repository can't be found out: its oldest seals are damaged or missing", {
        cause: error,
      });
    }
    return none;
  }

  /** Undefined: it is damaged, and the alarm is raised. */
  async #readable(id: SealId): Promise<Seal | undefined> {
    try {
      return await this.#options.app.readSeal(id);
    } catch (error) {
      if (!isDamage(error)) throw error;
      this.#options.log.alarm("a seal in the repository is damaged or missing: its records can't be read", {
        cause: error,
      });
      return undefined;
    }
  }

  #add(operation: KvOperation): void {
    this.#operations.push(operation);
    this.#operationBytes +=
      OPERATION_BYTES + operation.key.length + (operation.type === "put" ? operation.value.length : 0);
  }

  #isFull(): boolean {
    return this.#operations.length >= BATCH_ROWS_MAX || this.#operationBytes >= BATCH_BYTES_MAX;
  }

  /** Writes what is there, with how far that is, in one batch. */
  async #flush(progress: Pick<LaidProgress, "runs" | "reached">): Promise<void> {
    const { tag } = this.#options.app;
    await this.#write([this.#index.progressOperation({ tag, version: LAID_VERSION, ...progress })]);
  }

  async #write(more: readonly KvOperation[]): Promise<void> {
    this.#rowCount += this.#operations.length;
    await this.#options.kv.batch([...this.#operations, ...more]);
    this.#operations = [];
    this.#operationBytes = 0;
  }

  #check(): void {
    if (this.#options.signal?.aborted === true) throw new TidemarkError("CANCELLED", "the recovery was interrupted");
  }
}

const NOTHING: LaidState = {
  seal: { epoch: 0, sequence: 0 },
  lsn: 0 as Lsn,
  chain: CHAIN_START.toString("hex"),
  time: undefined,
  counters: countersToJson(emptyCounters()),
  app: undefined,
  checkpoint: undefined,
  floor: 0 as Lsn,
};

/** Where the chain of an archive stands in table `H`: before all segments of the folder, so that it goes on from there. */
const CHAIN_KEY = plainKey(TABLE.CHAIN, Buffer.alloc(8));

function chainRow({ lsn, chain }: LaidState): Buffer {
  return new ByteWriter(40).u64(lsn).bytes(Buffer.from(chain, "hex")).finish();
}

function appliedRow({ lsn, counters }: LaidState): Buffer {
  return encodeApplied(lsn, countersFromJson(counters));
}
