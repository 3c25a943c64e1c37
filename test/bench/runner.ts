/** Measures rows on targets in interleaved rounds. */
import type { Bench } from "./bench.ts";
import { wasInterrupted } from "./command.ts";
import type { Row, Sample } from "./row.ts";
import type { BenchTarget } from "./target.ts";

export type Cell =
  | { state: "measured"; samples: Sample[] }
  /** `machine`: something is missing here, worth a remark; `target`: such targets never have it. */
  | { state: "absent"; because: "machine" | "target"; reason: string }
  | { state: "failed"; message: string };

/** By row id, then target name. */
export type Results = Map<string, Map<string, Cell>>;

export type RunOptions = {
  bench: Bench;
  rows: readonly Row[];
  targets: readonly BenchTarget[];
  rounds: number;
  /** Called before each measurement, with a line for a person who waits. */
  progress: (line: string) => void;
  results: Results;
};

/**
 * Fills `results`, which so holds what was measured when the run is cut short. Round after round, row after row, each
 * target in turn, a different one first each time: what drifts on the machine hits all targets alike. A row that fails on
 * a target is not tried again there.
 */
export async function runRounds(options: RunOptions): Promise<void> {
  const { bench, rows, targets, rounds, progress, results } = options;
  await findAbsent(options);
  for (let round = 0; round < rounds; round++) {
    for (const row of rows) {
      if (row.once === true && round > 0) continue;
      for (const target of rotated(targets, round)) {
        const cell = results.get(row.id)?.get(target.name);
        if (cell?.state !== "measured") continue;
        progress(`round ${round + 1}/${rounds}  ${row.title}  ${target.name}`);
        await measureCell({ bench, row, target, cells: results.get(row.id), cell });
      }
    }
  }
}

/** The cells that hold samples get an empty list, the others the reason why they don't. */
async function findAbsent({ bench, rows, targets, progress, results }: RunOptions): Promise<void> {
  progress("looking for what the rows need");
  for (const row of rows) {
    const reason = await row.unavailable?.(bench);
    const cells = new Map<string, Cell>();
    for (const target of targets) {
      cells.set(
        target.name,
        reason === undefined ? emptyCell(row, target) : { state: "absent", because: "machine", reason },
      );
    }
    results.set(row.id, cells);
  }
}

function emptyCell(row: Row, target: BenchTarget): Cell {
  const without = (reason: string): Cell => ({ state: "absent", because: "target", reason });
  if (row.needsView === true && !target.capabilities.view) return without("no views");
  if (row.needsServer === true && target.processIds().length === 0) return without("no server");
  return { state: "measured", samples: [] };
}

type OneCell = {
  bench: Bench;
  row: Row;
  target: BenchTarget;
  cells: Map<string, Cell> | undefined;
  cell: { state: "measured"; samples: Sample[] };
};

async function measureCell({ bench, row, target, cells, cell }: OneCell): Promise<void> {
  try {
    await bench.settle(target);
    cell.samples.push(await row.measure(bench, target));
  } catch (error) {
    if (wasInterrupted()) throw error;
    cells?.set(target.name, { state: "failed", message: error instanceof Error ? error.message : String(error) });
    await recover(target);
  }
}

/** A row that failed may have left its target stopped or broken; the next row gets a fresh start. */
async function recover(target: BenchTarget): Promise<void> {
  try {
    await target.stop();
    await target.start();
  } catch (error) {
    process.stderr.write(`bench: ${target.name} does not come back: ${String(error)}\n`);
  }
}

function rotated<T>(items: readonly T[], by: number): T[] {
  const start = items.length === 0 ? 0 : by % items.length;
  return [...items.slice(start), ...items.slice(0, start)];
}
