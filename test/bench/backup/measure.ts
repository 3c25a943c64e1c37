/** What a step took: time, CPU of everything that worked for it, bytes read from the disk, memory. */
import { readFileSync, writeFileSync } from "node:fs";
import { type CommandOptions, run } from "../command.ts";
import { cpuSeconds, processTree } from "../process-info.ts";

export type Measured = {
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly readBytes: number;
  readonly peakBytes: number;
};

/** Programs that live for less are not seen by the look-round; CPU comes from the shell all the same. */
const LOOK_MS = 20;

/** Sizes of a process that only grow, so that the last look is the answer. */
type Seen = { peakBytes: number; readBytes: number };

/** Runs a program and measures it with all its children, and beside it the processes of `service`. */
export async function measure(
  command: string,
  args: readonly string[],
  options: CommandOptions & { readonly service?: () => number[] } = {},
): Promise<Measured> {
  const service = options.service ?? (() => []);
  const before = { cpu: cpuSeconds(service()), read: readBytesOf(service()) };
  const seen = new Map<number, Seen>();
  const look = (): void => {
    for (const pid of processTree(process.pid)) if (pid !== process.pid) note(seen, pid);
  };
  const timer = setInterval(look, LOOK_MS);
  try {
    // bash's `time` counts what its children used, also those that have ended.
    const script = 'TIMEFORMAT="%U %S"; { time "$@" 2>&3; } 3>&2 2>&1 >/dev/null';
    const { stdout, seconds } = await run("bash", ["-c", script, "bash", command, ...args], options);
    for (const pid of service()) note(seen, pid);
    const [user, system] = stdout.trim().split("\n").at(-1)?.split(" ").map(Number) ?? [];
    const own = service();
    const others = [...seen].filter(([pid]) => !own.includes(pid)).map(([, value]) => value);
    return {
      seconds,
      cpuSeconds: (user ?? 0) + (system ?? 0) + cpuSeconds(own) - before.cpu,
      readBytes: others.reduce((sum, { readBytes }) => sum + readBytes, 0) + readBytesOf(own) - before.read,
      peakBytes: [...seen.values()].reduce((sum, { peakBytes }) => sum + peakBytes, 0),
    };
  } finally {
    clearInterval(timer);
  }
}

/** Nothing of any file is in memory after this. */
export async function dropCaches(): Promise<void> {
  await run("sync", []);
  writeFileSync("/proc/sys/vm/drop_caches", "3");
}

/** Bytes of a folder as `du` counts them. */
export async function folderBytes(folder: string): Promise<number> {
  const { stdout } = await run("du", ["-sb", folder]);
  return Number(stdout.split("\t")[0]);
}

function note(seen: Map<number, Seen>, pid: number): void {
  try {
    const peak = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1];
    if (peak !== undefined) seen.set(pid, { peakBytes: Number(peak) * 1024, readBytes: readBytesOf([pid]) });
  } catch {
    // It has ended: the last look counts.
  }
}

function readBytesOf(pids: readonly number[]): number {
  let sum = 0;
  for (const pid of pids) {
    try {
      sum += Number(/^read_bytes: (\d+)/m.exec(readFileSync(`/proc/${pid}/io`, "latin1"))?.[1] ?? 0);
    } catch {
      // It has ended.
    }
  }
  return sum;
}
