/** Memory of the processes that serve a target. */
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { proportionalSetBytes } from "./process-info.ts";
import type { Row } from "./row.ts";

const FILES_PER_DIR = 1_000;

/** PSS of all processes of a target that has just started and then seen every name of a tree of `fileCount` files. */
export function memoryRow(fileCount: number): Row {
  return {
    id: "memory",
    title: `PSS after a walk of ${fileCount.toLocaleString("en")} files`,
    unit: "MiB",
    aim: fileCount === 1_000_000 ? "400" : "",
    once: true,
    needsServer: true,
    measure: async (bench, target) => {
      const dir = join(target.dir, "fixture-walk");
      if (!existsSync(dir)) {
        mkdirSync(dir);
        await bench.workload(target, "create", { dir, count: fileCount, perdir: FILES_PER_DIR, size: 0 });
      }
      await bench.makeCold(target);
      await bench.workload(target, "walk", { dir });
      return { value: proportionalSetBytes(target.processIds()) / (1024 * 1024) };
    },
  };
}
