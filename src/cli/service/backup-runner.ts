import { journalBytesAfter } from "../../backup/backlog-bytes.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Timers } from "../../base/timers.ts";
import type { BackupState } from "../../domain/admin-backup.ts";
import type { FsError } from "../../domain/errors.ts";
import { LIVE, type Lsn } from "../../domain/ids.ts";
import type { BackupRow } from "../../meta/catalogue-rows.ts";
import type { DiskSpace, OpenApp } from "../../meta/open-app.ts";
import type { AppShipper } from "./app-shipper.ts";

/** The first and the longest wait before a repository that could not be opened is tried again. */
const RETRY_MS_MIN = 1000;
const RETRY_MS_MAX = 60_000;

export type BackupRunnerParts = {
  readonly app: OpenApp;
  readonly row: BackupRow;
  /** Opens the repository and makes the shipper. */
  readonly open: () => Promise<AppShipper>;
  /** Up to where the app is known to be protected while there is no shipper yet. */
  readonly protectedLsn: () => Lsn;
  readonly diskSpace: () => DiskSpace & { readonly reserveBytes: bigint };
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
};

type Failed = { readonly error: unknown };

type State =
  /** `failed`: why it could not be opened the last time; absent: this is the first. */
  | { readonly kind: "opening"; readonly opening: Promise<AppShipper>; readonly failed?: Failed }
  | { readonly kind: "waiting"; readonly error: unknown; readonly cancel: () => void }
  | { readonly kind: "running"; readonly shipper: AppShipper }
  | { readonly kind: "stopped" };

/** The backup of one app: opens the repository, again and again while it can't be had, then ships until it is stopped. */
export class BackupRunner {
  readonly app: OpenApp;
  readonly row: BackupRow;
  readonly #parts: BackupRunnerParts;
  #state: State = { kind: "stopped" };
  #retryMs = RETRY_MS_MIN;

  constructor(parts: BackupRunnerParts) {
    this.#parts = parts;
    this.app = parts.app;
    this.row = parts.row;
  }

  /** Begins. `shipper`: one that was opened already. */
  start(shipper?: AppShipper): void {
    if (shipper === undefined) this.#open();
    else this.#run(shipper);
  }

  async stop(): Promise<void> {
    const state = this.#state;
    this.#state = { kind: "stopped" };
    if (state.kind === "waiting") state.cancel();
    if (state.kind === "running") await state.shipper.stop();
    // One that is being opened is not started when it comes: see #open.
  }

  get stopped(): boolean {
    return this.#state.kind === "stopped";
  }

  /** The shipper: waits for an opening that is under way, and tries at once instead of waiting. Throws why it can't be had. */
  async shipper(): Promise<AppShipper> {
    if (this.#state.kind === "waiting") {
      this.#state.cancel();
      this.#open();
    }
    const state = this.#state;
    if (state.kind === "running") return state.shipper;
    if (state.kind === "opening") return state.opening;
    throw new Error("the backup has been stopped");
  }

  status(): Omit<ReturnType<AppShipper["status"]>, "state"> & { readonly state: BackupState } {
    const state = this.#state;
    if (state.kind === "running") return state.shipper.status();
    const reached = this.#parts.protectedLsn();
    const lastLsn = this.app.core.lastLsn;
    const rest = {
      lagMs: 0,
      bytesUnprotected: reached >= lastLsn ? 0n : journalBytesAfter(this.app.journal, reached),
      sentBytes: 0n,
    };
    const failed = state.kind === "opening" ? state.failed : state.kind === "waiting" ? state : undefined;
    if (failed === undefined) return { state: "starting", ...rest };
    const message = failed.error instanceof Error ? failed.error.message : String(failed.error);
    return { state: passes(failed.error) ? "retrying" : "failed", message, ...rest };
  }

  /** Up to where the app is protected, as far as that is known. */
  get reachedLsn(): Lsn {
    const reached = this.#state.kind === "running" ? this.#state.shipper.status().protected : undefined;
    return reached?.lsn ?? this.#parts.protectedLsn();
  }

  /** Local history above it is kept. While nothing can be shipped, a disk that is running full has it all its own way, if the policy says so. */
  get floor(): Lsn {
    if (this.#state.kind === "running") return this.#state.shipper.floor;
    const { freeBytes, reserveBytes } = this.#parts.diskSpace();
    if (this.row.onBacklog === "serve" && freeBytes < reserveBytes) return LIVE;
    return this.#parts.protectedLsn();
  }

  renamed(): void {
    if (this.#state.kind === "running") this.#state.shipper.renamed();
  }

  refusal(): FsError | undefined {
    return this.#state.kind === "running" ? this.#state.shipper.refusal() : undefined;
  }

  #open(): void {
    const opening = this.#parts.open();
    const failed = this.#state.kind === "waiting" ? { failed: { error: this.#state.error } } : {};
    this.#state = { kind: "opening", opening, ...failed };
    opening.then(
      (shipper) => {
        if (this.#state.kind === "opening" && this.#state.opening === opening) this.#run(shipper);
      },
      (error: unknown) => {
        if (this.#state.kind === "opening" && this.#state.opening === opening) this.#wait(error);
      },
    );
  }

  #run(shipper: AppShipper): void {
    this.#state = { kind: "running", shipper };
    this.#retryMs = RETRY_MS_MIN;
    shipper.start();
  }

  #wait(error: unknown): void {
    const first = this.#retryMs === RETRY_MS_MIN;
    const say = first && !passes(error) ? "alarm" : "warn";
    const message = error instanceof Error ? error.message : String(error);
    this.#parts.log[say](`backup to "${this.row.repository}" can't begin: ${message}`, {
      appId: this.app.id,
      code: "BACKUP_FAILED",
    });
    const cancel = this.#parts.timers.after(this.#retryMs, () => this.#open());
    this.#retryMs = Math.min(RETRY_MS_MAX, this.#retryMs * 2);
    this.#state = { kind: "waiting", error, cancel };
  }
}

/** Failures that pass by themselves: a network, a server. */
function passes(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "UNAVAILABLE";
}
