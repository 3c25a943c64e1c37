import type { Timers } from "../../base/timers.ts";

/** How often the latest is told: often enough for a bar that moves, and within the second the API promises. */
const TELL_MS = 250;

/**
 * What `work` tells while it runs, as a stream: only the latest of each quarter of a second, and again while nothing changes. Ends when `work` ends; fails as it does.
 */
export async function* latestOf<T>(
  timers: Timers,
  work: (tell: (item: T) => void) => Promise<unknown>,
): AsyncGenerator<T> {
  let latest: T | undefined;
  const outcome: { done: boolean; error?: unknown; failed: boolean } = { done: false, failed: false };
  const running = work((item) => {
    latest = item;
  }).then(
    () => {
      outcome.done = true;
    },
    (error: unknown) => {
      Object.assign(outcome, { done: true, failed: true, error });
    },
  );
  while (!outcome.done) {
    let cancel: () => void = () => {};
    const tick = new Promise<void>((resolve) => {
      cancel = timers.after(TELL_MS, resolve);
    });
    await Promise.race([running, tick]);
    cancel();
    if (latest !== undefined && !outcome.done) yield latest;
  }
  if (outcome.failed) throw outcome.error;
}
