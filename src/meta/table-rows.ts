import type { EngineCore } from "./core.ts";
import { plainKey, prefixEnd } from "./keys.ts";
import { rowsFrom } from "./reading/paths.ts";

/** Rows of one table read when the data folder is opened; beyond it is not what one folder is for. */
const ROWS_MAX = 9_000_000;

const PAGE_ROWS = 1000;

/** All rows of a table, in the order of their keys. */
export function* rowsOfTable(
  core: EngineCore,
  table: number,
): Generator<{ readonly key: Buffer; readonly value: Buffer }> {
  const gte = plainKey(table);
  let read = 0;
  for (const row of rowsFrom(core, gte, prefixEnd(gte), PAGE_ROWS)) {
    yield row;
    if (++read === ROWS_MAX) return;
  }
}
