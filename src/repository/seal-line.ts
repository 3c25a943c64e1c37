import { TidemarkError } from "../domain/errors.ts";
import { type Anomaly, anomaly } from "./anomaly.ts";
import { compareSealIds, type SealId, sealText } from "./names.ts";
import { missingObject } from "./object-errors.ts";

// FORMAT.md, "Fencing": which of the seals in a listing are an app's line.

/** What the first seal of an epoch says it goes on from; null: from nothing; undefined: it isn't known. */
export type Previous = SealId | null | undefined;

/** Seals of one epoch without a gap between them, `first` to `last`. */
export type SealRange = {
  readonly epoch: number;
  readonly first: number;
  readonly last: number;
  /** Only where `first` is 1. */
  readonly previous: Previous;
};

export type LineOptions = {
  /** Where names of seals begin: "apps/<tag>/seals/". */
  readonly prefix: string;
  /** What was listed are the seals behind this one. */
  readonly after: SealId | undefined;
  /** What listing found already. */
  readonly anomalies: readonly Anomaly[];
};

/**
 * The seals that count, in order, as ranges: memory goes with epochs and gaps, not with seals. Invariants: each seal of an epoch follows the one before it (L1); an epoch goes on
 * from the seal its first one names, and what earlier epochs have behind that is not of the line (L2).
 */
export class SealLine {
  /** Oldest first. Neighbours may have a gap between them. */
  readonly ranges: readonly SealRange[];
  /** The newest seal; null: there are none (behind `after`). */
  readonly head: SealId | null;
  readonly anomalies: readonly Anomaly[];
  readonly #options: LineOptions;

  /** `listed`: what a listing found, oldest first, `previous` filled in. */
  constructor(listed: readonly SealRange[], options: LineOptions) {
    this.#options = options;
    const { kept, anomalies } = selectLine(listed, options);
    this.ranges = kept;
    this.anomalies = [...options.anomalies, ...anomalies];
    const newest = kept.at(-1);
    this.head = newest === undefined ? null : { epoch: newest.epoch, sequence: newest.last };
  }

  /** Whether this seal is of the line and was listed. */
  contains({ epoch, sequence }: SealId): boolean {
    return this.ranges.some((range) => range.epoch === epoch && range.first <= sequence && sequence <= range.last);
  }

  /** Whether a later epoch went on from before this seal, so that it (or a checkpoint at it) does not count. */
  overrules(id: SealId): boolean {
    const later = this.ranges.find((range) => range.epoch > id.epoch && range.previous !== undefined);
    if (later?.previous === undefined) return false;
    // A line that begins anew begins behind a base, which is a checkpoint at sequence 0 of that or an earlier epoch.
    if (later.previous === null) return id.sequence !== 0;
    return compareSealIds(later.previous, id) < 0;
  }

  /**
   * The seal that follows `id`, or undefined if that is the last. null asks for the oldest seal from which all up to the head are there. Throws REPOSITORY_DAMAGED where the next one
   * is missing, and FAILED_PRECONDITION (`data.reason` "off-line") if `id` is not of the line, so that who read it must begin anew.
   */
  next(id: SealId | null): SealId | undefined {
    if (id === null) return this.#oldest();
    if (this.overrules(id)) throw offLine(this.#name(id));
    const index = this.ranges.findIndex(
      (range) => range.epoch === id.epoch && range.first <= id.sequence + 1 && id.sequence < range.last,
    );
    if (index >= 0) return { epoch: id.epoch, sequence: id.sequence + 1 };
    const follower = this.ranges.find((range) => range.first === 1 && follows(range.previous, id));
    if (follower !== undefined && follower.epoch > id.epoch) return { epoch: follower.epoch, sequence: 1 };
    const later = this.ranges.find((range) => compareSealIds({ epoch: range.epoch, sequence: range.last }, id) > 0);
    if (later !== undefined) throw missingObject(this.#name(missingBetween(id, later)));
    return undefined;
  }

  /** The seal of the line that was listed before `id`, gaps or not; null: none. */
  before({ epoch, sequence }: SealId): SealId | null {
    const index = this.ranges.findLastIndex(
      (range) => range.epoch < epoch || (range.epoch === epoch && range.first < sequence),
    );
    const range = this.ranges[index];
    if (range === undefined) return null;
    return { epoch: range.epoch, sequence: range.epoch === epoch ? Math.min(range.last, sequence - 1) : range.last };
  }

  #oldest(): SealId | undefined {
    let oldest: SealId | undefined;
    for (let index = this.ranges.length - 1; index >= 0; index--) {
      const range = this.ranges[index];
      if (range === undefined) break;
      oldest = { epoch: range.epoch, sequence: range.first };
      const before = this.ranges[index - 1];
      const joined = before !== undefined && follows(range.previous, { epoch: before.epoch, sequence: before.last });
      if (!joined || range.previous === null) break;
    }
    return oldest;
  }

  #name(id: SealId): string {
    return `${this.#options.prefix}${sealText(id)}`;
  }
}

/** A seal that must be between the seal `id` and `later`, which doesn't follow it. */
function missingBetween(id: SealId, later: SealRange): SealId {
  if (later.epoch === id.epoch) return { epoch: id.epoch, sequence: id.sequence + 1 };
  return (later.first === 1 ? later.previous : undefined) ?? { epoch: later.epoch, sequence: 1 };
}

function follows(previous: Previous, id: SealId): boolean {
  if (previous === undefined) return false;
  if (previous === null) return id.sequence === 0;
  return compareSealIds(previous, id) === 0;
}

function offLine(name: string): TidemarkError {
  return new TidemarkError(
    "FAILED_PRECONDITION",
    `${name} is not part of the app's line of seals any more: another service took over before it was written. Read the app again from its latest checkpoint`,
    { data: { object: name, reason: "off-line" } },
  );
}

type Selection = { readonly kept: SealRange[]; readonly anomalies: Anomaly[] };

/** Goes from the newest epoch to older ones, each from the seal the newer one named. */
function selectLine(listed: readonly SealRange[], options: LineOptions): Selection {
  const kept: SealRange[] = [];
  const anomalies: Anomaly[] = [];
  const note = (code: Anomaly["code"], id: SealId, detail: string): void => {
    anomalies.push(anomaly(code, `${options.prefix}${sealText(id)}`, detail));
  };
  // What the epoch that was kept last goes on from; undefined: whatever comes next.
  let limit: Previous;
  for (let index = listed.length - 1; index >= 0; index--) {
    const range = listed[index];
    if (range === undefined) break;
    const last = { epoch: range.epoch, sequence: range.last };
    const cut = cutAt(range, limit);
    if (cut === undefined || cut.last < range.last) {
      const code = limit === null ? "LINE_RESTARTED" : "SEAL_FENCED_LATE";
      note(code, last, `${range.last - (cut?.last ?? range.first - 1)} seals up to this one`);
    }
    if (cut === undefined) continue;
    const newer = kept.at(-1);
    if (newer !== undefined) noteGap(cut, newer, note);
    kept.push(cut);
    if (cut.first === 1) limit = cut.previous;
    else if (limit !== undefined && limit !== null && limit.epoch > cut.epoch) limit = undefined;
  }
  noteStart(kept.at(-1), limit, { options, note });
  return { kept: kept.reverse(), anomalies: anomalies.reverse() };
}

/** The part of `range` up to `limit`. */
function cutAt(range: SealRange, limit: Previous): SealRange | undefined {
  if (limit === undefined || range.epoch < (limit?.epoch ?? 0)) return range;
  if (limit === null || range.epoch > limit.epoch || range.first > limit.sequence) return undefined;
  return range.last <= limit.sequence ? range : { ...range, last: limit.sequence };
}

type Note = (code: Anomaly["code"], id: SealId, detail: string) => void;

function noteGap(older: SealRange, newer: SealRange, note: Note): void {
  if (newer.epoch === older.epoch) {
    note("SEAL_MISSING", { epoch: older.epoch, sequence: older.last + 1 }, `${newer.first - older.last - 1} seals`);
  } else if (newer.first > 1) {
    note("SEAL_MISSING", { epoch: newer.epoch, sequence: 1 }, `${newer.first - 1} seals`);
  } else if (
    newer.previous !== undefined &&
    newer.previous !== null &&
    !follows(newer.previous, { epoch: older.epoch, sequence: older.last })
  ) {
    note("SEAL_PREVIOUS_MISSING", newer.previous, `epoch ${newer.epoch} goes on from it`);
  }
}

/** What should be before the oldest range. Whether it was pruned or lost only checkpoints can tell, but not of what comes right behind a seal that is known. */
function noteStart(
  oldest: SealRange | undefined,
  limit: Previous,
  { options, note }: { readonly options: LineOptions; readonly note: Note },
): void {
  const { after } = options;
  if (oldest === undefined || after === undefined) return;
  if (oldest.first > 1) {
    const due = oldest.epoch === after.epoch ? after.sequence + 1 : 1;
    if (oldest.first > due) note("SEAL_MISSING", { epoch: oldest.epoch, sequence: due }, `${oldest.first - due} seals`);
    return;
  }
  if (limit !== undefined && limit !== null && compareSealIds(limit, after) > 0)
    note("SEAL_PREVIOUS_MISSING", limit, `epoch ${oldest.epoch} goes on from it`);
}
