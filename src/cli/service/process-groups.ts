import { readFileSync } from "node:fs";

/**
 * Supplementary groups of a process or thread, as the kernel shows them. None when it is gone or not ours to see: then only its own group counts. /proc
 * is memory of the kernel: reading it does not wait for anything, not even for our own mounts.
 */
export function supplementaryGroups(pid: number): readonly number[] {
  if (pid === 0) return [];
  try {
    const status = readFileSync(`/proc/${pid}/status`, "latin1");
    const groups = /^Groups:\s*(.*)$/m.exec(status)?.[1] ?? "";
    return groups
      .split(" ")
      .filter((group) => group !== "")
      .map(Number);
  } catch {
    return [];
  }
}
