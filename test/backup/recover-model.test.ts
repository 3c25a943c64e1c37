import { expect, test } from "vitest";
import { generateSteps } from "../model/generate.ts";
import { runSteps } from "../model/model-run.ts";
import type { Step } from "../model/operations.ts";
import { Random } from "../model/random.ts";
import { openRecoveredEngine, type RecoveredRun } from "./open-recovered-engine.ts";

// RECOVER_OPS=n: steps; RECOVER_EVERY=n: steps between two losses; SEED=n: another sequence. The long form: RECOVER_OPS=130000 RECOVER_EVERY=5000 (100,000 changes).
const STEPS = Number(process.env["RECOVER_OPS"] ?? 2500);
const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 32));

/** Steps after which the machine is lost again. */
const STEPS_BETWEEN_LOSSES = Number(process.env["RECOVER_EVERY"] ?? 60);

/** Some steps become losses, and no others, with a look at a past moment behind them; some become a pause in which data are brought in. */
function withLosses(step: Step, index: number, random: Random): Step {
  switch (index % STEPS_BETWEEN_LOSSES) {
    case STEPS_BETWEEN_LOSSES - 20:
      return { ...step, do: { op: "settle" } };
    case STEPS_BETWEEN_LOSSES - 2:
      return { ...step, do: { op: "reopen" } };
    case STEPS_BETWEEN_LOSSES - 1:
      return { ...step, do: { op: "check", moment: random.u32(), seed: random.u32() } };
    default:
      return step.do.op === "reopen" ? { ...step, do: { op: "settle" } } : step;
  }
}

test(
  "an app that is lost and recovered again and again is as it was, now and at past moments",
  async () => {
    console.log(`SEED=${SEED} RECOVER_OPS=${STEPS}`);
    const run: RecoveredRun = { recoveries: 0, checkpoints: 0, hydrations: 0, seals: 0 };
    const random = new Random(SEED);
    const steps = generateSteps(random, STEPS).map((step, index) => withLosses(step, index, random));
    const result = await runSteps(openRecoveredEngine({ seed: SEED, run }), steps);
    console.log(JSON.stringify({ ...run, ...result }));
    expect(result.failure).toBeUndefined();
    expect(run.recoveries).toBeGreaterThan(STEPS / (2 * STEPS_BETWEEN_LOSSES));
  },
  60_000 + STEPS * 200,
);
