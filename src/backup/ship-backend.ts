import type { Timestamp } from "../base/clock.ts";
import type { Lsn } from "../domain/ids.ts";
import type { AppDescription } from "../repository/seal-head.ts";
import type { RepairReport, RepairRequest } from "./repair/repair-report.ts";

/** A moment that can be restored from the repository alone: the app after record `lsn`, made at `time`. */
export type ProtectedMoment = { readonly lsn: Lsn; readonly time: Timestamp };

/** What is to be shipped: everything up to `to`, which is durable in the journal, of the app that is called `app`. */
export type ShipTarget = { readonly to: Lsn; readonly app: AppDescription };

export type ShipStarted = {
  readonly epoch: number;
  /** What the repository had already. */
  readonly protected: ProtectedMoment | undefined;
};

/** What one seal did. */
export type SealShipped = {
  readonly protected: ProtectedMoment;
  readonly journalBytes: number;
  /** Put into the store for it: packs and the seal. */
  readonly uploadedBytes: number;
};

/**
 * Carries one app's journal into a repository. Calls of `start` and `ship` come one at a time; `checkpoint` may run beside them. Where nothing else is said, errors are ShipErrors, and
 * after one `start` must be called before `ship`.
 */
export interface ShipBackend {
  /**
   * Lists the repository, makes sure that what it has of the app is what this journal has, and takes the next epoch: who shipped before is fenced. Throws ShipError OTHER_HISTORY, with
   * nothing written, when it isn't.
   */
  start(target: ShipTarget): Promise<ShipStarted>;

  /**
   * Ships everything up to `target.to`, in one or more seals, each told to `onShipped` when what is up to its end can be restored, whatever happens then. Requests are made only if there is
   * something to ship. Safe to be cut short at any point: what was begun is done again, or left as objects that nothing names.
   */
  ship(target: ShipTarget, onShipped: (shipped: SealShipped) => void): Promise<void>;

  /** Writes a checkpoint of what was shipped, if enough came since the last one, or if `force`. Answers whether there was something to write. */
  checkpoint(options: { readonly force: boolean; readonly app: AppDescription }): Promise<boolean>;

  /**
   * Checks what is in the repository and, unless it is only a plan, makes it readable again: see repair/repair-app.ts. After the answer "base" the next `start` and `ship` of something new write one. Shipping waits while something
   * is repaired, not while it is checked. `start` must have been called.
   */
  repair(request: RepairRequest & { readonly app: AppDescription }): Promise<RepairReport>;

  /** Ends what is under way as soon as it can be: it rejects with CANCELLED. */
  abort(): void;

  /** Lets go of everything, after what is under way. */
  close(): Promise<void>;
}
