import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync } from "node:fs";

/** Why tests with the real kernel mount can't run on this machine; undefined when they can. */
function missingForMounts(): string | undefined {
  if (process.getuid?.() !== 0) return "mounting needs root";
  if (!existsSync("/dev/fuse")) return "/dev/fuse is missing";
  try {
    accessSync("/dev/fuse", constants.R_OK | constants.W_OK);
  } catch {
    return "/dev/fuse can't be opened";
  }
  return undefined;
}

/** Whether a command is there. */
export function hasCommand(command: string): boolean {
  return spawnSync("sh", ["-c", `command -v ${command}`]).status === 0;
}

/**
 * Whether the tests of a file must be skipped because the machine lacks a part; says which. In CI nothing is skipped: there the lack fails.
 */
export function skipWithout(...commands: readonly string[]): boolean {
  const missing = [
    missingForMounts(),
    ...commands.filter((command) => !hasCommand(command)).map((command) => `${command} is not installed`),
  ];
  const reasons = missing.filter((reason) => reason !== undefined);
  if (reasons.length === 0) return false;
  if (process.env["CI"] !== undefined) throw new Error(`tests can't run here: ${reasons.join("; ")}`);
  console.log(`skipped: ${reasons.join("; ")}`);
  return true;
}
