import { readFileSync } from "node:fs";
import type { IdLookup } from "../../backup/tar/acl-text.ts";

/** Users and groups of this machine by name, from its own files; each is read when it is first asked. */
export function idNames(files = { user: "/etc/passwd", group: "/etc/group" }): IdLookup {
  const known = new Map<"user" | "group", ReadonlyMap<string, number>>();
  return (kind, name) => {
    let names = known.get(kind);
    if (names === undefined) {
      names = read(files[kind]);
      known.set(kind, names);
    }
    return names.get(name);
  };
}

/** passwd(5) and group(5): name, password and number come first in both. */
function read(path: string): ReadonlyMap<string, number> {
  const names = new Map<string, number>();
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    return names;
  }
  for (const line of text.split("\n")) {
    const [name, , number] = line.split(":");
    if (name !== undefined && number !== undefined && /^\d{1,10}$/.test(number)) names.set(name, Number(number));
  }
  return names;
}
