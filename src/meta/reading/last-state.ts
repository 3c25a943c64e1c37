import type { InodeId, Lsn } from "../../domain/ids.ts";
import type { EngineCore } from "../core.ts";
import * as keys from "../keys.ts";
import { decodeInode, type InodeRow } from "../rows.ts";

/** The state of an inode as of `at`, or the last one it had before that; undefined when it began later. */
export function lastState(core: EngineCore, ino: InodeId, at: Lsn): InodeRow | undefined {
  const then = core.findInodeAt(ino, at);
  if (then !== undefined) return then;
  const gte = keys.inoPrefix(keys.TABLE.INODE_PAST, ino);
  const row = core.store.range({ gte, lt: keys.inodePastKey(ino, at + 1), reverse: true, limit: 1 })[0];
  return row === undefined ? undefined : decodeInode(ino, row.value);
}
