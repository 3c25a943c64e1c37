import { readFileSync } from "node:fs";

/** A process, and when it began (field 22 of /proc/PID/stat), as its number may come again. */
export type ProcessIdentity = { readonly pid: number; readonly startTicks: string };

/** Who has a number now. */
export function processOf(pid: number): ProcessIdentity {
  return { pid, startTicks: startTicksOf(pid) ?? "" };
}

/** Whether that very process lives. */
export function isAlive({ pid, startTicks }: ProcessIdentity): boolean {
  return startTicks !== "" && startTicksOf(pid) === startTicks;
}

/** undefined: there is no such process, or it is dead and not reaped. */
function startTicksOf(pid: number): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    // proc(5): the state follows the name, which is in parentheses and may have any.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : fields[19];
  } catch {
    return undefined;
  }
}
