import type { EngineCore } from "./core.ts";
import { plainKey, prefixEnd } from "./keys.ts";

/** Rows of one table read when the data folder is opened; beyond it is not what one folder is for. */
const ROWS_MAX = 9_000_000;

const PAGE_ROWS = 1000;

/** All rows of a table, in the order of their keys. */
export function* rowsOfTable(
  core: EngineCore,
  table: number,
): Generator<{ readonly key: Buffer; readonly value: Buffer }> {
  let gte = plainKey(table);
  const lt = prefixEnd(gte);
  for (let read = 0; read < ROWS_MAX; ) {
    const rows = core.store.range({ gte, lt, limit: PAGE_ROWS });
    yield* rows;
    read += rows.length;
    const last = rows.at(-1);
    if (last === undefined || rows.length < PAGE_ROWS) return;
    gte = Buffer.concat([last.key, Buffer.alloc(1)]);
  }
}
