/** What is needed to answer a request again: the operation and its detail, from which the reply is rebuilt. */
export type RecentResult = { readonly op: number; readonly detail: Buffer };

/**
 * Results remembered of each mount, at least; twice as many at most. What a killed gateway had asked and not answered is among its last few: the kernel has at most `max_background` and one for each waiting thread in flight, a
 * session CALLS_MAX. Of each mount by itself: a gateway that is away for hours must find its own when it is back, whatever others did meanwhile.
 */
const RECENT_MAX = 4096;

/** The duplicate table: results of the last mutations by (mount, unique), consulted only for re-sent requests. */
export class RecentResults {
  readonly #mounts = new Map<number, Generations>();

  /** Remembers the result of a request; `unique` 0 is none. */
  remember(mountId: number, unique: number, op: number, detail: Buffer): void {
    if (unique === 0) return;
    let mount = this.#mounts.get(mountId);
    if (mount === undefined) {
      mount = { young: new Map(), old: new Map() };
      this.#mounts.set(mountId, mount);
    }
    if (mount.young.size >= RECENT_MAX) {
      mount.old = mount.young;
      mount.young = new Map();
    }
    mount.young.set(unique, { op, detail });
  }

  /** Remembers a result that is older than all of the mount's that are remembered, as long as there are fewer than RECENT_MAX: it never displaces a newer one. */
  rememberOlder(mountId: number, unique: number, op: number, detail: Buffer): void {
    if (unique === 0) return;
    const mount = this.#mounts.get(mountId);
    if (mount === undefined) {
      this.remember(mountId, unique, op, detail);
      return;
    }
    if (mount.young.size + mount.old.size >= RECENT_MAX || this.find(mountId, unique) !== undefined) return;
    mount.old.set(unique, { op, detail });
  }

  find(mountId: number, unique: number): RecentResult | undefined {
    const mount = this.#mounts.get(mountId);
    return mount?.young.get(unique) ?? mount?.old.get(unique);
  }

  /** The mount has ended: nothing of it is asked for again. */
  forget(mountId: number): void {
    this.#mounts.delete(mountId);
  }
}

/** By the request's number. */
type Generations = { young: Map<number, RecentResult>; old: Map<number, RecentResult> };
