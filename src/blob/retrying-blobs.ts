import type { Log } from "../base/log.ts";
import type { Timers } from "../base/timers.ts";
import { retry } from "./backoff.ts";
import { bodyBytes } from "./blob-checks.ts";
import { isBlobError } from "./blob-error.ts";
import type {
  BlobCallOptions,
  BlobCapabilities,
  BlobEntry,
  BlobGetOptions,
  BlobListOptions,
  BlobPutOptions,
  BlobStat,
  BlobStore,
} from "./blob-store.ts";

/** About half a minute in all: a hiccup, a restart of the server. Longer outages are the caller's to live with, as it knows what else there is to do. */
const ATTEMPTS_MAX = 8;

export interface RetryingOptions {
  readonly timers: Timers;
  /** In [0, 1), for jitter. */
  readonly random: () => number;
  readonly log: Log;
  /** Attempts of each call, 1 or more. Default: 8, about half a minute. */
  readonly attemptsMax?: number | undefined;
  readonly delayMinMs?: number | undefined;
  readonly delayMaxMs?: number | undefined;
}

/**
 * Repeats what failed in a way that may pass, with growing waits. A put whose answer was lost is repeated too: if the name is taken then, what is there is compared, and
 * the same bytes mean that it was ours. So what decides between writers (an epoch) must hold something that only its writer knows.
 * A listing goes on behind the last name it gave. `close` ends waits with BLOB_ABORTED.
 */
export class RetryingBlobs implements BlobStore {
  readonly #inner: BlobStore;
  readonly #options: RetryingOptions;
  readonly #closing = new AbortController();

  constructor(inner: BlobStore, options: RetryingOptions) {
    this.#inner = inner;
    this.#options = options;
  }

  get description(): string {
    return this.#inner.description;
  }

  get capabilities(): BlobCapabilities {
    return this.#inner.capabilities;
  }

  async put(name: string, body: readonly Uint8Array[], options: BlobPutOptions = {}): Promise<void> {
    // Set once an attempt failed that may have had its effect all the same.
    let isAmbiguous = false;
    await this.#retry(`put ${name}`, options, async () => {
      try {
        await this.#inner.put(name, body, options);
      } catch (error) {
        if (isAmbiguous && isBlobError(error, "BLOB_EXISTS") && (await this.#holds(name, body, options))) return;
        if (isBlobError(error) && error.retryable) isAmbiguous = true;
        throw error;
      }
    });
  }

  async get(name: string, options: BlobGetOptions = {}): Promise<Buffer> {
    return this.#retry(`get ${name}`, options, () => this.#inner.get(name, options));
  }

  async stat(name: string, options: BlobCallOptions = {}): Promise<BlobStat | undefined> {
    return this.#retry(`stat ${name}`, options, () => this.#inner.stat(name, options));
  }

  async *list(prefix: string, options: BlobListOptions = {}): AsyncGenerator<readonly BlobEntry[]> {
    let { after } = options;
    let pages = this.#inner.list(prefix, options);
    for (;;) {
      const next = await this.#retry(`list ${prefix}`, options, async (attempt) => {
        // A generator that threw is over: another one begins behind the last name.
        if (attempt > 1) pages = this.#inner.list(prefix, { ...options, after });
        return pages.next();
      });
      if (next.done === true) return;
      after = next.value.at(-1)?.name ?? after;
      yield next.value;
    }
  }

  async delete(names: readonly string[], options: BlobCallOptions = {}): Promise<void> {
    await this.#retry(`delete ${names.length} blobs`, options, () => this.#inner.delete(names, options));
  }

  async extendLock(name: string, untilMs: number, options: BlobCallOptions = {}): Promise<void> {
    await this.#retry(`lock ${name}`, options, () => this.#inner.extendLock(name, untilMs, options));
  }

  async timeMs(options: BlobCallOptions = {}): Promise<number> {
    return this.#retry("time", options, () => this.#inner.timeMs(options));
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#inner.close();
  }

  async #holds(name: string, body: readonly Uint8Array[], options: BlobCallOptions): Promise<boolean> {
    const found = await this.#inner.stat(name, options);
    if (found?.bytes !== bodyBytes(body)) return false;
    const there = await this.#inner.get(name, { signal: options.signal, bytesMax: found.bytes });
    return there.equals(Buffer.concat(body));
  }

  async #retry<T>(doing: string, options: BlobCallOptions, work: (attempt: number) => Promise<T>): Promise<T> {
    const { timers, random, attemptsMax = ATTEMPTS_MAX, delayMinMs, delayMaxMs, log } = this.#options;
    const closing = this.#closing.signal;
    return retry(work, {
      timers,
      random,
      attemptsMax,
      delayMinMs,
      delayMaxMs,
      signal: options.signal === undefined ? closing : AbortSignal.any([options.signal, closing]),
      onRetry: (error, attempt, delayMs) =>
        log.debug("a call to the store failed and will be repeated", {
          store: this.description,
          doing,
          attempt,
          delayMs,
          code: error.code,
          reason: error.message,
        }),
    });
  }
}
