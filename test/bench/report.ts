/** Turns results into tables and JSON. */
import { goodness, isRate, type Row } from "./row.ts";
import type { Cell, Results } from "./runner.ts";
import { type Summary, summarize } from "./statistics.ts";
import { formatValue, renderTable, significant } from "./table.ts";

/** The columns by role; a name is absent when the target was not measured. */
export type Columns = {
  /** All targets, in order. */
  names: string[];
  plain: string | undefined;
  passThrough: string | undefined;
  passThroughTuned: string | undefined;
  /** The pair of `--history`: the same target without and with a past. */
  history: { without: string; with: string } | undefined;
};

export type Report = { rows: readonly Row[]; results: Results; columns: Columns; rounds: number };

/** The whole report for a person. */
export function renderReport(report: Report): string {
  const sections = [
    heading(`Median (min..max) of ${report.rounds} interleaved rounds`, valueTable(report)),
    heading("Ratios of medians: above 1 is better than the reference, whatever the unit", ratioTable(report)),
    heading(
      "Latency of one operation, median / 99th percentile in µs (medians of the rounds' own)",
      latencyTable(report),
    ),
    heading("After a history: ratios to the same target without one, 1.00 is no difference", historyTable(report)),
    heading("Not measured", remarks(report)),
  ];
  return sections.filter((section) => section !== "").join("\n");
}

/** Kernel requests per operation (or in all, where a row is one program's run), with the opcodes that make them up. */
export function renderTrips(report: Report): string {
  const rows: string[][] = [];
  for (const row of report.rows) {
    for (const name of report.columns.names) {
      const cell = report.results.get(row.id)?.get(name);
      const sample = cell?.state === "measured" ? cell.samples[0] : undefined;
      if (sample?.requests === undefined) continue;
      const ops = isRate(row.unit) ? (sample.ops ?? 1) : 1;
      const opcodes = Object.entries(sample.requests).sort(([, a], [, b]) => b - a);
      const total = opcodes.reduce((sum, [, requests]) => sum + requests, 0);
      const shares = opcodes.slice(0, 8).map(([opcode, requests]) => `${opcode} ${significant(requests / ops)}`);
      rows.push([row.title, name, ops === 1 ? "in all" : "per op", significant(total / ops), shares.join(", ")]);
    }
  }
  const table = renderTable(["row", "target", "", "requests", "of which"], rows, "lllrl");
  return `${heading("Requests of the kernel (FORGET not counted)", table)}${heading("Not measured", remarks(report))}`;
}

/** The report as a value for JSON.stringify: every sample and its summary. */
export function reportToJson(report: Report): unknown {
  return report.rows.map((row) => ({
    id: row.id,
    title: row.title,
    unit: row.unit,
    aim: row.aim,
    targets: Object.fromEntries(
      report.columns.names.map((name) => {
        const cell = report.results.get(row.id)?.get(name);
        return [name, { ...cell, summary: summaryOf(cell), ...ratios(report, row, name) }];
      }),
    ),
  }));
}

function ratios(report: Report, row: Row, name: string): Record<string, number> {
  const { plain, passThrough, passThroughTuned } = report.columns;
  const all: Record<string, number> = {};
  for (const reference of [plain, passThrough, passThroughTuned]) {
    const ratio = reference === undefined ? undefined : ratioOf(report, row, { name, reference });
    if (ratio !== undefined) all[`ratioTo ${reference}`] = ratio;
  }
  return all;
}

function valueTable(report: Report): string {
  const { names } = report.columns;
  const rows = report.rows.map((row) => [
    row.title,
    row.unit,
    ...names.map((name) => valueText(row, report.results.get(row.id)?.get(name))),
  ]);
  return renderTable(["row", "unit", ...names], rows, "llr");
}

function valueText(row: Row, cell: Cell | undefined): string {
  if (cell?.state === "failed") return "failed";
  const summary = summaryOf(cell);
  if (summary === undefined) return "-";
  const text = (value: number) => formatValue(row.unit, value);
  if (summary.sampleCount === 1) return text(summary.median);
  return `${text(summary.median)} (${text(summary.min)}..${text(summary.max)})`;
}

function ratioTable(report: Report): string {
  const { names, plain, passThrough, passThroughTuned } = report.columns;
  const pairs: { name: string; reference: string }[] = [];
  for (const reference of [plain, passThrough, passThroughTuned]) {
    const yardsticks = [plain, passThrough, passThroughTuned];
    for (const name of names) {
      // C against C says little; everything against ext4, and what is under test against everything.
      const wanted = reference === plain ? name !== plain : !yardsticks.includes(name);
      if (reference !== undefined && wanted) pairs.push({ name, reference });
    }
  }
  if (pairs.length === 0) return "";
  const rows = report.rows.map((row) => [
    row.title,
    row.aim,
    ...pairs.map((pair) => ratioText(ratioOf(report, row, pair))),
  ]);
  return renderTable(["row", "aim", ...pairs.map(({ name, reference }) => `${name}/${reference}`)], rows, "llr");
}

function ratioOf(report: Report, row: Row, pair: { name: string; reference: string }): number | undefined {
  const of = summaryOf(report.results.get(row.id)?.get(pair.name));
  const to = summaryOf(report.results.get(row.id)?.get(pair.reference));
  return of === undefined || to === undefined ? undefined : goodness(row.unit, of.median, to.median);
}

function latencyTable(report: Report): string {
  const { names } = report.columns;
  const text = (cell: Cell | undefined) => {
    const summary = summaryOf(cell);
    if (summary?.p50Us === undefined || summary.p99Us === undefined) return "-";
    return `${significant(summary.p50Us)} / ${significant(summary.p99Us)}`;
  };
  const rows = report.rows
    .map((row) => [row.title, ...names.map((name) => text(report.results.get(row.id)?.get(name)))])
    .filter((cells) => cells.slice(1).some((cell) => cell !== "-"));
  return rows.length === 0 ? "" : renderTable(["row", ...names], rows, "lr");
}

function historyTable(report: Report): string {
  const pair = report.columns.history;
  if (pair === undefined) return "";
  const rows = report.rows.map((row) => {
    const without = summaryOf(report.results.get(row.id)?.get(pair.without));
    const after = summaryOf(report.results.get(row.id)?.get(pair.with));
    const speed = without && after && goodness(row.unit, after.median, without.median);
    const tail = without?.p99Us && after?.p99Us ? without.p99Us / after.p99Us : undefined;
    return [row.title, ratioText(speed), ratioText(tail)];
  });
  return renderTable(["row", "median", "p99"], rows, "lr");
}

function remarks(report: Report): string {
  const lines = new Set<string>();
  for (const row of report.rows) {
    for (const [name, cell] of report.results.get(row.id) ?? []) {
      if (cell.state === "failed") lines.add(`${row.title}, ${name}: FAILED: ${cell.message}`);
      if (cell.state === "absent" && cell.because === "machine") lines.add(`${row.title}: ${cell.reason}`);
    }
  }
  return [...lines].join("\n");
}

function ratioText(ratio: number | undefined): string {
  return ratio === undefined ? "-" : ratio.toFixed(2);
}

function summaryOf(cell: Cell | undefined): Summary | undefined {
  return cell?.state === "measured" && cell.samples.length > 0 ? summarize(cell.samples) : undefined;
}

function heading(title: string, body: string): string {
  return body === "" ? "" : `${title}\n\n${body}\n`;
}
