import { type CallOptions, PAGE_BYTES_MAX, PAGE_ITEMS_MAX } from "../../domain/admin-call.ts";
import type {
  PlanAction,
  PlanItem,
  RestoreApi,
  RestoreInfo,
  RestoreProgress,
  RestoreRequest,
} from "../../domain/admin-restore.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { AppId, ShareId } from "../../domain/ids.ts";
import type { AppRef } from "../../domain/share-path.ts";
import type { OpenApp } from "../open-app.ts";
import type { ReadingParts } from "../reading/apps.ts";
import { contextOf } from "../reading/context.ts";
import { toTidemarkError } from "../reading/failures.ts";
import { holding } from "../reading/hold.ts";
import { Work } from "../reading/work.ts";
import { planJob, type UnderstoodJob, understand } from "./job.ts";
import { type RestoreRow, restoreRows } from "./restore-rows.ts";
import { beginRestore, RestoreRun } from "./restore-run.ts";
import { Tally } from "./tally.ts";

export type RestoreParts = ReadingParts & {
  /** 128 random bits as hex. */
  readonly newId: () => string;
  /** Shares of an app that are mounted for writing now: those are not deleted by a restore. Absent: none are. */
  readonly mountedShares?: (app: OpenApp) => ReadonlySet<ShareId>;
};

/** Fixed parts of an action, about. */
const ACTION_BYTES = 200;

/** Restores looked through for one that runs, newest first: there is at most one. */
const RUNNING_SEARCHED_MAX = 100;

/** Restore within shares, between them and between apps; one at a time in each app. */
export class Restores implements RestoreApi {
  readonly #parts: RestoreParts;
  readonly #runs = new Map<AppId, RestoreRun>();
  /** Apps in which a restore is being begun. */
  readonly #starting = new Set<AppId>();
  #closed = false;

  constructor(parts: RestoreParts) {
    this.#parts = parts;
  }

  async *plan(request: RestoreRequest, options?: CallOptions): AsyncIterable<PlanItem> {
    const understood = await understand(this.#parts, request);
    const { app, job, at } = understood;
    const plannedAt = app.core.lastLsn;
    const limitations = new Set<string>();
    const work = new Work(this.#parts, options);
    const tally = new Tally();
    const { source, steps } = await planJob(this.#parts, job, {
      app,
      plannedAt,
      mountedShares: this.#mounted(app),
      limitations,
      work,
    });
    let actions: PlanAction[] = [];
    let bytes = 0;
    const moments = [source, { core: app.core, at: plannedAt }];
    for await (const { action } of holding(moments, () => steps)) {
      tally.add(action);
      actions.push(action);
      bytes += ACTION_BYTES + action.path.length + action.otherNames.reduce((sum, name) => sum + name.length, 0);
      if (actions.length < PAGE_ITEMS_MAX && bytes < PAGE_BYTES_MAX) continue;
      yield { kind: "actions", actions };
      actions = [];
      bytes = 0;
    }
    if (actions.length > 0) yield { kind: "actions", actions };
    yield { kind: "summary", summary: tally.summary({ at, plannedAt, limitations }) };
  }

  async *execute(request: RestoreRequest, options?: CallOptions): AsyncIterable<RestoreProgress> {
    const run = await this.#start(request, options);
    const cancel = (): void => run.cancel();
    options?.signal?.addEventListener("abort", cancel, { once: true });
    try {
      if (options?.signal?.aborted === true) run.cancel();
      while (!(await run.progressed())) yield { kind: "progress", actionsDone: run.actionsDone, path: run.path };
      yield { kind: "done", result: await run.done };
    } finally {
      options?.signal?.removeEventListener("abort", cancel);
      run.cancel();
    }
  }

  async listRestores(request: { app: AppRef; countMax: number }): Promise<readonly RestoreInfo[]> {
    const { countMax } = request;
    if (!Number.isSafeInteger(countMax) || countMax < 1) {
      throw new TidemarkError("INVALID_ARGUMENT", `${countMax} is not a count: expected a whole number above 0`);
    }
    const app = await this.#parts.apps.find(request.app);
    const infos: RestoreInfo[] = [];
    for (const row of restoreRows(app.core)) {
      if (infos.length >= Math.min(countMax, PAGE_ITEMS_MAX)) break;
      infos.push(this.#info(app, row));
    }
    return infos;
  }

  /** Goes on with what a crash, or a stop of the service, cut off. Resolves when that is done; failures are logged and in the list. */
  async resumeRestores(app: OpenApp): Promise<void> {
    for (const row of runningRows(app)) {
      if (this.#closed) return;
      this.#parts.log.info("a restore goes on after a restart", { appId: app.id, restore: row.id });
      const context = { actor: row.actor, unique: 0, resent: false };
      const run = this.#run(app, row, context);
      await run.done.catch((error: unknown) => {
        this.#parts.log.error("a restore that was to go on after a restart did not reach its end", {
          appId: app.id,
          restore: row.id,
          error: String(error),
        });
      });
    }
  }

  /** Stops what runs. It goes on at the next start. */
  async close(): Promise<void> {
    this.#closed = true;
    const runs = [...this.#runs.values()];
    for (const run of runs) run.close();
    await Promise.allSettled(runs.map((run) => run.done));
  }

  async #start(request: RestoreRequest, options: CallOptions | undefined): Promise<RestoreRun> {
    const understood = await understand(this.#parts, request);
    const { app } = understood;
    if (this.#closed) throw new TidemarkError("UNAVAILABLE", "the service is stopping");
    const running = this.#runs.get(app.id);
    if (running !== undefined || this.#starting.has(app.id)) {
      const which = running === undefined ? "another restore" : `restore ${running.row.id}`;
      throw new TidemarkError("FAILED_PRECONDITION", `${which} of this app is running: wait for it, or cancel it`);
    }
    this.#starting.add(app.id);
    try {
      await this.#probe(understood, options);
      // One that could not be ended in order is ended, or done, before another begins.
      await this.resumeRestores(app);
      const context = contextOf(options);
      const row = beginRestore(
        { parts: this.#parts, app, context, mountedShares: this.#mounted(app) },
        understood,
        this.#parts.newId(),
      );
      return this.#run(app, row, context);
    } catch (error) {
      throw toTidemarkError(error, "beginning a restore");
    } finally {
      this.#starting.delete(app.id);
    }
  }

  /** Finds out whether the job can be planned at all, before anything is written. */
  async #probe({ app, job }: UnderstoodJob, options: CallOptions | undefined): Promise<void> {
    const input = {
      app,
      plannedAt: app.core.lastLsn,
      mountedShares: this.#mounted(app),
      limitations: new Set<string>(),
      work: new Work(this.#parts, options),
    };
    const { source, steps } = await planJob(this.#parts, job, input);
    const held = holding([source, { core: app.core, at: input.plannedAt }], () => steps);
    try {
      await held.next();
    } finally {
      await held.return(undefined);
    }
  }

  #run(app: OpenApp, row: RestoreRow, context: ReturnType<typeof contextOf>): RestoreRun {
    const run = new RestoreRun({ parts: this.#parts, app, context, mountedShares: this.#mounted(app) }, row);
    this.#runs.set(app.id, run);
    const forget = (): void => {
      this.#runs.delete(app.id);
    };
    run.done.then(forget, forget);
    return run;
  }

  #mounted(app: OpenApp): ReadonlySet<ShareId> {
    return this.#parts.mountedShares?.(app) ?? new Set();
  }

  #info(app: OpenApp, row: RestoreRow): RestoreInfo {
    const { id, job, place, at, startedAt, firstLsn, lastLsn, actor } = row;
    const isRunning = this.#runs.get(app.id)?.row.firstLsn === firstLsn;
    const state = row.state === "running" && !isRunning ? "interrupted" : row.state;
    const path = {
      app: this.#parts.apps.nameOf(app.id),
      ...(place.share === undefined ? {} : { share: { name: place.share } }),
      path: Buffer.from(place.path, "hex"),
    };
    return { id, kind: job.kind, state, path, at, startedAt, firstLsn, lastLsn, actor };
  }
}

/** Restores whose RESTORE_END is missing, oldest first. */
export function runningRows(app: OpenApp): RestoreRow[] {
  const rows: RestoreRow[] = [];
  let searched = 0;
  for (const row of restoreRows(app.core)) {
    if (searched++ === RUNNING_SEARCHED_MAX) break;
    if (row.state === "running") rows.push(row);
  }
  return rows.reverse();
}
