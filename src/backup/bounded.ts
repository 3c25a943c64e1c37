import type { Timers } from "../base/timers.ts";

/** What `work` comes to, or `late()` as its failure after `waitMs`. The work itself goes on, and what becomes of it then is nobody's. */
export async function bounded<T>(
  work: Promise<T>,
  options: { readonly timers: Timers; readonly waitMs: number; readonly late: () => Error },
): Promise<T> {
  const { timers, waitMs, late } = options;
  return new Promise<T>((resolve, reject) => {
    const cancel = timers.after(waitMs, () => reject(late()));
    work.then(resolve, reject).finally(cancel);
  });
}
