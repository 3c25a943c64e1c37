/** What /proc says about the processes of a target, and about mounts. */
import { readdirSync, readFileSync } from "node:fs";
import { pause } from "./command.ts";

/** Linux reports CPU time in ticks of 1/100 s on every architecture we run on (USER_HZ). */
const TICKS_PER_SECOND = 100;
/** Below 5 % of one CPU over the sample a target counts as idle. */
const IDLE_CPU_SHARE_MAX = 0.05;
const IDLE_SAMPLE_MS = 200;

/** `pid` and all its descendants that are alive. */
export function processTree(pid: number): number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const parent = Number(statFields(Number(name))?.[1]);
    if (Number.isNaN(parent)) continue;
    children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  const tree: number[] = statFields(pid) === undefined ? [] : [pid];
  for (const member of tree) tree.push(...(children.get(member) ?? []));
  return tree;
}

/** CPU seconds, user and system, the processes have used so far. */
export function cpuSeconds(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    const fields = statFields(pid);
    // Fields 14 and 15 of proc(5) stat; the array starts at field 3.
    ticks += Number(fields?.[11] ?? 0) + Number(fields?.[12] ?? 0);
  }
  return ticks / TICKS_PER_SECOND;
}

/** Proportional set size of the processes together, in bytes: shared pages are counted once. */
export function proportionalSetBytes(pids: readonly number[]): number {
  let kilobytes = 0;
  for (const pid of pids) {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, "latin1");
    kilobytes += Number(/^Pss:\s+(\d+) kB/m.exec(text)?.[1] ?? Number.NaN);
  }
  return kilobytes * 1024;
}

/** Waits until the processes are idle, at most `limitMs`; returns whether they became so. */
export async function waitUntilIdle(pids: () => number[], limitMs: number): Promise<boolean> {
  const deadlineMs = performance.now() + limitMs;
  if (pids().length === 0) return true;
  while (performance.now() < deadlineMs) {
    const before = cpuSeconds(pids());
    await pause(IDLE_SAMPLE_MS);
    if (cpuSeconds(pids()) - before <= (IDLE_CPU_SHARE_MAX * IDLE_SAMPLE_MS) / 1000) return true;
  }
  return false;
}

export type Mount = { device: string; mountpoint: string; type: string };

/** The mounts of this mount namespace (proc(5), mountinfo). */
export function mounts(): Mount[] {
  const found: Mount[] = [];
  for (const line of readFileSync("/proc/self/mountinfo", "latin1").split("\n")) {
    const [left, right] = line.split(" - ");
    const fields = left?.split(" ") ?? [];
    const [device, mountpoint] = [fields[2], fields[4]];
    if (device === undefined || mountpoint === undefined || right === undefined) continue;
    found.push({ device, mountpoint: unescapeOctal(mountpoint), type: right.split(" ")[0] ?? "" });
  }
  return found;
}

/** Whether something is mounted exactly there. */
export function isMounted(mountpoint: string): boolean {
  return mounts().some((mount) => mount.mountpoint === mountpoint);
}

/** The fields of /proc/PID/stat from the third on (the second, the command, may hold blanks), or undefined. */
function statFields(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    return text.slice(text.lastIndexOf(")") + 2).split(" ");
  } catch {
    return undefined;
  }
}

function unescapeOctal(text: string): string {
  return text.replace(/\\(\d{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
