/** The rows of everyday programs: tar, git, npm, rm. */
import { copyFileSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import type { Bench } from "./bench.ts";
import { run } from "./command.ts";
import { gitFastImportStream } from "./git-stream.ts";
import type { Row } from "./row.ts";

const REPOSITORY = resolve(import.meta.dirname, "../..");
/** The user's own settings are no part of the row. */
const GIT_ENV = { GIT_CONFIG_GLOBAL: "/dev/null", GIT_CONFIG_NOSYSTEM: "1" };
/** npm runs under the Node that runs the bench. */
const NPM_ENV = { PATH: `${dirname(process.execPath)}:${process.env["PATH"] ?? ""}` };
const NPM_OPTIONS = [
  "--ignore-scripts",
  "--no-audit",
  "--no-fund",
  "--no-progress",
  "--loglevel=error",
  "--logs-max=0",
];

export const TOOL_ROWS: readonly Row[] = [
  {
    id: "untar",
    title: "untar /usr/include",
    unit: "s",
    aim: "2.5",
    measure: async (bench, target) => {
      const archive = await bench.input("include.tar", includeArchive);
      await bench.settle(target);
      return bench.inFreshDir(target, (dir) => bench.seconds(target, () => run("tar", ["-xf", archive, "-C", dir])));
    },
  },
  {
    id: "git-clone",
    title: "git clone, 4,000 files",
    unit: "s",
    aim: "1.9",
    measure: async (bench, target) => {
      const source = await bench.input("source.git", (path) => generateRepository(bench, path));
      await bench.settle(target);
      return bench.inFreshDir(target, (dir) =>
        bench.seconds(target, () =>
          run("git", ["clone", "--quiet", "--no-local", source, join(dir, "clone")], { env: GIT_ENV }),
        ),
      );
    },
  },
  {
    id: "npm-ci",
    title: "npm ci, warm npm cache",
    unit: "s",
    aim: "4.6",
    unavailable: async (bench) => {
      try {
        await bench.input("npm", warmNpmCache);
        return undefined;
      } catch (error) {
        return `the npm cache is cold and could not be filled: ${String(error)}`;
      }
    },
    measure: (bench, target) =>
      bench.inFreshDir(target, (dir) => {
        copyProject(dir);
        return bench.seconds(target, () => run("npm", ["ci", "--offline", ...NPM_OPTIONS], { cwd: dir, env: NPM_ENV }));
      }),
  },
  {
    id: "rm",
    title: "rm -rf 10,000 files",
    unit: "s",
    aim: "0.9",
    measure: (bench, target) =>
      bench.inFreshDir(target, async (dir) => {
        const count = bench.sizes.removeCount;
        await bench.workload(target, "create", { dir, count, perdir: bench.sizes.filesPerDir });
        await bench.settle(target);
        return bench.seconds(target, () => run("rm", ["-rf", dir]));
      }),
  },
];

async function includeArchive(path: string): Promise<void> {
  await run("tar", ["-cf", path, "-C", "/usr", "include"]);
  readFileSync(path); // warm: the row is about writing
}

async function generateRepository(bench: Bench, path: string): Promise<void> {
  await run("git", ["init", "--quiet", "--bare", "--initial-branch=main", path], { env: GIT_ENV });
  const input = gitFastImportStream({ fileCount: bench.sizes.gitFileCount, filesPerDir: bench.sizes.filesPerDir });
  await run("git", ["fast-import", "--quiet"], { cwd: path, env: GIT_ENV, input });
}

/** One installation on the scratch disk: fills the cache if the registry can be reached, and shows it is complete. */
async function warmNpmCache(path: string): Promise<void> {
  mkdirSync(path);
  copyProject(path);
  await run("npm", ["ci", "--prefer-offline", ...NPM_OPTIONS], { cwd: path, env: NPM_ENV });
  rmSync(path, { recursive: true });
}

function copyProject(dir: string): void {
  for (const name of ["package.json", "package-lock.json"]) copyFileSync(join(REPOSITORY, name), join(dir, name));
}
