import { assert } from "../../base/assert.ts";
import type { Pages } from "../../domain/admin-call.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { type AppRef, parseSharePath, type SharePath, type ShareRef } from "../../domain/share-path.ts";

/** An argument which the command line parser has made sure of. */
export function needed(value: string | undefined): string {
  assert(value !== undefined, "a required argument is missing");
  return value;
}

/** For options that may be given several times. */
export function collect(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value];
}

/** `app/share`, nothing below. Throws INVALID_ARGUMENT. */
export function parseShare(text: string): { app: AppRef; share: ShareRef } {
  const { app, share, path } = parseSharePath(text);
  if (share === undefined || path.length > 0) {
    throw new TidemarkError("INVALID_ARGUMENT", `"${text}" does not name a share: expected [namespace:]app/share`);
  }
  return { app, share };
}

/** A place in a share. Throws INVALID_ARGUMENT when `text` names only an app. */
export function parsePlace(text: string): SharePath {
  const path = parseSharePath(text);
  if (path.share === undefined) {
    throw new TidemarkError("INVALID_ARGUMENT", `"${text}" names an app only: expected [namespace:]app/share[/path]`);
  }
  return path;
}

/** A whole number of at least `least`. Throws INVALID_ARGUMENT. */
export function parseCount(option: string, text: string, least: number): number {
  const value = Number(text);
  if (/^\d{1,15}$/.test(text) && value >= least) return value;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `${option} "${text}" is not a number: expected a whole number from ${least} on`,
  );
}

const SIZE_UNITS = new Map([
  ["", 1n],
  ["k", 1024n],
  ["m", 1024n ** 2n],
  ["g", 1024n ** 3n],
  ["t", 1024n ** 4n],
]);

/** Bytes, with k, m, g or t for powers of 1024 ("20g"). Throws INVALID_ARGUMENT. */
export function parseBytes(option: string, text: string): bigint {
  const match = /^(\d{1,18}) ?([kmgt]?)(?:i?b)?$/i.exec(text);
  const unit = SIZE_UNITS.get((match?.[2] ?? "").toLowerCase());
  if (match?.[1] === undefined || unit === undefined) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `${option} "${text}" is not a size: expected bytes, or a number with k, m, g or t, as 20g`,
    );
  }
  return BigInt(match[1]) * unit;
}

const SPAN_UNITS_MS = new Map([
  ["ms", 1],
  ["s", 1000],
  ["m", 60_000],
  ["min", 60_000],
  ["h", 3_600_000],
]);

/** A span of time in milliseconds ("500ms", "5s", "1m"; a bare number is seconds). Throws INVALID_ARGUMENT outside of the bounds. */
export function parseSpan(option: string, text: string, bounds: { leastMs: number; mostMs: number }): number {
  const match = /^(\d{1,9}(?:\.\d{1,3})?) ?([a-z]*)$/.exec(text);
  const unitMs = SPAN_UNITS_MS.get(match?.[2] || "s");
  const ms = Math.round(Number(match?.[1]) * (unitMs ?? Number.NaN));
  if (ms >= bounds.leastMs && ms <= bounds.mostMs) return ms;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `${option} "${text}": expected a span from ${bounds.leastMs}ms to ${bounds.mostMs / 1000}s, as 500ms, 5s or 1m`,
  );
}

/** The first item that `matches`; the rest is not asked for. */
export async function first<T>(pages: Pages<T>, matches: (item: T) => boolean): Promise<T | undefined> {
  for await (const page of pages) {
    const found = page.find(matches);
    if (found !== undefined) return found;
  }
  return undefined;
}
