import type { Clock } from "../base/clock.ts";
import type { BlobStore } from "../blob/blob-store.ts";

/** How long an answer of the store's clock is used: locks are days long, so minutes do not matter, and a put is one request and not two. */
const ANSWER_AGE_MS_MAX = 10 * 60_000;

const DAY_MS = 86_400_000;

/** Until when a lock that begins now lasts: by the store's clock, never by this machine's. */
export class LockTime {
  readonly #options: { readonly store: BlobStore; readonly clock: Clock; readonly lockDays: number };
  #answer: { readonly storeMs: number; readonly atMs: number } | undefined;

  constructor(options: { readonly store: BlobStore; readonly clock: Clock; readonly lockDays: number }) {
    this.#options = options;
  }

  /** The end of such a lock, in milliseconds since 1970 UTC. */
  async untilMs(): Promise<number> {
    const { store, clock, lockDays } = this.#options;
    const nowMs = clock.monotonicMs();
    if (this.#answer === undefined || nowMs - this.#answer.atMs > ANSWER_AGE_MS_MAX) {
      this.#answer = { storeMs: await store.timeMs(), atMs: nowMs };
    }
    return Math.ceil(this.#answer.storeMs + (nowMs - this.#answer.atMs) + lockDays * DAY_MS);
  }
}
