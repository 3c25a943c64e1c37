/** Runs of a failing sequence while it is made smaller: a few seconds with sequences of thousands. */
const RUNS_MAX = 300;

/**
 * Takes steps out of a failing sequence while it still fails (delta debugging, Zeller 2002): first large runs of steps, then smaller ones,
 * down to single steps. Bounded by RUNS_MAX, so the result may not be minimal, but it fails.
 */
export async function shrink<T>(steps: readonly T[], fails: (steps: readonly T[]) => Promise<boolean>): Promise<readonly T[]> {
  let best = steps;
  let runs = 0;
  for (let chunk = Math.ceil(best.length / 2); chunk >= 1; chunk = chunk === 1 ? 0 : Math.ceil(chunk / 2)) {
    for (let at = 0; at < best.length && runs < RUNS_MAX; ) {
      const candidate = [...best.slice(0, at), ...best.slice(at + chunk)];
      runs++;
      if (candidate.length < best.length && (await fails(candidate))) best = candidate;
      else at += chunk;
    }
  }
  return best;
}
