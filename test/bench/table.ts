/** Aligned text tables and numbers a person can compare. */
import type { Unit } from "./row.ts";

/** Renders rows under a header; `align` has a letter for each column, "l" or "r", the last one for all that follow. */
export function renderTable(header: readonly string[], rows: readonly string[][], align: string): string {
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const pad = (text: string, column: number) => {
    const width = widths[column] ?? 0;
    return (align[column] ?? align.at(-1)) === "l" ? text.padEnd(width) : text.padStart(width);
  };
  const line = (cells: readonly string[]) =>
    widths
      .map((_, column) => pad(cells[column] ?? "", column))
      .join("  ")
      .trimEnd();
  return [line(header), line(widths.map((width) => "-".repeat(width))), ...rows.map(line)].join("\n");
}

/** Three significant digits; thousands as "k" for counts. */
export function formatValue(unit: Unit, value: number): string {
  if (unit === "s" || unit === "MiB") return significant(value);
  if (unit !== "MB/s" && value >= 1000) return `${significant(value / 1000)}k`;
  return significant(value);
}

/** Three significant digits, without an exponent. */
export function significant(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const digitsBefore = value === 0 ? 1 : Math.floor(Math.log10(Math.abs(value))) + 1;
  return value.toFixed(Math.min(3, Math.max(0, 3 - digitsBefore)));
}
