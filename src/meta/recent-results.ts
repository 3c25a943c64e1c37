/** What is needed to answer a request again: the operation and its detail, from which the reply is rebuilt. */
export type RecentResult = { readonly op: number; readonly detail: Buffer };

/**
 * Records remembered by the request that made them. A request that was taken but not answered by a killed gateway was among the last few:
 * the kernel has at most `max_background` plus one for each waiting thread in flight, far below this.
 */
const RECENT_MAX = 8192;

/** The duplicate table: results of the last mutations by (mount, unique), consulted only for re-sent requests. */
export class RecentResults {
  #young: Generation = new Map();
  #old: Generation = new Map();
  #count = 0;

  /** Remembers the result of a request; `unique` 0 is none. */
  remember(mountId: number, unique: number, op: number, detail: Buffer): void {
    if (unique === 0) return;
    if (this.#count >= RECENT_MAX) {
      this.#old = this.#young;
      this.#young = new Map();
      this.#count = 0;
    }
    let mount = this.#young.get(mountId);
    if (mount === undefined) {
      mount = new Map();
      this.#young.set(mountId, mount);
    }
    mount.set(unique, { op, detail });
    this.#count++;
  }

  find(mountId: number, unique: number): RecentResult | undefined {
    return this.#young.get(mountId)?.get(unique) ?? this.#old.get(mountId)?.get(unique);
  }
}

/** By mount, then by the request's number. */
type Generation = Map<number, Map<number, RecentResult>>;
