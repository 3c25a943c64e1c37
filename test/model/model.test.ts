import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "vitest";
import { generateSteps } from "./generate.ts";
import type { OpenHarness } from "./harness.ts";
import { openModel } from "./model-api.ts";
import { runSteps } from "./model-run.ts";
import { openEngine } from "./open-engine.ts";
import { formatStep, parseSteps, type Step } from "./operations.ts";
import { Random } from "./random.ts";
import { shrink } from "./shrink.ts";

// MODEL_OPS=n: steps; SEED=n: another sequence; REPLAY=file: the steps of a file, one JSON line each, instead of random ones.
const STEPS = Number(process.env["MODEL_OPS"] ?? 3000);
const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 32));
const REPLAY = process.env["REPLAY"];
/** Lines of a replay shown in the message; the file has all. */
const LINES_SHOWN_MAX = 60;
/** The run, and as long again for each step that shrinking may take. */
const TIMEOUT_MS = 120_000 + STEPS * 200;

/** Throws an error that tells how to see the failure again, with as few steps as were found. */
async function report(
  open: OpenHarness,
  steps: readonly Step[],
  failure: { index: number; message: string },
): Promise<never> {
  console.log(`SEED=${SEED}, step ${failure.index}: ${failure.message}; making it small`);
  const small = await shrink(
    steps.slice(0, failure.index + 1),
    async (some) => (await runSteps(open, some)).failure !== undefined,
  );
  const last = (await runSteps(open, small)).failure ?? {
    message: "(it did not fail again: use the SEED in a new process)",
  };
  const file = join(mkdtempSync(join(tmpdir(), "tidemark-model-")), "replay.jsonl");
  const lines = small.map(formatStep);
  writeFileSync(file, `# SEED=${SEED}: ${last.message.split("\n")[0]}\n${lines.join("\n")}\n`);
  throw new Error(
    `SEED=${SEED}, step ${failure.index}: ${failure.message}\n` +
      `${small.length} steps are enough: ${last.message}\n${lines.slice(0, LINES_SHOWN_MAX).join("\n")}\n` +
      `again: REPLAY=${file} npx vitest run test/model`,
  );
}

async function check(open: OpenHarness, count: number): Promise<void> {
  const steps =
    REPLAY === undefined ? generateSteps(new Random(SEED), count) : parseSteps(readFileSync(REPLAY, "utf8"));
  console.log(REPLAY === undefined ? `SEED=${SEED} MODEL_OPS=${count}` : `REPLAY=${REPLAY}`);
  const { failure, ...counts } = await runSteps(open, steps);
  if (failure !== undefined) await report(open, steps, failure);
  console.log(`${counts.executed} requests, ${counts.skipped} passed over, last LSN ${counts.records}`);
}

describe("random operations against a plain tree in memory", () => {
  test("the model agrees with itself through the port", () => check(openModel, Math.min(STEPS, 1000)), TIMEOUT_MS);

  const engine = openEngine;
  if (engine === undefined) test.todo("the engine agrees with the model");
  else
    test("the engine agrees with the model, now and at every moment compared", () => check(engine, STEPS), TIMEOUT_MS);
});
