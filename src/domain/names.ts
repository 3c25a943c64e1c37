import { assert } from "../base/assert.ts";
import { TidemarkError } from "./errors.ts";
import { type FileName, NAME_BYTES_MAX } from "./ids.ts";

/** Longest name of a namespace, app, share or snapshot: what a DNS subdomain may have, so that names of Kubernetes objects fit. */
export const OBJECT_NAME_CHARS_MAX = 253;

/** Longest path inside a share, in bytes, that a request may carry: 16 times PATH_MAX, as trees deeper than PATH_MAX can be made step by step. */
export const PATH_BYTES_MAX = 65_536;

/** What `checkObjectName` accepts, for messages and help. */
export const OBJECT_NAME_RULE =
  "letters, digits, '-', '_' and '.', starting with a letter or digit, at most 253 characters";

export type ObjectKind = "namespace" | "app" | "share" | "snapshot" | "repository";

const OBJECT_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;
const SNAPSHOT_NAME = /^[A-Za-z][A-Za-z0-9._-]*$/;

/** Whether `text` can be the name of a snapshot: as of other objects, but starting with a letter, so that it is never taken for a time. */
export function isSnapshotName(text: string): boolean {
  return text.length <= OBJECT_NAME_CHARS_MAX && SNAPSHOT_NAME.test(text);
}

/** Returns `text` if it can name a thing of that kind. Throws INVALID_ARGUMENT with the rule otherwise. */
export function checkObjectName(kind: ObjectKind, text: string): string {
  const fits =
    kind === "snapshot" ? isSnapshotName(text) : text.length <= OBJECT_NAME_CHARS_MAX && OBJECT_NAME.test(text);
  if (fits) return text;
  const rule = kind === "snapshot" ? OBJECT_NAME_RULE.replace("a letter or digit", "a letter") : OBJECT_NAME_RULE;
  throw new TidemarkError("INVALID_ARGUMENT", `${JSON.stringify(text)} is not a valid ${kind} name: expected ${rule}`);
}

const SLASH = 0x2f;

/** Checks and brands one name inside a directory. Throws INVALID_ARGUMENT when it is empty, ".", "..", too long, or holds "/" or NUL. */
export function fileName(bytes: Buffer): FileName {
  if (bytes.length === 0) throw new TidemarkError("INVALID_ARGUMENT", "a file name cannot be empty");
  if (bytes.length > NAME_BYTES_MAX) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `a file name has at most ${NAME_BYTES_MAX} bytes, this one has ${bytes.length}`,
    );
  }
  if (bytes.includes(SLASH) || bytes.includes(0)) {
    throw new TidemarkError("INVALID_ARGUMENT", 'a file name cannot contain "/" or a zero byte');
  }
  if (bytes.equals(DOT) || bytes.equals(DOT_DOT)) {
    throw new TidemarkError("INVALID_ARGUMENT", `"${bytes.toString()}" is not a file name; write the path without it`);
  }
  return bytes as FileName;
}

const DOT = Buffer.from(".");
const DOT_DOT = Buffer.from("..");

/**
 * The names of a path inside a share (components joined by "/", empty for the root). Empty components and "." are dropped; ".." is refused,
 * as a share has no outside. Throws INVALID_ARGUMENT. The names are views of `path`.
 */
export function pathNames(path: Buffer): FileName[] {
  if (path.length > PATH_BYTES_MAX) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `a path has at most ${PATH_BYTES_MAX} bytes, this one has ${path.length}`,
    );
  }
  const names: FileName[] = [];
  let start = 0;
  while (start <= path.length) {
    const slash = path.indexOf(SLASH, start);
    const end = slash === -1 ? path.length : slash;
    const part = path.subarray(start, end);
    if (part.length > 0 && !part.equals(DOT)) names.push(fileName(part));
    start = end + 1;
  }
  return names;
}

/** The reverse of `pathNames`. */
export function joinNames(names: readonly Buffer[]): Buffer {
  if (names.length === 0) return Buffer.alloc(0);
  const parts: Buffer[] = [];
  for (const name of names) {
    assert(name.length > 0, "empty name in a path");
    if (parts.length > 0) parts.push(SLASH_BYTES);
    parts.push(name);
  }
  return Buffer.concat(parts);
}

const SLASH_BYTES = Buffer.from("/");
