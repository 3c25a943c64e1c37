import { test } from "vitest";
import { writeFileSync } from "node:fs";
import { runSteps } from "/work/main/test/model/model-run.ts";
import { shrink } from "/work/main/test/model/shrink.ts";
import { formatStep } from "/work/main/test/model/operations.ts";
import { stepsOf } from "/work/main/test/space/space-steps.ts";
import { openBoundedEngine } from "/work/main/test/space/open-bounded-engine.ts";
const SEED = Number(process.env.SEED), OPS = Number(process.env.SPACE_OPS), INT = process.env.INT === "1";
test("shrink", async () => {
  const mk = () => openBoundedEngine({ seed: SEED, segmentBytesMax: Number(process.env.SEG ?? 65536), historyBytesMax: Number(process.env.HIST ?? 131072), interrupts: INT, run: { collections: 0, interruptions: 0, removed: 0, relocations: 0, journalBytesMax: 0 } });
  const steps = stepsOf(SEED, OPS);
  const r = await runSteps(mk(), steps);
  console.log(r);
  if (!r.failure) return;
  const t0 = Date.now();
  const small = await shrink(steps.slice(0, r.failure.index + 1), async (some) => Date.now() - t0 < 240_000 && (await runSteps(mk(), some)).failure !== undefined);
  console.log(small.length, (await runSteps(mk(), small)).failure?.message);
  writeFileSync("/tmp/small.jsonl", small.map(formatStep).join("\n"));
}, 500_000);
