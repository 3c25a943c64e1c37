import { present } from "../../base/assert.ts";
import type { Clock, Timestamp } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Timers } from "../../base/timers.ts";
import { FsError, TidemarkError } from "../../domain/errors.ts";
import type { AppId, Lsn } from "../../domain/ids.ts";
import type { DiskSpace, OpenApp } from "../open-app.ts";
import type { Turns } from "../reading/turns.ts";
import { Work } from "../reading/work.ts";
import { AppSpace } from "./app-space.ts";
import { Cleaner, type CleanStep, RESERVE_COPY_BYTES_MAX } from "./cleaner.ts";
import { Collector } from "./collector.ts";
import { type Action, type Bounds, gainOf, historyBytesOf, nextAction, reclaimableBytesOf } from "./policy.ts";
import { raiseFloor } from "./raise-floor.ts";
import { releasePins } from "./release-pins.ts";
import { SegmentReader } from "./segment-contents.ts";
import { SpaceBatch } from "./space-batch.ts";
import { oldestMoment, usageOf } from "./usage.ts";

export type SpaceKeeperOptions = {
  /** The apps whose space is kept; all open. */
  readonly apps: () => readonly OpenApp[];
  /** The data folder's disk, as it is now. */
  readonly diskSpace: () => DiskSpace;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly turns: Turns;
  readonly log: Log;
  /** Bytes of journals that the present doesn't need; absent: half the disk. */
  readonly historyBytesMax?: bigint;
  /** History goes while less than this is free; absent: a twentieth of the disk, 64 MiB to 2 GiB. */
  readonly diskFreeBytesMin?: bigint;
  /** The floor of an app never passes this: what a repository still has to receive. */
  readonly floorMax?: (app: OpenApp) => Lsn;
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

const WARN_RATIO = 0.8;
const WARN_AGAIN_RATIO = 0.7;

const DISK_FREE_MIN = 64 * 2 ** 20;
const DISK_FREE_MAX = 2 * 2 ** 30;

/** Actions of one run: each takes a segment or raises a floor. Far more than are ever needed; a bound against going in circles. */
const ACTIONS_MAX = 10_000;

const LSN_MAX = Number.MAX_SAFE_INTEGER as Lsn;

/**
 * Keeps the journals of a data folder within their bounds: drops the oldest history, takes away segments that nothing needs, and moves what is in use out of poor ones.
 * Everything it does is a record, safe to be cut short at any point, and done in the loop that serves mounts in turns of a few milliseconds.
 */
export class SpaceKeeper {
  readonly #options: SpaceKeeperOptions;
  readonly #spaces = new Map<AppId, AppSpace>();
  #abort = new AbortController();
  #running: Promise<void> | undefined;
  #cancelTimer: (() => void) | undefined;
  #started = false;
  #waitUntilMs = 0;
  #hasWarned = false;

  constructor(options: SpaceKeeperOptions) {
    this.#options = options;
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

  /** One run, to its end: until everything is within its bounds or nothing more can be gained. Throws FsError, TidemarkError, KvError. */
  async runOnce(): Promise<void> {
    await this.#running?.catch(() => {});
    this.#running = this.#run().finally(() => {
      this.#running = undefined;
    });
    await this.#running;
  }

  get historyBytesMax(): bigint {
    return this.#options.historyBytesMax ?? this.#options.diskSpace().totalBytes / 2n;
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
      const nowMs = this.#options.clock.monotonicMs();
      if (this.#running === undefined && nowMs >= this.#waitUntilMs && this.#bounds().excessBytes > 0) this.#startRun();
    });
  }

  #startRun(): void {
    this.runOnce().catch((error: unknown) => {
      this.#waitUntilMs = this.#options.clock.monotonicMs() + (isNoSpace(error) ? NO_SPACE_RETRY_MS : RETRY_MS);
      if (error instanceof TidemarkError && error.code === "CANCELLED") return;
      this.#options.log.error("keeping the journals within their bounds failed; it is tried again", { cause: error });
    });
  }

  async #run(): Promise<void> {
    const { clock, turns } = this.#options;
    const work = new Work({ clock, turns }, { signal: this.#abort.signal });
    for (const app of this.#options.apps()) await this.#guarded(app, (space) => this.#finish(space, work));
    for (let actions = 0; actions < ACTIONS_MAX; actions++) {
      work.check();
      const action = this.#next();
      if (action.do === "nothing") break;
      const app = present(this.#options.apps().find(({ id }) => id === action.id), "an open app");
      await this.#guarded(app, (space) => (action.do === "raise" ? this.#raise(space, action.floor, work) : this.#clean(space, action, work)));
    }
    for (const app of this.#options.apps()) await this.#guarded(app, async (space) => new SpaceBatch(space).commit({}));
    const { excessBytes } = this.#bounds();
    if (excessBytes <= 0) return;
    this.#waitUntilMs = clock.monotonicMs() + RETRY_MS;
    this.#options.log.warn("the journals are larger than they should be, but what there is can't go: it is the present, or snapshots keep it", { excessBytes });
  }

  /** Ends what an earlier run left half done. */
  async #finish(space: AppSpace, work: Work): Promise<void> {
    const { app } = space;
    if (space.floor.floor === 0) return;
    const removable = app.journal.segments().filter(({ segment }) => isRemovable(space, segment));
    const cleaner = this.#cleaner(space, work);
    for (const { segment, lastLsn } of removable) await cleaner.finish(segment, lastLsn);
    if (!space.isSwept) await cleaner.forgetUnused();
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

  async #clean(space: AppSpace, action: Action & { do: "clean" }, work: Work): Promise<void> {
    const { segment, lastLsn, gainRatioMin } = action;
    const contents = await this.#readable(space, () => new SegmentReader(space, work).read(segment, lastLsn));
    if (contents === undefined) return;
    const { liveBytes, costBytes } = contents;
    const use = { state: "kept", liveBytes, costBytes } as const;
    space.uses.set(segment, use);
    space.counted.add(segment);
    const bytes = space.app.journal.segments().find((summary) => summary.segment === segment)?.bytes ?? 0;
    if (gainOf({ bytes, use }) < gainRatioMin * bytes || liveBytes > this.#bounds().copyBytesMax) return;
    await this.#cleaner(space, work).clean(segment, lastLsn, contents);
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
      this.#options.log.alarm("a journal is damaged: its history is kept from now on, whatever space it takes", { appId: space.app.id, cause: error });
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
    return this.#options.floorMax?.(app) ?? LSN_MAX;
  }

  #next(): Action {
    const usages = this.#options.apps().map((app) => usageOf(this.#space(app), this.#floorMax(app)));
    return nextAction(usages, this.#bounds());
  }

  /** How much the journals are too large, or the disk is too full. */
  #bounds(): Bounds {
    const { apps, diskSpace, diskFreeBytesMin, log } = this.#options;
    const history = apps().reduce((sum, app) => sum + historyBytesOf(usageOf(this.#space(app), this.#floorMax(app))), 0);
    const max = Number(this.historyBytesMax);
    if (history < max * WARN_AGAIN_RATIO) this.#hasWarned = false;
    if (history > max * WARN_RATIO && !this.#hasWarned) {
      this.#hasWarned = true;
      log.warn("history takes more than 80 % of its bound: soon the oldest goes", { historyBytes: history, historyBytesMax: max });
    }
    const { totalBytes, freeBytes } = diskSpace();
    const freeMin = diskFreeBytesMin ?? clamp(Number(totalBytes) / 20, DISK_FREE_MIN, DISK_FREE_MAX);
    const shortBytes = Number(freeMin) - Number(freeBytes);
    const excessBytes = Math.max(history - max, shortBytes);
    return { excessBytes, shortBytes, historyBytesMax: max, copyBytesMax: Math.max(RESERVE_COPY_BYTES_MAX, Number(freeBytes) / 2) };
  }
}

function isRemovable(space: AppSpace, segment: number): boolean {
  const state = space.uses.get(segment)?.state;
  return state === "gone" || state === "dead";
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}

/** Whether an error of a run only means that the disk is full. */
function isNoSpace(error: unknown): boolean {
  return error instanceof FsError && error.code === "ENOSPC";
}
