import { generateSteps } from "../model/generate.ts";
import type { Step } from "../model/operations.ts";
import { Random } from "../model/random.ts";

/** Steps between two times that things settle. */
const SETTLE_EVERY = 40;

/** The usual random steps, but with many more times to settle and to crash after it. What is sent again must be among the last records, and here others may come after it. */
export function stepsOf(seed: number, count: number): Step[] {
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
