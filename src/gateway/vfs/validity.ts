import type { Inode } from "../../domain/inode.ts";
import type { NodeAttributes, Validity } from "../fuse/attribute-codec.ts";

/**
 * How long the kernel may keep names and attributes: as good as for ever, since everything that changes them some other way is followed by an
 * explicit invalidation (`invalidator.ts`). A day, so that a bug there heals.
 */
const LONG_SEC = 86_400;

/** Absent names are kept as long as present ones where nothing can come to be. For the others see `ABSENT_NAMES_MS`. */
export const ABSENT_IN_VIEWS_SEC = LONG_SEC;

const LIVE_VALIDITY: Validity = { slot: 0, attributesSec: LONG_SEC, entrySec: LONG_SEC };

/** Validity of a node's answer. A view never changes; but with `asksOpens` each walk into one is checked, so names are asked for again. */
export function validityOf(slot: number, options: { readonly asksOpens: boolean }): Validity {
  if (slot === 0) return LIVE_VALIDITY;
  return { slot, attributesSec: Number.POSITIVE_INFINITY, entrySec: options.asksOpens ? 0 : Number.POSITIVE_INFINITY };
}

/** Validity of an answer that is good for `leftMs`. */
export function leasedValidityOf(
  slot: number,
  leftMs: number,
  { asksOpens }: { readonly asksOpens: boolean },
): Validity {
  const leftSec = leftMs > 0 ? leftMs / 1000 : 0;
  return { slot, attributesSec: leftSec, entrySec: slot !== 0 && asksOpens ? 0 : leftSec };
}

/**
 * What the kernel is told of an inode: its number in this mount may differ (the root's does). The generation of a mount's root is 0 for the kernel:
 * one before 6.9 that finds another in an answer (to ".." of a handle) takes the whole mount for broken.
 */
export function attributesOf(inode: Inode, number: number): NodeAttributes {
  return inode.ino === number ? inode : { ...inode, ino: number, generation: 0 };
}
