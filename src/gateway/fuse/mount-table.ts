import { readFileSync } from "node:fs";

/** One line of /proc/self/mountinfo (proc(5)), as far as it concerns us. */
export type MountEntry = {
  /** Where it is mounted, as an absolute path without symbolic links. */
  readonly target: string;
  readonly fileSystem: string;
  readonly source: string;
  /** Minor device number: for FUSE the name of the connection under /sys/fs/fuse/connections. */
  readonly deviceMinor: number;
};

/** File system type of our mounts in the mount table. */
export const FILE_SYSTEM_TYPE = "fuse.tidemark";

/** The mounts of this process's mount namespace, in the order they were made. Touches none of them. */
export function readMountTable(): MountEntry[] {
  return parseMountTable(readFileSync("/proc/self/mountinfo", "latin1"));
}

/** Parses the text of a mountinfo file (latin1). Lines of an unknown shape are skipped. */
export function parseMountTable(text: string): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.split("\n")) {
    const entry = parseLine(line);
    if (entry !== undefined) entries.push(entry);
  }
  return entries;
}

function parseLine(line: string): MountEntry | undefined {
  const [before, after] = line.split(" - ", 2);
  const [, , device, , target] = (before ?? "").split(" ");
  const [fileSystem, source] = (after ?? "").split(" ");
  if (device === undefined || target === undefined || fileSystem === undefined || source === undefined)
    return undefined;
  const deviceMinor = Number(device.split(":")[1]);
  if (!Number.isSafeInteger(deviceMinor)) return undefined;
  return { target: unescapeOctal(target), fileSystem, source: unescapeOctal(source), deviceMinor };
}

/** Undoes the kernel's \ooo escapes and decodes UTF-8. */
function unescapeOctal(text: string): string {
  const bytes = text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  return Buffer.from(bytes, "latin1").toString("utf8");
}

/** The mount that is on top at exactly `target`. */
export function mountAt(table: readonly MountEntry[], target: string): MountEntry | undefined {
  return table.findLast((entry) => entry.target === target);
}

/** The mount that `path` lies in (which may be mounted at `path` itself). */
export function mountContaining(table: readonly MountEntry[], path: string): MountEntry | undefined {
  let best: MountEntry | undefined;
  for (const entry of table) {
    const inside = entry.target === "/" || path === entry.target || path.startsWith(`${entry.target}/`);
    if (inside && (best === undefined || entry.target.length >= best.target.length)) best = entry;
  }
  return best;
}
