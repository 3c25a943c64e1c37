import type { RestoreResult } from "../../domain/admin-restore.ts";
import { textFromBytes } from "../../domain/byte-text.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { Lsn, ShareId } from "../../domain/ids.ts";
import type { RequestContext } from "../../domain/metadata-api.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import { PENDING_BYTES_MAX } from "../engine.ts";
import type { OpenApp } from "../open-app.ts";
import type { ReadingParts } from "../reading/apps.ts";
import { toTidemarkError } from "../reading/failures.ts";
import { holdMoments } from "../reading/hold.ts";
import { addSnapshot, hasSnapshot } from "../reading/snapshot-rows.ts";
import { timeOfLsn } from "../reading/time.ts";
import { cancelled, Work } from "../reading/work.ts";
import { encodeJson } from "../rows.ts";
import { Carrier } from "./carrier.ts";
import { planJob, type UnderstoodJob } from "./job.ts";
import { addLimbo, emptyLimbo } from "./limbo.ts";
import { dropStepsDone, putRestoreRow, type RestoreRow, restoreRow, stepsDone } from "./restore-rows.ts";
import type { Step } from "./step.ts";
import { Tally } from "./tally.ts";

/** How often a waiting caller is told at least: half of the promised second. */
const NOTICE_MS = 500;

/** Path characters in a bracketing record: for people; the whole path is in the row. */
const PATH_SHOWN_MAX = 1000;

/** Why a run is to stop before its end: `cancel` ends it, `close` lets it go on at the next start. */
type Stop = "cancel" | "close";

export type RunOptions = {
  readonly parts: ReadingParts;
  readonly app: OpenApp;
  readonly context: RequestContext;
  readonly mountedShares: ReadonlySet<ShareId>;
};

/** Writes the RESTORE_BEGIN: from here on the restore is there, whatever happens. Throws FsError. */
export function beginRestore(options: RunOptions, understood: UnderstoodJob, id: string): RestoreRow {
  const { app, context } = options;
  const { job, at, place } = understood;
  // From here on the row keeps the moment, whatever becomes of the history around it.
  if (job.kind === "undo" || job.sourceApp === app.id) app.core.moments.require(at.lsn);
  const tx = app.core.begin(context);
  const limbo = addLimbo(tx);
  const startedAt = { sec: tx.time.sec, nsec: tx.time.nsec };
  const snapshot = `restore-${new Date(tx.time.sec * 1000).toISOString().slice(0, 19).replace(/[-:]/g, "")}-${id.slice(0, 8)}`;
  const row: RestoreRow = {
    id,
    job,
    state: "running",
    place,
    at,
    startedAt,
    firstLsn: tx.lsn,
    lastLsn: 0 as Lsn,
    actor: context.actor,
    limbo,
    snapshot,
  };
  putRestoreRow(tx, row);
  tx.commit(RECORD_OP.RESTORE_BEGIN, bracketDetail(row));
  return row;
}

function bracketDetail(row: RestoreRow): Buffer {
  const path = textFromBytes(Buffer.from(row.place.path, "hex")).slice(0, PATH_SHOWN_MAX);
  const share = row.place.share === undefined ? {} : { share: row.place.share };
  const mode = row.job.kind === "restore" ? { mode: row.job.mode } : {};
  return encodeJson({ id: row.id, kind: row.job.kind, state: row.state, ...share, path, at: row.at.lsn, ...mode });
}

/** One restore at work, from its RESTORE_BEGIN to its RESTORE_END. Goes on by itself; whoever waits for it is told of its progress. */
export class RestoreRun {
  readonly #options: RunOptions;
  readonly #row: RestoreRow;
  readonly #abort = new AbortController();
  readonly #tally = new Tally();
  readonly #limitations = new Set<string>();
  readonly done: Promise<RestoreResult>;
  #stop: Stop | undefined;
  #ended = false;
  #path: Buffer = Buffer.alloc(0);
  #noticedMs: number;
  #waiter: (() => void) | undefined;

  constructor(options: RunOptions, row: RestoreRow) {
    this.#options = options;
    this.#row = row;
    this.#noticedMs = options.parts.clock.monotonicMs();
    this.done = this.#run().finally(() => {
      this.#ended = true;
      this.#waiter?.();
    });
    // Whoever is interested takes it from `done`; a failure nobody waits for is in the row.
    this.done.catch(() => {});
  }

  get row(): RestoreRow {
    return this.#row;
  }

  get actionsDone(): number {
    return this.#tally.count;
  }

  get path(): Buffer {
    return this.#path;
  }

  /** Resolves when there is progress to be told, or with true when the run has ended. One waiter. */
  async progressed(): Promise<boolean> {
    if (!this.#ended) await new Promise<void>((resolve) => (this.#waiter = resolve));
    return this.#ended;
  }

  /** Stops after the action under way; the rest stays as it is. */
  cancel(): void {
    this.#stopBy("cancel");
  }

  /** Stops now; the next start goes on with it. */
  close(): void {
    this.#stopBy("close");
  }

  #stopBy(stop: Stop): void {
    if (this.#ended) return;
    this.#stop ??= stop;
    this.#abort.abort();
  }

  async #run(): Promise<RestoreResult> {
    const { app } = this.#options;
    try {
      await this.#carryOutAll();
      return await this.#end("done");
    } catch (error) {
      if (this.#stop !== "close") await this.#interrupted();
      throw toTidemarkError(error, `restoring in app ${app.id}`);
    }
  }

  async #carryOutAll(): Promise<void> {
    const { parts, app, context, mountedShares } = this.#options;
    const { firstLsn, job } = this.#row;
    const { clock } = parts;
    // Comparing trees takes time without a record: whoever waits is told at each pause.
    const turns = {
      next: () => {
        this.#notice();
        return parts.turns.next();
      },
    };
    const work = new Work({ clock, turns }, { signal: this.#abort.signal });
    const input = { app, plannedAt: (firstLsn - 1) as Lsn, mountedShares, limitations: this.#limitations, work };
    const { source, identity, steps } = await planJob(parts, job, input);
    const carrier = new Carrier({ core: app.core, source, restore: this.#row, context, work, identity });
    const skipped = stepsDone(app.core, firstLsn);
    const release = holdMoments([source, { core: app.core, at: input.plannedAt }]);
    try {
      for await (const step of steps) {
        work.check();
        const index = this.#tally.count;
        if (index < skipped) carrier.skip(step, index);
        else await this.#carryOut(carrier, step, index);
        this.#tally.add(step.action);
        this.#path = step.action.path;
        if (work.due) await work.pause();
      }
      await this.#paced(carrier.finish());
    } finally {
      await steps.return(undefined);
      release();
    }
  }

  async #carryOut(carrier: Carrier, step: Step, index: number): Promise<void> {
    if (index === 0) await this.#addSnapshot();
    await this.#paced(carrier.carryOut(step, index));
  }

  /** Runs work that yields between records, at the applier's pace. */
  async #paced(work: AsyncGenerator<void>): Promise<void> {
    for await (const _ of work) {
      if (this.#stop !== undefined) throw cancelled();
      await this.#waitForRoom();
      this.#notice();
    }
    await this.#waitForRoom();
    this.#notice();
  }

  /** Names the moment before the restore. */
  async #addSnapshot(): Promise<void> {
    const { app, context } = this.#options;
    const { firstLsn, snapshot } = this.#row;
    const lsn = (firstLsn - 1) as Lsn;
    const time = await timeOfLsn(app.core, lsn);
    if (time === undefined || hasSnapshot(app.core, snapshot)) return;
    addSnapshot(app.core, { name: snapshot, automatic: true, of: { lsn, time } }, context);
  }

  /** As the engine's writers: nobody runs away from the applier. */
  async #waitForRoom(): Promise<void> {
    const { store, applier, journal, core } = this.#options.app;
    while (store.pendingBytes > PENDING_BYTES_MAX) {
      if (applier.failed !== undefined)
        throw new TidemarkError("UNAVAILABLE", "rows can't be written to the key-value store: see `tidemark status`");
      const next = applier.nextBatch();
      await journal.sync(core.lastLsn);
      await next;
    }
  }

  #notice(): void {
    const nowMs = this.#options.parts.clock.monotonicMs();
    if (nowMs - this.#noticedMs < NOTICE_MS) return;
    this.#noticedMs = nowMs;
    const waiter = this.#waiter;
    this.#waiter = undefined;
    waiter?.();
  }

  /** What was done stays, to be undone if anybody wants. If not even that can be written, the next start goes on. */
  async #interrupted(): Promise<void> {
    const { log } = this.#options.parts;
    try {
      await this.#end("interrupted");
    } catch (error) {
      log.error("a restore could not be ended in order; it goes on when the service starts again", {
        restore: this.#row.id,
        error: String(error),
      });
    }
  }

  async #end(state: "done" | "interrupted"): Promise<RestoreResult> {
    const { parts, app, context } = this.#options;
    const { core } = app;
    // What was taken away ends even when the caller is gone; only closing the service leaves it for later.
    const work = new Work(parts);
    for (const _ of emptyLimbo(core, this.#row.limbo, context)) {
      await this.#waitForRoom();
      this.#notice();
      if (work.due) await work.pause();
      if (this.#stop === "close")
        throw new TidemarkError("UNAVAILABLE", "the service is stopping: the restore goes on at its next start");
    }
    const lastLsn = endRecord(core, { ...this.#row, state }, context);
    await app.journal.sync(core.lastLsn);
    const { id, firstLsn, snapshot, at } = this.#row;
    const plannedAt = (firstLsn - 1) as Lsn;
    const summary = this.#tally.summary({ at, plannedAt, limitations: this.#limitations });
    return { restoreId: id, ...(hasSnapshot(core, snapshot) ? { snapshot } : {}), firstLsn, lastLsn, summary };
  }
}

/** The RESTORE_END: limbo goes, and an undo is noted at what it took back. */
function endRecord(core: OpenApp["core"], row: RestoreRow, context: RequestContext): Lsn {
  const tx = core.begin(context);
  tx.remove(row.limbo);
  dropStepsDone(tx, row.firstLsn);
  putRestoreRow(tx, { ...row, lastLsn: tx.lsn });
  if (row.job.kind === "undo" && row.state === "done") {
    const undone = restoreRow(core, row.job.of);
    if (undone !== undefined) putRestoreRow(tx, { ...undone, state: "undone" });
    // Who takes an undo back has the first restore again.
    const again = undone?.job.kind === "undo" ? restoreRow(core, undone.job.of) : undefined;
    if (again !== undefined) putRestoreRow(tx, { ...again, state: "done" });
  }
  return tx.commit(RECORD_OP.RESTORE_END, bracketDetail(row), { useReserve: true });
}
