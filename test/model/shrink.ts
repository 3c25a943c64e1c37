/** Steps run while a failing sequence is made smaller: this many for each of its own, so at most this many times as long as the failing run. */
const STEPS_MAX_FACTOR = 20;
/** And this many more, for the many short runs at the end. */
const STEPS_MAX = 50_000;

/**
 * Takes steps out of a failing sequence while it still fails (delta debugging, Zeller 2002): first large runs of steps, then smaller ones,
 * down to single steps. Bounded, so the result may not be minimal, but it fails.
 */
export async function shrink<T>(
  steps: readonly T[],
  fails: (steps: readonly T[]) => Promise<boolean>,
): Promise<readonly T[]> {
  let best = steps;
  let left = steps.length * STEPS_MAX_FACTOR + STEPS_MAX;
  for (let chunk = Math.ceil(best.length / 2); chunk >= 1; chunk = chunk === 1 ? 0 : Math.ceil(chunk / 2)) {
    for (let at = 0; at < best.length && left > 0; ) {
      const candidate = [...best.slice(0, at), ...best.slice(at + chunk)];
      left -= candidate.length;
      if (candidate.length < best.length && (await fails(candidate))) best = candidate;
      else at += chunk;
    }
  }
  return best;
}
