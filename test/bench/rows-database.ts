/** The rows of databases, whose speed is that of fsync. */
import { join } from "node:path";
import { run } from "./command.ts";
import { pgbenchTps, postgresUnavailable } from "./postgres.ts";
import type { Row, Sample } from "./row.ts";

export const DATABASE_ROWS: readonly Row[] = [
  {
    id: "pgbench",
    title: "PostgreSQL, pgbench -c 4 -s 10",
    unit: "TPS",
    aim: "0.8 C",
    fixtures: ["postgres"],
    unavailable: postgresUnavailable,
    measure: async (bench, target) => {
      const dir = await bench.fixture(target, "postgres");
      const options = { seconds: bench.sizes.pgbenchSeconds, socketDir: bench.inputDir };
      return { value: await pgbenchTps(dir, options) };
    },
  },
  sqliteRow("FULL", "0.8 C"),
  sqliteRow("NORMAL", "C"),
];

function sqliteRow(synchronous: "FULL" | "NORMAL", aim: string): Row {
  return {
    id: `sqlite-${synchronous.toLowerCase()}`,
    title: `SQLite insert, WAL, synchronous ${synchronous}`,
    unit: "/s",
    aim,
    measure: (bench, target) =>
      bench.inFreshDir(target, async (dir) => {
        const child = join(import.meta.dirname, "sqlite-child.ts");
        const args = [child, join(dir, "bench.db"), synchronous, String(bench.sizes.sqliteSeconds)];
        return JSON.parse((await run(process.execPath, args)).stdout) as Sample;
      }),
  };
}
