import type { Timers } from "../base/timers.ts";
import { abortedError } from "./blob-checks.ts";
import { type BlobError, isBlobError } from "./blob-error.ts";

/** First and longest wait between attempts. Each is a random part of a span that doubles ("full jitter"), so that many clients don't come back together. */
const DELAY_MIN_MS = 250;
const DELAY_MAX_MS = 20_000;

export interface RetryOptions {
  readonly timers: Timers;
  /** In [0, 1). */
  readonly random: () => number;
  /** At least 1: how often it is tried in all. */
  readonly attemptsMax: number;
  readonly delayMinMs?: number | undefined;
  readonly delayMaxMs?: number | undefined;
  /** Ends waiting, with BLOB_ABORTED. */
  readonly signal?: AbortSignal | undefined;
  /** Told before each wait. */
  readonly onRetry?: ((error: BlobError, attempt: number, delayMs: number) => void) | undefined;
}

/** Calls `work` with the attempt's number, from 1, until it succeeds, fails for good or has failed `attemptsMax` times; throws its last error. */
export async function retry<T>(work: (attempt: number) => Promise<T>, options: RetryOptions): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work(attempt);
    } catch (error) {
      if (!isBlobError(error) || !error.retryable || attempt >= options.attemptsMax) throw error;
      const delayMs = delayAfter(attempt, options);
      options.onRetry?.(error, attempt, delayMs);
      await waitFor(options.timers, delayMs, options.signal);
    }
  }
}

/** How long to wait after the failure of `attempt`, from 1. */
export function delayAfter(
  attempt: number,
  options: Pick<RetryOptions, "random" | "delayMinMs" | "delayMaxMs">,
): number {
  const { random, delayMinMs = DELAY_MIN_MS, delayMaxMs = DELAY_MAX_MS } = options;
  const span = Math.min(delayMaxMs, delayMinMs * 2 ** (attempt - 1));
  // At least a quarter of the span: no jitter is as good as an answer at once from a store that is down.
  return Math.round(span * (0.25 + 0.75 * random()));
}

/** Resolves after `delayMs`; rejects with BLOB_ABORTED as soon as `signal` is given. */
export async function waitFor(timers: Timers, delayMs: number, signal?: AbortSignal): Promise<void> {
  if (signal === undefined) return timers.wait(delayMs);
  if (signal.aborted) throw abortedError(signal);
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(abortedError(signal));
  signal.addEventListener("abort", onAbort);
  try {
    await Promise.race([timers.wait(delayMs), aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
