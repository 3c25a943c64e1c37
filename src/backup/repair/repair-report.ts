import type { Finding } from "../check/finding.ts";

export type RepairRequest = {
  /** Which part of the packs is read and verified whole, 0 to 1. */
  readonly readPart: number;
  /** Only looks what there is to do. */
  readonly isPlan: boolean;
};

/**
 * What rows need. `whole`: nothing. `checkpoint`: one that is damaged, or seals after it, are made good by a new one. `base`: they can't be had from the repository any more: this machine's rows are shipped anew, with the next change,
 * and what only the repository had of history is lost.
 */
export type RowsState = "whole" | "checkpoint" | "base";

/** Findings that are told one by one. */
export const FINDINGS_MAX = 1000;

/** What is wrong with an app in a repository, and what was done about it. Plain data: it crosses threads. */
export type RepairReport = {
  /** At most FINDINGS_MAX. */
  readonly findings: readonly Finding[];
  readonly rows: RowsState;
  /** Packs of which something is lost. */
  readonly lostPackCount: number;
  /** Data that can't be read from the repository, and those of them that were written anew. Of a plan: 0. */
  readonly lostBytes: number;
  readonly restoredBytes: number;
  /** Data, as `dataName` calls them, that are lost: of a plan all of them, else those that this machine hasn't either. */
  readonly missing: readonly string[];
};
