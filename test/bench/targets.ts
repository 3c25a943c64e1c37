/** Which targets a run measures. */
import { chmodSync, mkdirSync, mkdtempSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Cleanups } from "./cleanup.ts";
import { run } from "./command.ts";
import { compilePassThrough } from "./native.ts";
import type { BenchOptions, TargetKind } from "./options.ts";
import type { Columns } from "./report.ts";
import type { BenchTarget } from "./target.ts";
import { PassThroughTarget } from "./target-pass-through.ts";
import { fileSystemName, PlainTarget } from "./target-plain.ts";
import { TidemarkTarget } from "./target-tidemark.ts";

export type TargetSet = { targets: BenchTarget[]; columns: Columns; absent: string[] };

/** The profiles outlive the scratch folder; .gitignore names the directory. */
const PROFILE_DIR = resolve(import.meta.dirname, "../../bench-out/profile");

/** Makes and starts the targets; those that can't run here are left out, with a line in `absent` that says why. */
export async function startTargets(options: BenchOptions, scratch: string, cleanups: Cleanups): Promise<TargetSet> {
  const set: TargetSet = { targets: [], columns: noColumns(), absent: [] };
  const factory = targetFactory(options, scratch);
  for (const kind of options.targets) {
    const target = factory(kind, "");
    if (!(await startOne(set, target, cleanups))) continue;
    if (kind === "plain") set.columns.plain = target.name;
    if (kind === "c") set.columns.passThrough = target.name;
    if (kind === "c-tuned") set.columns.passThroughTuned = target.name;
    if (options.history?.of !== kind) continue;
    const twin = factory(kind, "+history");
    if (await startOne(set, twin, cleanups)) set.columns.history = { without: target.name, with: twin.name };
  }
  for (const { name, dir } of options.extraTargets) await startOne(set, extraTarget(name, dir, cleanups), cleanups);
  set.columns.names = set.targets.map((target) => target.name);
  return set;
}

async function startOne(set: TargetSet, target: BenchTarget, cleanups: Cleanups): Promise<boolean> {
  const reason = await target.unavailable();
  if (reason !== undefined) {
    set.absent.push(`${target.name}: ${reason}`);
    return false;
  }
  if (set.targets.some((other) => other.name === target.name)) throw new Error(`two targets are named ${target.name}`);
  cleanups.add(target.name, () => target.stop());
  await target.start();
  set.targets.push(target);
  return true;
}

function targetFactory(options: BenchOptions, scratch: string): (kind: TargetKind, suffix: string) => BenchTarget {
  let program: Promise<string> | undefined;
  const compile = () => {
    program ??= compilePassThrough(scratch);
    return program;
  };
  return (kind, suffix) => {
    const name = (kind === "plain" ? fileSystemName(scratch) : kind) + suffix;
    const home = join(scratch, `target-${kind}${suffix}`);
    mkdirSync(home);
    switch (kind) {
      case "plain":
        return new PlainTarget({ name, dir: join(home, "files") });
      case "c":
        return new PassThroughTarget({ name, mode: "default", home, compile });
      case "c-tuned":
        return new PassThroughTarget({ name, mode: "tuned", home, compile });
      case "tidemark":
        return new TidemarkTarget({ name, home, program: options.tidemark, nodeOptions: profile(options, name) });
    }
  };
}

function profile(options: BenchOptions, name: string): string | undefined {
  if (!options.profile) return undefined;
  const dir = join(PROFILE_DIR, name);
  mkdirSync(dir, { recursive: true });
  return `--cpu-prof --cpu-prof-dir=${dir}`;
}

/** Works in a folder of its own inside the user's directory, and takes it away again. */
function extraTarget(name: string, parent: string, cleanups: Cleanups): BenchTarget {
  const dir = mkdtempSync(join(parent, "tidemark-bench-"));
  chmodSync(dir, 0o755);
  cleanups.add(dir, async () => void (await run("rm", ["-rf", dir], { cleanup: true })));
  return new PlainTarget({ name, dir, mountpoint: parent });
}

function noColumns(): Columns {
  return { names: [], plain: undefined, passThrough: undefined, passThroughTuned: undefined, history: undefined };
}
