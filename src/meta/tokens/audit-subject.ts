import { textFromBytes } from "../../domain/byte-text.ts";
import type { InodeId } from "../../domain/ids.ts";
import type { Request } from "../../domain/metadata-api.ts";
import { PLACES } from "../../domain/token-needs.ts";
import type { EngineCore } from "../core.ts";
import { nameAt } from "../reading/paths.ts";

/** What a request is about: numbers, and where those are now. */
export function subjectOf(core: EngineCore, request: Request): string {
  const fields = request as unknown as Readonly<Record<string, InodeId>>;
  return PLACES[request.op].map(({ field }) => `${field} ${placeOf(core, fields[field] as InodeId)}`).join(", ");
}

/** Directories named in an entry of the audit log, at most. */
const NAMES_SHOWN_MAX = 64;

function placeOf(core: EngineCore, ino: InodeId): string {
  const names: string[] = [];
  for (let each = ino; names.length < NAMES_SHOWN_MAX; ) {
    const name = nameAt(core, each, core.lastLsn);
    if (name === undefined) break;
    names.unshift(textFromBytes(name.name));
    each = name.parent;
  }
  return names.length === 0 ? String(ino) : `${ino} (${names.join("/")})`;
}
