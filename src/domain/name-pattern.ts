import { TidemarkError } from "./errors.ts";

/** A pattern is typed by people; names have at most 255 bytes. */
const PATTERN_BYTES_MAX = 1024;

type Range = readonly [number, number];
type Part =
  | { readonly kind: "any" }
  | { readonly kind: "one" }
  | { readonly kind: "unit"; readonly unit: number }
  | { readonly kind: "set"; readonly negated: boolean; readonly ranges: readonly Range[] };

/**
 * A shell pattern for one file name: `*` any characters, `?` one, `[a-z]` and `[!a-z]` one of a set, `\` takes the next as it is. It matches whole names. A character is one of UTF-8; a byte
 * that is part of none counts as one. Matching takes at most pattern times name steps.
 */
export class NamePattern {
  readonly #parts: readonly Part[];

  /** Throws INVALID_ARGUMENT for a pattern that is empty, too long, or has a set without end. */
  constructor(pattern: Buffer) {
    if (pattern.length === 0 || pattern.length > PATTERN_BYTES_MAX || pattern.includes(0x2f)) {
      const message = `a pattern for names has 1 to ${PATTERN_BYTES_MAX} bytes and no "/"`;
      throw new TidemarkError("INVALID_ARGUMENT", message);
    }
    this.#parts = parse(unitsOf(pattern));
  }

  matches(name: Buffer): boolean {
    const units = unitsOf(name);
    const parts = this.#parts;
    let at = 0;
    let part = 0;
    // Where the last `*` was, and up to where it takes: only that one ever has to take more.
    let star = -1;
    let starAt = 0;
    while (at < units.length) {
      const wanted = parts[part];
      if (wanted?.kind === "any") {
        star = part++;
        starAt = at;
      } else if (wanted !== undefined && takes(wanted, units[at] ?? 0)) {
        part++;
        at++;
      } else if (star >= 0) {
        part = star + 1;
        at = ++starAt;
      } else return false;
    }
    while (parts[part]?.kind === "any") part++;
    return part === parts.length;
  }
}

function takes(part: Part, unit: number): boolean {
  switch (part.kind) {
    case "any":
    case "one":
      return true;
    case "unit":
      return part.unit === unit;
    case "set":
      return part.ranges.some(([from, to]) => unit >= from && unit <= to) !== part.negated;
  }
}

const [STAR, QUESTION, OPEN, CLOSE, BACKSLASH, DASH, NOT, CARET] = [...Buffer.from("*?[]\\-!^")];

function parse(units: readonly number[]): Part[] {
  const parts: Part[] = [];
  for (let at = 0; at < units.length; at++) {
    const unit = units[at] ?? 0;
    if (unit === STAR) parts.push({ kind: "any" });
    else if (unit === QUESTION) parts.push({ kind: "one" });
    else if (unit === OPEN) {
      const { set, end } = parseSet(units, at + 1);
      parts.push(set);
      at = end;
    } else if (unit === BACKSLASH && at + 1 < units.length) parts.push({ kind: "unit", unit: units[++at] ?? 0 });
    else parts.push({ kind: "unit", unit });
  }
  return parts;
}

function parseSet(units: readonly number[], start: number): { set: Part; end: number } {
  const negated = units[start] === NOT || units[start] === CARET;
  const first = negated ? start + 1 : start;
  const ranges: Range[] = [];
  let at = first;
  // A "]" that comes first is one of the set.
  while (at < units.length && (units[at] !== CLOSE || at === first)) {
    if (units[at] === BACKSLASH) at++;
    const from = units[at++] ?? 0;
    if (units[at] !== DASH || at + 1 >= units.length || units[at + 1] === CLOSE) ranges.push([from, from]);
    else {
      ranges.push([from, units[at + 1] ?? from]);
      at += 2;
    }
  }
  if (at >= units.length)
    throw new TidemarkError("INVALID_ARGUMENT", 'the pattern has a "[" without "]": write "\\[" for the character');
  return { set: { kind: "set", negated, ranges }, end: at };
}

/** Bytes that are no UTF-8 are numbers above all characters. */
const NO_CHARACTER = 0x11_0000;

function unitsOf(bytes: Buffer): number[] {
  const text = bytes.toString("utf8");
  // A replacement character may stand for a broken byte, or be one: only then it is looked at closely.
  if (!text.includes("\ufffd")) return Array.from(text, (character) => character.codePointAt(0) ?? 0);
  const units: number[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = characterLength(bytes, at);
    if (length === 0) units.push(NO_CHARACTER + (bytes[at++] ?? 0));
    else {
      units.push(bytes.toString("utf8", at, at + length).codePointAt(0) ?? 0);
      at += length;
    }
  }
  return units;
}

/** Bytes of the character that begins at `at`; 0 for a byte that begins none. */
function characterLength(bytes: Buffer, at: number): number {
  const first = bytes[at] ?? 0;
  const length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  if (length === 0 || at + length > bytes.length) return 0;
  const piece = bytes.subarray(at, at + length);
  return Buffer.from(piece.toString("utf8")).equals(piece) ? length : 0;
}
