/** The head of a report: where and on what it was measured. */
import { cpus, loadavg, release, totalmem } from "node:os";
import { resolve } from "node:path";
import { run } from "./command.ts";
import type { BenchTarget } from "./target.ts";
import { fileSystemName } from "./target-plain.ts";
import type { TargetSet } from "./targets.ts";

/** Text that ends with a newline; `scratch` names the folder all targets share. */
export async function describeMachine(set: TargetSet, scratch?: string): Promise<string> {
  const lines = [
    `Linux ${release()}, ${cpus().length} CPUs (${cpus()[0]?.model ?? "unknown"}), ${(totalmem() / 2 ** 30).toFixed(1)} GiB`,
    `Node ${process.versions.node}, commit ${await commit()}, ${new Date().toISOString()}, load ${loadavg()[0]?.toFixed(2)}`,
    ...(scratch === undefined ? [] : [`scratch on ${fileSystemName(scratch)}`]),
    ...set.targets.map((target) => describeTarget(set, target)),
    ...set.absent.map((line) => `left out: ${line}`),
  ];
  return `${lines.join("\n")}\n`;
}

function describeTarget(set: TargetSet, target: BenchTarget): string {
  const history = target.name === set.columns.history?.with ? ", with a history behind it" : "";
  return `${target.name.padEnd(16)} ${target.description}${history}`;
}

async function commit(): Promise<string> {
  const git = (...args: string[]) =>
    run("git", ["-C", resolve(import.meta.dirname, "../.."), ...args], { cleanup: true });
  try {
    const name = (await git("rev-parse", "--short", "HEAD")).stdout.trim();
    return (await git("status", "--porcelain", "-uno")).stdout === "" ? name : `${name} with changes`;
  } catch {
    return "unknown";
  }
}
