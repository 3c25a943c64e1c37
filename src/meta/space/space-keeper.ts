import { present } from "../../base/assert.ts";
import type { Clock, Timestamp } from "../../base/clock.ts";
import type { Timers } from "../../base/timers.ts";
import { FsError, TidemarkError } from "../../domain/errors.ts";
import type { AppId, Lsn } from "../../domain/ids.ts";
import type { RetentionPolicy } from "../../domain/retention.ts";
import type { OpenApp } from "../open-app.ts";
import type { Turns } from "../reading/turns.ts";
import { Work } from "../reading/work.ts";
import { AppSpace } from "./app-space.ts";
import { Cleaner, type CleanStep } from "./cleaner.ts";
import { Collector } from "./collector.ts";
import { DiskRoom, type DiskRoomOptions } from "./disk-room.ts";
import { gridRows } from "./grid.ts";
import {
  type Action,
  type AppUsage,
  type Bounds,
  gainOf,
  historyBytesOf,
  nextAction,
  reclaimableBytesOf,
  wasteAction,
} from "./policy.ts";
import { raiseFloor } from "./raise-floor.ts";
import { releasePins } from "./release-pins.ts";
import { applyRetention, planRetention, type RetentionPlan, releaseGrid } from "./retention.ts";
import { SegmentReader } from "./segment-contents.ts";
import { SpaceBatch } from "./space-batch.ts";
import { oldestMoment, usageOf } from "./usage.ts";

export type SpaceKeeperOptions = DiskRoomOptions & {
  /** The apps whose space is kept; all open. */
  readonly apps: () => readonly OpenApp[];
  readonly clock: Clock;
  readonly timers: Timers;
  readonly turns: Turns;
  /** The floor of an app never passes this: what a repository still has to receive. */
  readonly floorMax?: (app: OpenApp) => Lsn;
  /** How long the past is kept, where that is said; absent: as long as the bounds let it. */
  readonly retention?: {
    readonly policyOf: (app: OpenApp) => RetentionPolicy | undefined;
    /** How late it is, for what goes by age: not a clock that may just have jumped. */
    readonly now: () => Timestamp;
  };
  /** For tests: a step was just completed; it may throw, as a crash would. */
  readonly onStep?: (step: SpaceStep) => void;
};

export type SpaceStep = "raised" | "collected" | CleanStep;

/** What `status` shows of an app. */
export type AppSpaceStatus = {
  readonly liveBytes: bigint;
  readonly historyBytes: bigint;
  readonly reclaimableBytes: bigint;
  readonly oldest?: { readonly lsn: Lsn; readonly time: Timestamp };
};

/** How often it is looked whether there is something to do: a second of a fast writer is some hundred MiB. */
const CHECK_MS = 1000;

/** Wait after a run that failed, or could not gain enough. */
const RETRY_MS = 10_000;

/** Wait after a run that found the disk full: RocksDB needs some seconds to see room again. */
const NO_SPACE_RETRY_MS = 2000;

/** How often it is looked what the policies of retention say: against hours and days little. */
const RETENTION_MS = 5 * 60_000;

/** So much more history than a run left because it could not gain enough makes another worth it before its time: something was deleted. */
const GROWTH_BYTES = 2 ** 20;

/** Actions of one run: each takes a segment or raises a floor. Far more than are ever needed; a bound against going in circles. */
const ACTIONS_MAX = 10_000;

const LSN_MAX = Number.MAX_SAFE_INTEGER as Lsn;

/**
 * Keeps the journals of a data folder within their bounds: drops the oldest history, takes away segments that nothing needs, and moves what is in use out of poor ones.
 * Everything it does is a record, safe to be cut short at any point, and done in the loop that serves mounts in turns of a few milliseconds.
 */
export class SpaceKeeper {
  readonly #options: SpaceKeeperOptions;
  readonly #room: DiskRoom;
  readonly #spaces = new Map<AppId, AppSpace>();
  #abort = new AbortController();
  #running: Promise<void> | undefined;
  #cancelTimer: (() => void) | undefined;
  #started = false;
  #waitUntilMs = 0;
  #retainAtMs = 0;
  /** History there was when the last run ended without enough: with more of it, another is worth it at once. */
  #stuckBytes = 0;
  /** Segments removed by this process. */
  #removedCount = 0;
  /** Where the journals ended when the run began: the floor does not chase the run's own records. */
  #endsAtStart = new Map<AppId, Lsn>();
  #waiters: (() => void)[] = [];

  constructor(options: SpaceKeeperOptions) {
    this.#options = options;
    this.#room = new DiskRoom(options);
  }

  /** Begins: ends what an earlier process left half done, and looks again every second. */
  start(): void {
    if (this.#started) return;
    this.#started = true;
    this.#abort = new AbortController();
    this.kick();
    this.#arm();
  }

  /** Ends; what is under way stops at its next step and goes on at the next start. To be called before apps are closed. */
  async stop(): Promise<void> {
    this.#started = false;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#abort.abort();
    await this.#running?.catch(() => {});
    this.#spaces.clear();
  }

  /** Looks now whether there is something to do: the disk just was full. */
  kick(): void {
    if (!this.#started || this.#running !== undefined) return;
    this.#waitUntilMs = 0;
    this.#startRun();
  }

  /**
   * Drops history because the disk is full, and answers when a segment is gone (true: there is room), or when nothing more can be gained (false). Many
   * may wait at once.
   */
  async makeRoom(): Promise<boolean> {
    if (!this.#started) return false;
    if (this.#room.recover(this.#usages())) return true;
    if (this.#running === undefined) {
      if (!this.#isWorthARun(this.#bounds())) return false;
      this.#startRun();
    }
    const before = this.#removedCount;
    await new Promise<void>((resolve) => this.#waiters.push(resolve));
    this.#options.reserve?.take();
    return this.#removedCount > before;
  }

  /** One run, to its end: until everything is within its bounds or nothing more can be gained. Throws FsError, TidemarkError, KvError. */
  runOnce(): Promise<void> {
    // Noted in this turn: two at a time would be at the same segments.
    const before = this.#running?.catch(() => {}) ?? Promise.resolve();
    const running = before
      .then(() => this.#run())
      .finally(() => {
        if (this.#running === running) this.#running = undefined;
        this.#wake();
      });
    this.#running = running;
    return running;
  }

  /** A policy of retention was changed: it is applied now. */
  retentionChanged(): void {
    this.#retainAtMs = 0;
    this.kick();
  }

  /** What a policy would do to the app at `now`. Throws as `resolveMoment`. */
  planRetention(
    app: OpenApp,
    options: { readonly policy: RetentionPolicy; readonly now: Timestamp },
  ): Promise<RetentionPlan> {
    const floorMax = Math.min(this.#options.floorMax?.(app) ?? LSN_MAX, app.core.lastLsn) as Lsn;
    return planRetention(app, { ...options, floorMax });
  }

  get historyBytesMax(): bigint {
    return this.#room.historyBytesMax;
  }

  /** What an app's journal takes, and why. Costs a look at its list of segments. */
  status(app: OpenApp): AppSpaceStatus {
    const space = this.#space(app);
    const usage = usageOf(space, this.#floorMax(app));
    const reclaimable = Math.min(historyBytesOf(usage), reclaimableBytesOf(usage));
    const oldest = oldestMoment(space);
    return {
      liveBytes: BigInt(usage.liveBytes),
      historyBytes: BigInt(historyBytesOf(usage) - reclaimable),
      reclaimableBytes: BigInt(reclaimable),
      ...(oldest === undefined ? {} : { oldest }),
    };
  }

  #arm(): void {
    this.#cancelTimer = this.#options.timers.after(CHECK_MS, () => {
      this.#arm();
      if (this.#running !== undefined) return;
      const bounds = this.#bounds();
      const isOver = bounds.excessBytes > 0 && this.#isWorthARun(bounds);
      if (isOver || this.#isRetentionDue()) this.#startRun();
    });
  }

  #isRetentionDue(): boolean {
    return this.#options.retention !== undefined && this.#options.clock.monotonicMs() >= this.#retainAtMs;
  }

  #isWorthARun({ historyBytes }: Bounds): boolean {
    return this.#options.clock.monotonicMs() >= this.#waitUntilMs || historyBytes > this.#stuckBytes + GROWTH_BYTES;
  }

  #wake(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const wake of waiters) wake();
  }

  #startRun(): void {
    this.runOnce().catch((error: unknown) => {
      if (this.#started) this.#stuckBytes = this.#bounds().historyBytes;
      this.#waitUntilMs = this.#options.clock.monotonicMs() + (isNoSpace(error) ? NO_SPACE_RETRY_MS : RETRY_MS);
      if (error instanceof TidemarkError && error.code === "CANCELLED") return;
      this.#options.log.error("keeping the journals within their bounds failed; it is tried again", { cause: error });
    });
  }

  async #run(): Promise<void> {
    const { clock, turns } = this.#options;
    const work = new Work({ clock, turns }, { signal: this.#abort.signal });
    this.#endsAtStart = new Map(this.#options.apps().map((app) => [app.id, app.core.lastLsn]));
    for (const app of this.#options.apps()) await this.#guarded(app, (space) => this.#finish(space, work));
    const governed = this.#isRetentionDue() ? await this.#retain(work) : [];
    for (let actions = 0; actions < ACTIONS_MAX; actions++) {
      work.check();
      const action = this.#next(governed);
      if (action.do === "nothing") {
        if (!(await this.#thinGrids(work))) break;
        continue;
      }
      const app = present(
        this.#options.apps().find(({ id }) => id === action.id),
        "an open app",
      );
      await this.#guarded(app, (space) =>
        action.do === "raise" ? this.#raise(space, action.floor, work) : this.#clean(space, action, work),
      );
    }
    for (const app of this.#options.apps()) await this.#guarded(app, async (space) => new SpaceBatch(space).commit({}));
    const { excessBytes, historyBytes } = this.#bounds();
    if (excessBytes <= 0) return;
    this.#stuckBytes = historyBytes;
    this.#waitUntilMs = clock.monotonicMs() + RETRY_MS;
    this.#options.log.warn(
      "the journals are larger than they should be, but what there is can't go: it is the present, or snapshots keep it",
      { excessBytes },
    );
  }

  /** Applies the policies of retention. Answers the apps that have one: what is in no use of theirs goes, also within the bounds. */
  async #retain(work: Work): Promise<AppId[]> {
    const { retention, clock, apps, log, onStep } = this.#options;
    this.#retainAtMs = clock.monotonicMs() + RETENTION_MS;
    if (retention === undefined) return [];
    const governed: AppId[] = [];
    for (const app of apps()) {
      const policy = retention.policyOf(app);
      if (policy?.continuousMs === undefined) continue;
      governed.push(app.id);
      try {
        const options = { policy, now: retention.now(), floorMax: this.#floorMax(app) };
        await this.#guarded(app, async (space) => {
          if (!(await this.#readable(space, () => applyRetention(space, options, work)))) return;
          onStep?.("collected");
          const { floor, time } = space.floor;
          log.info("history was dropped as its policy says", { appId: app.id, floor, oldest: time.sec });
        });
      } catch (error) {
        if (work.signal?.aborted === true) throw error;
        // What keeps the disk from running full goes on.
        log.warn("a policy of retention could not be applied; it is tried again", { appId: app.id, cause: error });
      }
    }
    return governed;
  }

  /** Where the bounds are passed and nothing else can go, the older half of what grids of retention keep goes. Answers whether there was any. */
  async #thinGrids(work: Work): Promise<boolean> {
    if (this.#bounds().excessBytes <= 0) return false;
    let thinned = false;
    for (const app of this.#options.apps()) {
      const rows = gridRows(app.store);
      if (rows.length === 0) continue;
      thinned = true;
      const dropped = rows.slice(0, Math.ceil(rows.length / 2));
      await this.#guarded(app, (space) => releaseGrid(space, dropped, work));
      this.#options.log.warn("the journals are too large: moments that the policy of retention keeps are dropped", {
        appId: app.id,
        turns: dropped.length,
      });
    }
    return thinned;
  }

  /** Ends what an earlier run left half done. */
  async #finish(space: AppSpace, work: Work): Promise<void> {
    const { app } = space;
    if (space.floor.floor === 0) return;
    const removable = app.journal.segments().filter(({ segment }) => isRemovable(space, segment));
    const cleaner = this.#cleaner(space, work);
    await app.core.data.moving(async () => {
      for (const { segment, lastLsn } of removable) await cleaner.finish(segment, lastLsn);
      if (!space.isSwept) await cleaner.forgetUnused();
    });
    space.isSwept = true;
    app.core.moments.refresh();
    await releasePins(space, work);
    await this.#collect(space, work);
  }

  async #raise(space: AppSpace, floor: Lsn, work: Work): Promise<void> {
    const { log } = this.#options;
    await raiseFloor(space, floor);
    this.#options.onStep?.("raised");
    log.info("the oldest history is dropped", { appId: space.app.id, floor, oldest: space.floor.time.sec });
    await this.#collect(space, work);
  }

  async #collect(space: AppSpace, work: Work): Promise<void> {
    await this.#readable(space, () => new Collector(space, work).run());
    this.#options.onStep?.("collected");
  }

  #clean(space: AppSpace, action: Action & { do: "clean" }, work: Work): Promise<void> {
    return space.app.core.data.moving(() => this.#cleanAlone(space, action, work));
  }

  async #cleanAlone(space: AppSpace, action: Action & { do: "clean" }, work: Work): Promise<void> {
    work.check();
    const { segment, lastLsn, gainRatioMin } = action;
    if (space.app.core.data.isGone(segment)) return;
    const contents = await this.#readable(space, () => new SegmentReader(space, work).read(segment, lastLsn));
    if (contents === undefined) return;
    const { liveBytes, costBytes } = contents;
    const use = { state: "kept", liveBytes, costBytes } as const;
    space.uses.set(segment, use);
    space.counted.add(segment);
    const bytes = space.app.journal.segments().find((summary) => summary.segment === segment)?.bytes ?? 0;
    if (gainOf({ bytes, use }) < gainRatioMin * bytes || liveBytes > this.#bounds().copyBytesMax) return;
    if (!(await this.#cleaner(space, work).clean(segment, lastLsn, contents))) return;
    this.#removedCount++;
    this.#wake();
  }

  #cleaner(space: AppSpace, work: Work): Cleaner {
    const { log, onStep } = this.#options;
    return new Cleaner(space, { work, log, ...(onStep === undefined ? {} : { onStep }) });
  }

  /** Runs what reads journal records. Damaged ones are an alarm, and the app's history stays as it is. */
  async #readable<T>(space: AppSpace, read: () => Promise<T>): Promise<T | undefined> {
    try {
      return await read();
    } catch (error) {
      if (!(error instanceof TidemarkError) || error.code !== "DATA_DAMAGED") throw error;
      space.blocked = true;
      this.#options.log.alarm("a journal is damaged: its history is kept from now on, whatever space it takes", {
        appId: space.app.id,
        cause: error,
      });
      return undefined;
    }
  }

  /** After a failure what is in memory may be ahead of the rows: it is read again. */
  async #guarded(app: OpenApp, act: (space: AppSpace) => Promise<void>): Promise<void> {
    const space = this.#space(app);
    if (space.blocked) return;
    try {
      await act(space);
    } catch (error) {
      this.#spaces.delete(app.id);
      throw error;
    }
  }

  #space(app: OpenApp): AppSpace {
    let space = this.#spaces.get(app.id);
    if (space === undefined || space.app !== app) {
      space = new AppSpace(app);
      this.#spaces.set(app.id, space);
    }
    return space;
  }

  #floorMax(app: OpenApp): Lsn {
    const wanted = this.#options.floorMax?.(app) ?? LSN_MAX;
    return Math.min(wanted, this.#endsAtStart.get(app.id) ?? LSN_MAX) as Lsn;
  }

  #next(governed: readonly AppId[]): Action {
    const usages = this.#usages();
    const bounds = this.#room.bounds(usages);
    const action = nextAction(usages, bounds);
    if (action.do !== "nothing") return action;
    return wasteAction(
      usages.filter(({ id }) => governed.includes(id)),
      bounds,
    );
  }

  #usages(): AppUsage[] {
    return this.#options.apps().map((app) => usageOf(this.#space(app), this.#floorMax(app)));
  }

  #bounds(): Bounds {
    return this.#room.bounds(this.#usages());
  }
}

function isRemovable(space: AppSpace, segment: number): boolean {
  const state = space.uses.get(segment)?.state;
  return state === "gone" || state === "dead";
}

/** Whether an error of a run only means that the disk is full. */
function isNoSpace(error: unknown): boolean {
  return error instanceof FsError && error.code === "ENOSPC";
}
