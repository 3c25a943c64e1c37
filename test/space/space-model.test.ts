import { expect, test } from "vitest";
import { generateSteps } from "../model/generate.ts";
import { runSteps } from "../model/model-run.ts";
import type { Step } from "../model/operations.ts";
import { Random } from "../model/random.ts";
import { type BoundedRun, openBoundedEngine } from "./open-bounded-engine.ts";

// SPACE_OPS=n: steps; SEED=n: another sequence.
const STEPS = Number(process.env["SPACE_OPS"] ?? 2500);
const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 32));

const SEGMENT_BYTES = 64 * 1024;
const HISTORY_BYTES = 128 * 1024;

/** Steps between two times that things settle. */
const SETTLE_EVERY = 40;

/** The usual random steps, but with many more times to settle and to crash after it. What is sent again must be among the last records, and here others may come after it. */
function stepsOf(seed: number, count: number): Step[] {
  const random = new Random(seed);
  const steps: Step[] = [];
  for (const step of generateSteps(random, count)) {
    if (step.do.op === "resend") continue;
    steps.push(step);
    if (!random.oneIn(SETTLE_EVERY)) continue;
    steps.push({ ...step, clock: 0, do: { op: "settle" } });
    if (random.oneIn(2)) steps.push({ ...step, clock: 0, do: { op: "reopen" } });
    // The oldest moments are those that snapshots keep.
    for (const moment of [0, random.below(6), random.u32(), -1]) {
      if (random.oneIn(2)) steps.push({ ...step, clock: 0, do: { op: "check", moment, seed: random.u32() } });
    }
  }
  return steps;
}

for (const interrupts of [false, true]) {
  const how = interrupts ? "when collections are cut short" : "and bytes are given back";
  test(`with a tiny history the present and every readable moment are right, ${how}`, async () => {
    console.log(`SEED=${SEED} SPACE_OPS=${STEPS}`);
    const run: BoundedRun = { collections: 0, interruptions: 0, removed: 0, relocations: 0, journalBytesMax: 0 };
    const open = openBoundedEngine({ seed: SEED, segmentBytesMax: SEGMENT_BYTES, historyBytesMax: HISTORY_BYTES, interrupts, run });
    const result = await runSteps(open, stepsOf(SEED, STEPS));
    console.log(JSON.stringify({ ...run, ...result }));
    expect(result.failure).toBeUndefined();
    expect(run.removed).toBeGreaterThan(5);
  }, 60_000 + STEPS * 100);
}
