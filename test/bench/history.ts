/** Gives a target a past: many changes to the very files the rows use, which look the same afterwards. */
import type { Bench } from "./bench.ts";
import type { FixtureName } from "./row.ts";
import type { BenchTarget } from "./target.ts";

/** A slice takes seconds, so that progress is seen. */
const CHANGES_PER_SLICE = 50_000;
/** One change in twenty is a write into the file of the random-write rows, the rest go to the small files. */
const RANDOM_WRITE_SHARE = 0.05;
const BLOCK = 4096;

/** Makes `changeCount` changes on a started target; it is restarted afterwards, as if it had been so for days. */
export async function makeHistory(
  bench: Bench,
  target: BenchTarget,
  options: { changeCount: number; fixtures: readonly FixtureName[]; progress: (line: string) => void },
): Promise<void> {
  for (const name of new Set([...options.fixtures, "files", "random"] as const)) await bench.fixture(target, name);
  const files = { dir: await bench.fixture(target, "files"), perdir: bench.sizes.filesPerDir, size: BLOCK };
  const random = { dir: await bench.fixture(target, "random"), size: bench.sizes.randomBytes, block: BLOCK };
  for (let done = 0; done < options.changeCount; done += CHANGES_PER_SLICE) {
    const count = Math.min(CHANGES_PER_SLICE, options.changeCount - done);
    const randomCount = Math.round(count * RANDOM_WRITE_SHARE);
    options.progress(`history of ${target.name}  ${done} of ${options.changeCount} changes`);
    await bench.workload(target, "churn", { ...files, files: bench.sizes.fileCount, count: count - randomCount });
    if (randomCount > 0) await bench.workload(target, "randwrite", { ...random, count: randomCount });
  }
  await bench.makeCold(target);
}
