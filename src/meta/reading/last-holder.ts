import type { InodeId, Lsn } from "../../domain/ids.ts";
import type { EngineCore } from "../core.ts";
import * as keys from "../keys.ts";
import { decodeDentry } from "../rows.ts";

/** Who had a path, at which moment that was still so, and when it lost it; `until` undefined: it has it at the asked moment. */
export type Holder = { readonly ino: InodeId; readonly moment: Lsn; readonly until: Lsn | undefined };

/**
 * The inode that has the path below `root` as of `at`, or had it last before. Where a directory of the path is gone too, the path is followed as it was just
 * before that went. Undefined when nothing ever had it.
 */
export function lastHolder(core: EngineCore, root: InodeId, names: readonly Buffer[], at: Lsn): Holder | undefined {
  let holder: Holder | undefined = { ino: root, moment: at, until: undefined };
  for (const name of names) {
    const dentry = core.dentry(holder.ino, name, holder.moment);
    holder = dentry === undefined ? lastEnded(core, holder, name) : { ...holder, ino: dentry.ino };
    if (holder === undefined) return undefined;
  }
  return holder;
}

/** The last inode that had `name` in the directory and lost it at or before the moment. */
function lastEnded(core: EngineCore, directory: Holder, name: Buffer): Holder | undefined {
  const hash = core.hash(name);
  const row = core.store.range({
    gte: keys.dentryPastKey(directory.ino, hash, name, 0),
    lt: keys.dentryPastKey(directory.ino, hash, name, directory.moment + 1),
    reverse: true,
    limit: 1,
  })[0];
  if (row === undefined) return undefined;
  const until = keys.lsnAtEnd(row.key);
  return { ino: decodeDentry(row.value).ino, moment: (until - 1) as Lsn, until };
}
