import { describe, expect, test } from "vitest";
import type { Clock } from "../../src/base/clock.ts";
import { generateSteps } from "./generate.ts";
import type { OpenHarness } from "./harness.ts";
import { runSteps } from "./model-run.ts";
import { MUTATIONS, MUTED, openForgetful, openMutant, openMuted } from "./mutants.ts";
import { formatStep, parseSteps } from "./operations.ts";
import { Random } from "./random.ts";
import { shrink } from "./shrink.ts";

/** Sequences tried before a mutant counts as not found: the rarest needs a few hundred steps. */
const SEEDS = [11, 12, 13, 14, 15, 16];
const STEPS = 600;

async function firstFailure(open: OpenHarness) {
  for (const seed of SEEDS) {
    const steps = generateSteps(new Random(seed), STEPS);
    const { failure } = await runSteps(open, steps);
    if (failure !== undefined) return { steps: steps.slice(0, failure.index + 1), failure };
  }
  return undefined;
}

describe("the model test finds an engine that", () => {
  test.for(Object.entries(MUTATIONS))("%s", async ([, mutation]) => {
    expect(await firstFailure(openMutant(mutation))).toBeDefined();
  });

  test.for(Object.entries(MUTED))("%s", async ([, muted]) => {
    expect(await firstFailure(openMuted(muted))).toBeDefined();
  });

  test("loses a record in a crash", async () => {
    expect(await firstFailure(openForgetful)).toBeDefined();
  });
});

test("a failing sequence is made small, survives JSON, and still fails", async () => {
  const open = openMutant(MUTATIONS["ignores RENAME_NOREPLACE"] ?? (() => undefined));
  const found = await firstFailure(open);
  const fails = async (steps: Parameters<typeof runSteps>[1]) => (await runSteps(open, steps)).failure !== undefined;
  const small = await shrink(found?.steps ?? [], fails);
  expect(small.length).toBeLessThanOrEqual(8);
  expect(await fails(parseSteps(small.map(formatStep).join("\n")))).toBe(true);
});

test("the same seed makes the same steps", () => {
  const steps = generateSteps(new Random(5), 300);
  expect(generateSteps(new Random(5), 300)).toEqual(steps);
  expect(generateSteps(new Random(6), 300)).not.toEqual(steps);
});

test("a run closes its engine also when it fails", async () => {
  let open = 0;
  const counting: OpenHarness = async (options: { readonly clock: Clock }) => {
    const harness = await openMutant(MUTATIONS["ignores the umask"] ?? (() => undefined))(options);
    open++;
    const close = async (): Promise<void> => {
      open--;
      await harness.close();
    };
    return { ...harness, close, reopen: async () => ({ ...(await harness.reopen()), close }) };
  };
  expect(await firstFailure(counting)).toBeDefined();
  expect(open).toBe(0);
});
