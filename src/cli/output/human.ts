import type { Timestamp } from "../../base/clock.ts";
import type { Actor } from "../../domain/actor.ts";
import type { ZoneOffset } from "../../domain/moment.ts";

/** Values as people read them. Programs get --json. */

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/** Bytes with three digits at least: "512 B", "1.50 KiB", "97.7 MiB". */
export function formatBytes(bytes: bigint | number): string {
  let value = Number(bytes);
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** A count with separators: "1,234,567". */
export function formatCount(count: bigint | number): string {
  return count.toString().replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}

/** "1 file", "2 files". */
export function plural(count: number, one: string, many = `${one}s`): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}

/** Local time to the millisecond: "2026-11-20 10:00:00.123". */
export function formatLocalTime(time: Timestamp, zone: ZoneOffset): string {
  const local = new Date((time.sec + zone(time.sec)) * 1000);
  if (Number.isNaN(local.getTime())) return `@${time.sec}`;
  const text = local
    .toISOString()
    .replace("T", " ")
    .replace(/\.\d+Z$/, "");
  return `${text}.${String(Math.floor(time.nsec / 1_000_000)).padStart(3, "0")}`;
}

/** Type and permission bits as `ls -l` writes them: "-rw-r--r--". */
export function formatMode(mode: number): string {
  const type = "?pc?d?b?-?l?s???"[mode >> 12] ?? "?";
  const triple = (bits: number, special: boolean, letter: string): string => {
    const execute = (bits & 1) !== 0 ? (special ? letter : "x") : special ? letter.toUpperCase() : "-";
    return `${(bits & 4) !== 0 ? "r" : "-"}${(bits & 2) !== 0 ? "w" : "-"}${execute}`;
  };
  const user = triple(mode >> 6, (mode & 0o4000) !== 0, "s");
  const group = triple(mode >> 3, (mode & 0o2000) !== 0, "s");
  return `${type}${user}${group}${triple(mode, (mode & 0o1000) !== 0, "t")}`;
}

/** Who made a change: the door's own words, or the process behind the mount. */
export function formatActor(actor: Actor): string {
  if (actor.mountId === 0) return actor.label === "" ? "service" : actor.label;
  return `uid ${actor.uid} pid ${actor.pid}${actor.label === "" ? "" : ` ${actor.label}`}`;
}

/** A span of time, in its two largest units: "3d 4h", "12s". */
export function formatDuration(seconds: number): string {
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "m"],
    [Math.floor(seconds) % 60, "s"],
  ];
  const first = parts.findIndex(([value]) => value > 0);
  if (first === -1) return "0s";
  return parts
    .slice(first, first + 2)
    .filter(([value]) => value > 0)
    .map(([value, unit]) => `${value}${unit}`)
    .join(" ");
}
