import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Timers } from "../base/timers.ts";
import { type FsError, TidemarkError } from "../domain/errors.ts";
import type { Lsn } from "../domain/ids.ts";
import { RECORD_OP } from "../domain/record-op.ts";
import { type OpenApp, SERVICE_CONTEXT } from "../meta/open-app.ts";
import { encodeJson } from "../meta/rows.ts";
import type { AppDescription } from "../repository/seal-head.ts";
import { Backlog, type BacklogPolicy, type DiskState } from "./backlog.ts";
import { journalBytesAfter } from "./backlog-bytes.ts";
import type { RepairReport, RepairRequest } from "./repair/repair-report.ts";
import type { ProtectedMoment, SealShipped, ShipBackend } from "./ship-backend.ts";
import { apiErrorOf, passesByItself, type ShipError, type ShipErrorCode, shipError } from "./ship-error.ts";

/** An app whose journal is shipped. */
export type ShippedApp = Pick<OpenApp, "id" | "journal" | "core">;

export type ShipperOptions = {
  readonly app: ShippedApp;
  readonly backend: ShipBackend;
  /** How long a change waits for more of them. */
  readonly everyMs: number;
  readonly onBacklog: BacklogPolicy;
  readonly backlogBytesMax?: bigint | undefined;
  /** What the app is called now. */
  readonly describe: () => AppDescription;
  /** What an earlier process remembered to have shipped (`shippedMark`): nothing after it may be dropped while the repository can't be asked. */
  readonly shippedMark: Lsn;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  /** In [0, 1), for jitter. */
  readonly random: () => number;
  readonly diskState?: () => DiskState;
};

/**
 * `retrying`: it goes on by itself when the store can be reached. `stopped`: so does it, but writers are refused meanwhile. `fenced`, `failed`: somebody has to do something;
 * the message says what.
 */
export type ShipperState = "starting" | "idle" | "shipping" | "retrying" | "stopped" | "fenced" | "failed";

export type ShipperStatus = {
  readonly state: ShipperState;
  /** What went wrong last, and what to do. */
  readonly message?: string;
  readonly protected?: ProtectedMoment;
  /** How long the oldest change that isn't protected has been waiting; 0: none. */
  readonly lagMs: number;
  /** Of journal, about. */
  readonly bytesUnprotected: bigint;
  readonly epoch?: number;
  readonly isBacklogLarge: boolean;
};

export type ShipProgress = {
  readonly protectedLsn: Lsn;
  readonly targetLsn: Lsn;
  readonly bytesUnprotected: bigint;
};

/** Waits between attempts that fail: RetryingBlobs below has tried for half a minute by then. */
const RETRY_MS_MIN = 1000;
const RETRY_MS_MAX = 60_000;

/** Wait after a failure that somebody has to see to: they may have, without telling us. */
const FAILED_RETRY_MS = 300_000;

/** Failures that trying again does not help. */
const NEEDING_SOMEBODY: ReadonlySet<ShipErrorCode> = new Set(["OTHER_HISTORY", "DAMAGED", "REPOSITORY"]);

/** How often a backlog is looked at, while there is one. */
const WATCH_MS = 1000;

type Waiter = {
  readonly lsn: Lsn;
  readonly resolve: (moment: ProtectedMoment) => void;
  readonly reject: (error: TidemarkError) => void;
  readonly onProgress: (progress: ShipProgress) => void;
};

/**
 * Keeps one app's repository up with its journal: ships every interval while something has changed, at once when asked, and again later when that failed. Runs in the loop that serves mounts, and
 * does nothing there but decide.
 *
 * Invariants
 * H1  What is called protected can be restored from the repository alone: the backend said so.
 * H2  At most one call of the backend's `start` and `ship` is under way; with nothing to ship, none, and no timer runs.
 * H3  Durations are of the monotonic clock: a step of the wall clock changes labels only.
 */
export class Shipper {
  readonly #options: ShipperOptions;
  readonly #backlog: Backlog;
  #stopListening: (() => void) | undefined;
  #cancelTimer: (() => void) | undefined;
  #cancelWatch: (() => void) | undefined;
  #running: Promise<void> | undefined;
  #closing = false;
  #started = false;
  #epoch: number | undefined;
  #isRepairing = false;
  #protected: ProtectedMoment | undefined;
  #failure: ShipError | undefined;
  #failures = 0;
  #waiters: Waiter[] = [];
  /** Since when there is something unprotected, by the monotonic clock. */
  #behindSinceMs: number | undefined;

  constructor(options: ShipperOptions) {
    this.#options = options;
    this.#backlog = new Backlog({ policy: options.onBacklog, bytesMax: options.backlogBytesMax });
  }

  /** Begins: looks at the repository and takes it over in the background, and ships what there is. */
  start(): void {
    if (this.#stopListening !== undefined) return;
    this.#stopListening = this.#options.app.journal.onDurable(() => this.#changed());
    if (this.#isBehind()) this.#behindSinceMs = this.#options.clock.monotonicMs();
    this.#watch();
    this.#kick();
  }

  /** Ends, cutting short what is under way: the next start goes on. To be called before the app is closed. */
  async stop(): Promise<void> {
    this.#closing = true;
    this.#stopListening?.();
    this.#cancelTimer?.();
    this.#cancelWatch?.();
    this.#options.backend.abort();
    await this.#options.backend.close().catch((error: unknown) => {
      const { log, app } = this.#options;
      log.warn("the backup did not end in order", { appId: app.id, cause: error });
    });
    await this.#running;
    this.#reject(new TidemarkError("CANCELLED", "the service is stopping"));
  }

  /**
   * Ships everything there is at the time of the call, and answers when it is protected. Rejects when that fails, with what to do about it; it is tried again all the same. Ending the wait by `signal`
   * does not end the work.
   */
  async now(
    options: { readonly signal?: AbortSignal; readonly onProgress?: (progress: ShipProgress) => void } = {},
  ): Promise<ProtectedMoment> {
    const { journal } = this.#options.app;
    const lsn = journal.lastLsn;
    await journal.sync(lsn);
    const known = this.#protected;
    if (known !== undefined && known.lsn >= lsn && this.#started) return known;
    const { signal, onProgress = () => {} } = options;
    // To go on by itself would fence who ships now, and so on in turns.
    if (this.#failure?.code === "FENCED" || this.#failure?.code === "OTHER_HISTORY") throw apiErrorOf(this.#failure);
    return new Promise((resolve, reject) => {
      const waiter: Waiter = { lsn, resolve, reject, onProgress };
      this.#waiters.push(waiter);
      signal?.addEventListener("abort", () => {
        this.#waiters = this.#waiters.filter((each) => each !== waiter);
        reject(new TidemarkError("CANCELLED", "the wait was interrupted; the backup goes on"));
      });
      this.#kick();
    });
  }

  /** After `fenced` or `failed`: tries again, and takes the app over from who ships it now, if it has the same history. */
  takeOver(): void {
    this.#failure = undefined;
    this.#failures = 0;
    this.#kick();
  }

  /**
   * The app was renamed, deleted or got other labels. What it is called is said by each seal, and there is none without a record: so one is made, of no rows, which ships as any change does. Throws
   * FsError of appending.
   */
  renamed(): void {
    const { name, deleted } = this.#options.describe();
    const tx = this.#options.app.core.begin(SERVICE_CONTEXT);
    tx.commit(RECORD_OP.SPACE, encodeJson({ described: { name, deleted: deleted !== null } }), { useReserve: true });
  }

  /**
   * Checks the app in the repository and makes what is damaged there readable again, from this machine's journal. Meanwhile local history stays. Answers what was wrong. Throws TidemarkError.
   */
  async repair(request: RepairRequest): Promise<RepairReport> {
    const { backend, describe } = this.#options;
    if (this.#isRepairing) throw new TidemarkError("FAILED_PRECONDITION", "a repair of this app is under way already");
    const repair = (wanted: RepairRequest): Promise<RepairReport> =>
      backend.repair({ ...wanted, app: describe() }).catch((error: unknown) => {
        throw apiErrorOf(shipError(error));
      });
    this.#isRepairing = true;
    try {
      if (request.isPlan) await this.now();
      else await this.#shipSomething();
      const report = await repair(request);
      if (report.rows !== "base" || request.isPlan) return report;
      await this.#beginAnew();
      // What a base has of data shows when it is there.
      const { missing, lostBytes } = await repair({ ...request, isPlan: true });
      return { ...report, missing, restoredBytes: Math.max(0, report.lostBytes - lostBytes) };
    } finally {
      this.#isRepairing = false;
    }
  }

  /** So that the line ends with a seal that is whole: were the newest one damaged, a shipper that starts would go on from before it, and the repair would not count. */
  async #shipSomething(): Promise<void> {
    await this.now();
    this.renamed();
    await this.now();
  }

  /** The next start takes an epoch, and ships a base behind which there is a change. */
  async #beginAnew(): Promise<void> {
    await this.#running;
    this.#started = false;
    await this.#shipSomething();
  }

  /** Writes a checkpoint of what is shipped, whether one is due or not. Throws TidemarkError. */
  async checkpointNow(): Promise<void> {
    const { backend, describe } = this.#options;
    await backend.checkpoint({ force: true, app: describe() }).catch((error: unknown) => {
      throw apiErrorOf(shipError(error));
    });
  }

  /** Up to where local history may be dropped: SpaceKeeper's `floorMax`. */
  get floor(): Lsn {
    // What is repaired is read from local history.
    if (this.#isRepairing) return 0 as Lsn;
    return this.#backlog.floor(this.#reached);
  }

  /** What a writer gets instead of an answer; undefined: it may write. Cheap. */
  refusal(): FsError | undefined {
    return this.#backlog.refusal();
  }

  status(): ShipperStatus {
    const moment = this.#protected;
    return {
      state: this.#state(),
      ...(this.#failure === undefined ? {} : { message: this.#failure.message }),
      ...(moment === undefined ? {} : { protected: moment }),
      lagMs: this.#lagMs(),
      bytesUnprotected: this.#bytesUnprotected(),
      ...(this.#epoch === undefined ? {} : { epoch: this.#epoch }),
      isBacklogLarge: this.#backlog.isLarge,
    };
  }

  #state(): ShipperState {
    const failure = this.#failure;
    if (failure?.code === "FENCED") return "fenced";
    if (failure !== undefined && NEEDING_SOMEBODY.has(failure.code)) return "failed";
    if (this.#backlog.isStopping) return "stopped";
    if (failure?.code === "STORE" && !passesByItself(failure)) return "failed";
    if (failure !== undefined) return "retrying";
    if (!this.#started) return "starting";
    return this.#running === undefined ? "idle" : "shipping";
  }

  #lagMs(): number {
    return this.#behindSinceMs === undefined ? 0 : Math.max(0, this.#options.clock.monotonicMs() - this.#behindSinceMs);
  }

  #bytesUnprotected(): bigint {
    return journalBytesAfter(this.#options.app.journal, this.#reached);
  }

  #isBehind(): boolean {
    return this.#options.app.journal.lastLsn > this.#reached;
  }

  /** What is protected; until the repository could be asked, what was last known: else all of the journal would be a backlog after each start, and could have writers refused. */
  get #reached(): Lsn {
    return this.#protected?.lsn ?? this.#options.shippedMark;
  }

  /** Called for each sync of the journal: it must cost nothing. */
  #changed(): void {
    if (this.#behindSinceMs === undefined) {
      if (!this.#isBehind()) return;
      this.#behindSinceMs = this.#options.clock.monotonicMs();
      this.#watch();
    }
    if (this.#running === undefined && this.#cancelTimer === undefined && this.#failure === undefined)
      this.#arm(this.#options.everyMs);
  }

  #arm(delayMs: number): void {
    this.#cancelTimer?.();
    this.#cancelTimer = this.#options.timers.after(delayMs, () => {
      this.#cancelTimer = undefined;
      this.#kick();
    });
  }

  #kick(): void {
    if (this.#closing || this.#running !== undefined || this.#stopListening === undefined) return;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#running = this.#round().finally(() => {
      this.#running = undefined;
      this.#after();
    });
  }

  /** One attempt to have everything shipped that is durable now. Never rejects. */
  async #round(): Promise<void> {
    const { backend, app, describe, clock, log } = this.#options;
    const beganMs = clock.monotonicMs();
    try {
      const target = { to: app.journal.durableLsn, app: describe() };
      if (!this.#started) {
        const started = await backend.start(target);
        this.#epoch = started.epoch;
        this.#protected = started.protected;
        this.#started = true;
      }
      if (this.#closing) return;
      if (target.to > (this.#protected?.lsn ?? 0)) {
        await backend.ship(target, (shipped) => this.#shipped(shipped));
      }
      if (this.#failure !== undefined) log.info("the backup goes on", { appId: app.id, lsn: target.to });
      this.#failure = undefined;
      this.#failures = 0;
      this.#behindSinceMs = this.#isBehind() ? beganMs : undefined;
      this.#serve();
      this.#checkpoint(target.app);
    } catch (error) {
      this.#failed(shipError(error));
    }
    this.#watchNow();
  }

  #after(): void {
    if (this.#closing) return;
    if (this.#failure !== undefined) {
      const waitMs = this.#retryMs();
      if (waitMs !== undefined) this.#arm(waitMs);
    } else if (this.#waiters.length > 0) this.#kick();
    else if (this.#isBehind()) this.#arm(this.#options.everyMs);
  }

  #shipped({ protected: moment }: SealShipped): void {
    this.#protected = moment;
    for (const { lsn, onProgress } of this.#waiters) {
      onProgress({ protectedLsn: moment.lsn, targetLsn: lsn, bytesUnprotected: this.#bytesUnprotected() });
    }
    this.#serve();
  }

  /** Answers those whose changes are protected. */
  #serve(): void {
    const moment = this.#protected ?? { lsn: 0 as Lsn, time: this.#options.clock.now() };
    const waiting = this.#waiters.filter(({ lsn }) => lsn > moment.lsn);
    const served = this.#waiters.filter(({ lsn }) => lsn <= moment.lsn);
    this.#waiters = waiting;
    for (const { resolve } of served) resolve(moment);
  }

  #reject(error: TidemarkError): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const { reject } of waiters) reject(error);
  }

  #failed(error: ShipError): void {
    const { log, app } = this.#options;
    const passes = passesByItself(error);
    const before = this.#failure;
    const isNews = before === undefined || before.code !== error.code || passesByItself(before) !== passes;
    this.#failure = error;
    this.#failures += 1;
    this.#started = false;
    if (this.#closing) return;
    const fields = { appId: app.id, code: error.causeCode ?? error.code, cause: error };
    if (!isNews) log.debug("the backup still fails", fields);
    else if (!passes) log.alarm("the backup stopped", fields);
    else log.warn("the backup can't go on for now and is tried again", fields);
    this.#reject(apiErrorOf(error));
  }

  /** undefined: never, until somebody says so. */
  #retryMs(): number | undefined {
    const { random } = this.#options;
    switch (this.#failure?.code) {
      case "FENCED":
      case "OTHER_HISTORY":
        return undefined;
      case "DAMAGED":
      case "REPOSITORY":
        return FAILED_RETRY_MS;
      default: {
        const waitMs = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(this.#failures - 1, 16));
        return waitMs * (0.5 + random() / 2);
      }
    }
  }

  /** In the background: the next seal doesn't wait for it. */
  #checkpoint(app: AppDescription): void {
    this.#options.backend.checkpoint({ force: false, app }).catch((error: unknown) => {
      const { log, app: shipped } = this.#options;
      if (!this.#closing)
        log.warn("a checkpoint could not be written and is tried again", { appId: shipped.id, cause: error });
    });
  }

  /** Looks at the backlog every second while there is one. */
  #watch(): void {
    if (this.#cancelWatch !== undefined || this.#closing) return;
    this.#cancelWatch = this.#options.timers.after(WATCH_MS, () => {
      this.#cancelWatch = undefined;
      this.#watchNow();
      if (this.#behindSinceMs !== undefined) this.#watch();
    });
  }

  #watchNow(): void {
    const { log, app, diskState } = this.#options;
    const bytes = this.#isBehind() ? this.#bytesUnprotected() : 0n;
    const fields = { appId: app.id, bytes: Number(bytes), bytesMax: Number(this.#backlog.bytesMax) };
    for (const news of this.#backlog.update({ bytes, disk: diskState?.() })) {
      if (news === "relieved") log.info("the backup's backlog is small again", fields);
      else if (news === "continuity-lost") {
        log.alarm(
          "the disk is nearly full: local history may go before it was backed up. The repository gets a new base when it can be reached",
          fields,
        );
      } else if (this.#backlog.isStopping) {
        log.alarm("too much waits for the backup: writes to the app are refused until it is shipped", fields);
      } else log.alarm("too much waits for the backup", fields);
    }
  }
}
