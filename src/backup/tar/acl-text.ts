import { type AclEntry, decodeAcl, encodeAcl } from "../../meta/acl.ts";

/**
 * Access control lists as text, as SCHILY.acl.access and SCHILY.acl.default have them: entries "user:NAME:rwx", by comma or newline. Ours name users and groups
 * by number, which every reader understands and no machine reads differently; others' may have names, with the number as a fourth part (star) or without (GNU tar).
 */

const TAGS = [
  { word: "user", base: 0x01, named: 0x02 },
  { word: "group", base: 0x04, named: 0x08 },
  { word: "mask", base: 0x10, named: undefined },
  { word: "other", base: 0x20, named: undefined },
] as const;

/** Linux's id of an entry that names nobody. */
const NOBODY = 0xffff_ffff;

/** What the names of users and groups stand for on this machine. */
export type IdLookup = (kind: "user" | "group", name: string) => number | undefined;

/** The text of a list in xattr form; undefined when that is malformed. */
export function aclToText(value: Buffer): string | undefined {
  let entries: readonly AclEntry[];
  try {
    entries = decodeAcl(value);
  } catch {
    return undefined;
  }
  if (entries.length === 0) return undefined;
  return entries.map((entry) => `${lineOf(entry)}\n`).join("");
}

function lineOf({ tag, permissions, id }: AclEntry): string {
  const known = TAGS.find(({ base, named }) => tag === base || tag === named);
  const rwx = ["r", "w", "x"].map((letter, bit) => ((permissions & (4 >> bit)) === 0 ? "-" : letter)).join("");
  return `${known?.word}:${tag === known?.named ? id : ""}:${rwx}`;
}

/** The list in xattr form; a string says what is wrong with the text. */
export function aclFromText(text: string, lookup: IdLookup): Buffer | string {
  const entries: AclEntry[] = [];
  for (const part of text.split(/[,\n]/)) {
    const line = part.replace(/#.*$/, "").trim();
    if (line === "") continue;
    const entry = entryOf(line, lookup);
    if (typeof entry === "string") return entry;
    entries.push(entry);
  }
  // The kernel wants them by tag, and by id.
  entries.sort((left, right) => left.tag - right.tag || left.id - right.id);
  const value = encodeAcl(entries);
  try {
    decodeAcl(value);
  } catch {
    return `the list is not complete: "${text.trim().replaceAll("\n", ",")}"`;
  }
  return value;
}

function entryOf(line: string, lookup: IdLookup): AclEntry | string {
  const [word = "", name = "", rwx = "", number] = line.split(":").map((part) => part.trim());
  const tag = TAGS.find((each) => each.word === word || each.word[0] === word);
  if (tag === undefined || !/^[rwx-]*$/.test(rwx)) return `"${line}" is no entry of an access list`;
  const permissions = (rwx.includes("r") ? 4 : 0) | (rwx.includes("w") ? 2 : 0) | (rwx.includes("x") ? 1 : 0);
  if (name === "" || tag.named === undefined) return { tag: tag.base, permissions, id: NOBODY };
  const kind = tag.word === "user" ? "user" : "group";
  const id = idOf(number) ?? idOf(name) ?? lookup(kind, name);
  return id === undefined ? `this machine knows no ${kind} "${name}"` : { tag: tag.named, permissions, id };
}

function idOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,10}$/.test(text) && Number(text) < NOBODY ? Number(text) : undefined;
}
