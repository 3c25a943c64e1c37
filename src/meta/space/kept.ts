import type { Lsn } from "../../domain/ids.ts";

/** The kept moments below the floor: snapshots, and what is being read. Sorted, never changed. */
export class Kept {
  static readonly none = new Kept([]);
  readonly #lsns: readonly Lsn[];

  /** In any order, repeats allowed. */
  constructor(lsns: Iterable<Lsn>) {
    this.#lsns = [...new Set(lsns)].sort((left, right) => left - right);
  }

  get count(): number {
    return this.#lsns.length;
  }

  has(lsn: number): boolean {
    return this.newestIn(lsn, lsn + 1) !== undefined;
  }

  /** The newest one in [since, until). */
  newestIn(since: number, until: number): Lsn | undefined {
    const found = this.#lsns[this.#below(until) - 1];
    return found !== undefined && found >= since ? found : undefined;
  }

  /** All in [since, until), ascending. */
  in(since: number, until: number): readonly Lsn[] {
    return this.#lsns.slice(this.#below(since), this.#below(until));
  }

  /** How many are below `limit`. */
  #below(limit: number): number {
    let low = 0;
    let high = this.#lsns.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#lsns[middle] ?? 0) < limit) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
