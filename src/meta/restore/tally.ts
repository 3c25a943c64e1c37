import type { PlanAction, PlanSummary } from "../../domain/admin-restore.ts";
import type { Lsn } from "../../domain/ids.ts";
import { isRegular } from "../../domain/inode.ts";
import type { ResolvedMoment } from "../../domain/moment.ts";

/** What is never as it was. */
const CHANGE_TIME = "change times (ctime) are those of the restore: a view shows the exact ones";

/** Sums up a plan as it passes. */
export class Tally {
  readonly #counts: Record<PlanAction["kind"], number> = {
    create: 0,
    link: 0,
    change: 0,
    delete: 0,
    replace: 0,
    share: 0,
  };
  #restoredBytes = 0n;
  #deletedBytes = 0n;
  count = 0;

  add(action: PlanAction): void {
    const { kind, attributes, parts } = action;
    this.count++;
    this.#counts[kind]++;
    if (!isRegular(attributes.mode)) return;
    if (kind === "delete") this.#deletedBytes += attributes.size;
    else if (
      kind === "create" ||
      parts.includes("content") ||
      (kind === "replace" && action.otherNames.length === 0 && parts.length === 0)
    ) {
      this.#restoredBytes += attributes.size;
    }
  }

  summary(moment: {
    readonly at: ResolvedMoment;
    readonly plannedAt: Lsn;
    readonly limitations: ReadonlySet<string>;
  }): PlanSummary {
    const limitations = [...moment.limitations];
    if (this.count > 0) limitations.push(CHANGE_TIME);
    return {
      at: moment.at,
      plannedAt: moment.plannedAt,
      counts: { ...this.#counts },
      restoredBytes: this.#restoredBytes,
      deletedBytes: this.#deletedBytes,
      limitations,
    };
  }
}
