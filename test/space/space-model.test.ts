import { expect, test } from "vitest";
import { runSteps } from "../model/model-run.ts";
import { type BoundedRun, openBoundedEngine } from "./open-bounded-engine.ts";
import { stepsOf } from "./space-steps.ts";

// SPACE_OPS=n: steps; SEED=n: another sequence.
const STEPS = Number(process.env["SPACE_OPS"] ?? 2500);
const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 32));

const SEGMENT_BYTES = Number(process.env["SPACE_SEGMENT"] ?? 64 * 1024);
const HISTORY_BYTES = 2 * SEGMENT_BYTES;

for (const interrupts of [false, true]) {
  const how = interrupts ? "when collections are cut short" : "and bytes are given back";
  test(
    `with a tiny history the present and every readable moment are right, ${how}`,
    async () => {
      console.log(`SEED=${SEED} SPACE_OPS=${STEPS}`);
      const run: BoundedRun = { collections: 0, interruptions: 0, removed: 0, relocations: 0, journalBytesMax: 0 };
      const open = openBoundedEngine({
        seed: SEED,
        segmentBytesMax: SEGMENT_BYTES,
        historyBytesMax: HISTORY_BYTES,
        interrupts,
        run,
      });
      const result = await runSteps(open, stepsOf(SEED, STEPS));
      console.log(JSON.stringify({ ...run, ...result }));
      expect(result.failure).toBeUndefined();
      expect(run.removed).toBeGreaterThan(5);
    },
    60_000 + STEPS * 100,
  );
}
