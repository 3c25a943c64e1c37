import { TidemarkError } from "../../domain/errors.ts";
import type { InodeId, ShareId } from "../../domain/ids.ts";
import type { ShareRef } from "../../domain/share-path.ts";
import type { EngineCore } from "../core.ts";
import { type ShareRow, sharesAt } from "../shares.ts";

/** Digits of an id in messages: enough to be typed back. */
const ID_DIGITS_SHOWN = 8;

/**
 * The share a reference means, by the names of now: the live one of that name, or with an id that one, live or deleted. Throws NOT_FOUND, naming
 * deleted ones of that name; INVALID_ARGUMENT for an ambiguous id.
 */
export function findShare(core: EngineCore, ref: ShareRef): ShareRow {
  return findShareIn(sharesAt(core, core.lastLsn), ref);
}

/** As `findShare`, among `shares`. */
export function findShareIn(shares: readonly ShareRow[], ref: ShareRef): ShareRow {
  const named = shares.filter((share) => share.name === ref.name);
  const { id } = ref;
  const found = named.filter((share) => (id === undefined ? share.deletedAt === undefined : share.id.startsWith(id)));
  const [first, second] = found;
  if (second !== undefined)
    throw new TidemarkError("INVALID_ARGUMENT", `"${ref.name}@${id}" means several shares: give more digits of the id`);
  if (first !== undefined) return first;
  const deleted = named
    .filter((share) => share.deletedAt !== undefined)
    .map((share) => `${share.name}@${share.id.slice(0, ID_DIGITS_SHOWN)}`);
  const hint = deleted.length === 0 ? "see `tidemark share list`" : `deleted ones of that name: ${deleted.join(", ")}`;
  throw new TidemarkError(
    "NOT_FOUND",
    `the app has no share "${id === undefined ? ref.name : `${ref.name}@${id}`}": ${hint}`,
  );
}

/** All shares there ever were, deleted ones included, as they are now, by their root directory. */
export function sharesByRoot(core: EngineCore): Map<InodeId, ShareRow> {
  return new Map(sharesAt(core, core.lastLsn).map((share) => [share.root, share]));
}

/** A share as API results name it. */
export function shareLabel(share: ShareRow): { readonly id: ShareId; readonly name: string } {
  return { id: share.id, name: share.name };
}
