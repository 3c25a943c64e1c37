/** `npm run bench`: measures Tidemark beside ext4 and a C pass-through FUSE. See README.md in this folder. */
import { mkdirSync, statfsSync, writeFileSync } from "node:fs";
import { loadavg } from "node:os";
import { join } from "node:path";
import { Bench } from "./bench.ts";
import { Cleanups, makeScratch } from "./cleanup.ts";
import { interruptAll, wasInterrupted } from "./command.ts";
import { makeHistory } from "./history.ts";
import { describeMachine } from "./machine.ts";
import { compileWorkload } from "./native.ts";
import { type BenchOptions, parseOptions, USAGE } from "./options.ts";
import { type Report, renderReport, renderTrips, reportToJson } from "./report.ts";
import { RequestTrace } from "./request-trace.ts";
import { selectRows } from "./rows.ts";
import { type Results, runRounds } from "./runner.ts";
import { FULL_SIZES, QUICK_SIZES } from "./sizes.ts";
import { startTargets, type TargetSet } from "./targets.ts";

/** What a full run leaves behind before it cleans up, journals of five rounds included; a quick one a fifth of it. */
const SCRATCH_BYTES_MIN = 20e9;

async function main(argv: readonly string[]): Promise<number> {
  const options = parseOptions(argv);
  const sizes = options.quick ? QUICK_SIZES : FULL_SIZES;
  const rows = selectRows(options.rows, options.memoryFileCount ?? sizes.memoryFileCount);
  if (options.help) return print(USAGE);
  if (options.list) return print(rows.map((row) => `${row.id.padEnd(22)} ${row.title} (${row.unit})\n`).join(""));
  checkSpace(options);

  const startedMs = performance.now();
  const cleanups = new Cleanups();
  const results: Results = new Map();
  let set: TargetSet | undefined;
  process.on("SIGINT", interruptAll).on("SIGTERM", interruptAll).on("SIGHUP", interruptAll);
  try {
    const scratch = makeScratch(cleanups, options.scratchParent);
    const inputDir = join(scratch, "inputs");
    mkdirSync(inputDir);
    const workloadProgram = await compileWorkload(scratch);
    const trace = options.trips ? await RequestTrace.open(scratch, cleanups) : undefined;
    const bench = new Bench({ sizes, inputDir, workloadProgram, trace });
    set = await startTargets(options, scratch, cleanups);
    print(await describeMachine(set, scratch));
    await history(bench, set, { options, fixtures: rows.flatMap((row) => row.fixtures ?? []) });
    await runRounds({ bench, rows, targets: set.targets, rounds: options.rounds, progress, results });
  } catch (error) {
    if (!wasInterrupted()) throw error;
    process.stderr.write("\nbench: interrupted; what was measured so far:\n");
  } finally {
    await cleanups.runAll();
    progress("");
  }
  if (set === undefined || results.size === 0) return wasInterrupted() ? 130 : 1;
  const report: Report = { rows, results, columns: set.columns, rounds: options.rounds };
  print(`\n${options.trips ? renderTrips(report) : renderReport(report)}\n`);
  const durationS = (performance.now() - startedMs) / 1000;
  print(`Took ${(durationS / 60).toFixed(1)} minutes; load at the end ${loadavg()[0]?.toFixed(2)}.\n`);
  if (options.json !== undefined) {
    const value = { machine: await describeMachine(set), options, durationS, rows: reportToJson(report) };
    writeFileSync(options.json, `${JSON.stringify(value, undefined, 2)}\n`);
  }
  return exitStatus(results);
}

async function history(
  bench: Bench,
  set: TargetSet,
  { options, fixtures }: { options: BenchOptions; fixtures: Parameters<typeof makeHistory>[2]["fixtures"] },
): Promise<void> {
  const twin = set.targets.find((target) => target.name === set.columns.history?.with);
  if (options.history === undefined || twin === undefined) return;
  await makeHistory(bench, twin, { changeCount: options.history.changeCount, fixtures, progress });
}

/** Times are never judged: only a row that could not be run at all makes the status 1. */
function exitStatus(results: Results): number {
  if (wasInterrupted()) return 130;
  const failed = [...results.values()].some((cells) => [...cells.values()].some((cell) => cell.state === "failed"));
  return failed ? 1 : 0;
}

function checkSpace(options: BenchOptions): void {
  const { bavail, bsize } = statfsSync(options.scratchParent);
  const wanted = options.quick || options.rows !== undefined ? SCRATCH_BYTES_MIN / 5 : SCRATCH_BYTES_MIN;
  if (bavail * bsize >= wanted) return;
  throw new Error(`${options.scratchParent} has less than ${wanted / 1e9} GB free; --scratch DIR names another disk`);
}

function print(text: string): number {
  process.stdout.write(text);
  return 0;
}

/** On a terminal one line that changes, else a line each. */
function progress(line: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${line}`);
  else if (line !== "") process.stderr.write(`${line}\n`);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
