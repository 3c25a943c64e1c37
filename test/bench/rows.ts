/** All rows, in the order of the table. */
import type { Row } from "./row.ts";
import { DATABASE_ROWS } from "./rows-database.ts";
import { memoryRow } from "./rows-memory.ts";
import { SYSCALL_ROWS } from "./rows-syscalls.ts";
import { TOOL_ROWS } from "./rows-tools.ts";

/**
 * The rows of a run. `ids` selects by id, or by the beginning of ids where no row has exactly that one: "stat" is all
 * three, but "create" is not "create-fsync". Undefined is all. Throws with the list of ids when one selects nothing.
 */
export function selectRows(ids: readonly string[] | undefined, memoryFileCount: number): Row[] {
  const all = [...SYSCALL_ROWS, ...TOOL_ROWS, ...DATABASE_ROWS, memoryRow(memoryFileCount)];
  if (ids === undefined) return all;
  const chosen = new Set(ids.flatMap((id) => rowsNamed(all, id)));
  return all.filter((row) => chosen.has(row));
}

function rowsNamed(all: readonly Row[], id: string): Row[] {
  const exact = all.filter((row) => row.id === id);
  const family = all.filter((row) => row.id.startsWith(`${id}-`));
  if (exact.length + family.length > 0) return exact.length > 0 ? exact : family;
  throw new Error(`no row "${id}"; there are: ${all.map((row) => row.id).join(", ")}`);
}
