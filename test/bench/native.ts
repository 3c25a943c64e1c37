/** The C programs of the bench, compiled when it runs. */
import { join } from "node:path";
import { CommandError, run } from "./command.ts";

/** Compiles workload.c into `outDir`; returns the program. Throws with what to install. */
export async function compileWorkload(outDir: string): Promise<string> {
  return compile({ source: "workload.c", outDir, flags: [], hint: "apt-get install gcc libc6-dev" });
}

/** Compiles passthrough.c into `outDir`; returns the program. Throws with what to install. */
export async function compilePassThrough(outDir: string): Promise<string> {
  const hint = "apt-get install gcc libc6-dev pkg-config libfuse3-dev";
  try {
    const flags = (await run("pkg-config", ["--cflags", "--libs", "fuse3"])).stdout.trim().split(/\s+/);
    return await compile({ source: "passthrough.c", outDir, flags, hint });
  } catch (error) {
    throw error instanceof CommandError ? new Error(`libfuse 3 is missing (${hint}): ${error.message}`) : error;
  }
}

async function compile(job: { source: string; outDir: string; flags: string[]; hint: string }): Promise<string> {
  const program = join(job.outDir, job.source.replace(/\.c$/, ""));
  try {
    await run("gcc", ["-O2", "-Wall", "-Wextra", "-o", program, join(import.meta.dirname, job.source), ...job.flags]);
  } catch (error) {
    throw error instanceof CommandError
      ? new Error(`cannot compile ${job.source} (${job.hint}): ${error.message}`)
      : error;
  }
  return program;
}
