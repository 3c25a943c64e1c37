import { ByteReader } from "../../base/bytes.ts";
import type { InodeId, Lsn } from "../../domain/ids.ts";
import { isDirectory } from "../../domain/inode.ts";
import type { EngineCore } from "../core.ts";
import * as keys from "../keys.ts";
import { decodeSince, type InodeRow } from "../rows.ts";

/** A name an inode had at some moment, and the span [since, until) over which it had it. `until` undefined: it has it now. */
export type NameThen = {
  readonly parent: InodeId;
  readonly name: Buffer;
  readonly since: Lsn;
  readonly until: Lsn | undefined;
};

/** Rows of names read at a time. */
const NAME_ROWS = 256;

/** Longest chain of directories: names of one byte in a path of 64 KiB. Beyond, it would be a cycle, and our bug. */
export const DEPTH_MAX = 32_768;

/** Where the parent begins in keys of names, now and past: table, inode, and in past ones `until`. */
const PARENT_OFFSET = 6;
const PAST_PARENT_OFFSET = 14;

/** Names of `ino` as of `at`, those it still has first, at most `max`. Reads no more than it needs: what ended before `at` costs nothing. */
export function namesAt(core: EngineCore, ino: number, at: Lsn, max: number): NameThen[] {
  const names: NameThen[] = [];
  const now = keys.inoPrefix(keys.TABLE.PARENT, ino);
  for (const row of rowsFrom(core, now, keys.prefixEnd(now))) {
    const { since } = decodeSince(row.value);
    if (since > at) continue;
    names.push({ ...parentAndName(row.key, PARENT_OFFSET), since, until: undefined });
    if (names.length === max) return names;
  }
  const end = keys.prefixEnd(keys.inoPrefix(keys.TABLE.PARENT_PAST, ino));
  for (const row of rowsFrom(core, keys.parentPastFrom(ino, at + 1), end)) {
    const { since } = decodeSince(row.value);
    if (since > at) continue;
    const until = new ByteReader(row.key, PARENT_OFFSET).u64() as Lsn;
    names.push({ ...parentAndName(row.key, PAST_PARENT_OFFSET), since, until });
    if (names.length === max) return names;
  }
  return names;
}

/** The name of a directory (or one name of another inode) as of `at`; undefined for a root, and for what had none. */
export function nameAt(core: EngineCore, ino: number, at: Lsn): NameThen | undefined {
  return namesAt(core, ino, at, 1)[0];
}

function parentAndName(key: Buffer, offset: number): { parent: InodeId; name: Buffer } {
  return { parent: new ByteReader(key, offset).u40() as InodeId, name: Buffer.from(key.subarray(offset + 5)) };
}

/** The inode at a path below `root` as of `at`; undefined when there was none. Symbolic links are not followed. */
export function lookupPath(core: EngineCore, root: InodeId, names: readonly Buffer[], at: Lsn): InodeRow | undefined {
  let inode = core.findInodeAt(root, at);
  for (const name of names) {
    if (inode === undefined || !isDirectory(inode.mode)) return undefined;
    const dentry = core.dentry(inode.ino, name, at);
    inode = dentry === undefined ? undefined : core.findInodeAt(dentry.ino, at);
  }
  return inode;
}

/** Whether a directory was one of `above` or below one of them, as of `at`. */
export function isBelowAny(core: EngineCore, directory: InodeId, above: ReadonlySet<InodeId>, at: Lsn): boolean {
  let next: InodeId = directory;
  for (let depth = 0; depth < DEPTH_MAX; depth++) {
    if (above.has(next)) return true;
    const inode = core.findInodeAt(next, at);
    if (inode === undefined || inode.parent === 0 || inode.parent === next) return false;
    next = inode.parent;
  }
  return false;
}

/** Rows of a range, read in pieces. The caller does not yield to the loop while it takes them, or bears rows that changed meanwhile. */
export function* rowsFrom(
  core: EngineCore,
  gte: Buffer,
  lt: Buffer,
  pieceRows = NAME_ROWS,
): Generator<{ key: Buffer; value: Buffer }> {
  for (let from = gte; ; ) {
    const rows = core.store.range({ gte: from, lt, limit: pieceRows });
    yield* rows;
    const last = rows.at(-1);
    if (last === undefined || rows.length < pieceRows) return;
    from = after(last.key);
  }
}

/** The same backwards, from the last row below `lt`. */
export function* rowsBack(
  core: EngineCore,
  gte: Buffer,
  lt: Buffer,
  pieceRows = NAME_ROWS,
): Generator<{ key: Buffer; value: Buffer }> {
  for (let to = lt; ; ) {
    const rows = core.store.range({ gte, lt: to, reverse: true, limit: pieceRows });
    yield* rows;
    const last = rows.at(-1);
    if (last === undefined || rows.length < pieceRows) return;
    to = last.key;
  }
}

/** The smallest key above `key`. */
export function after(key: Buffer): Buffer {
  return Buffer.concat([key, ZERO]);
}

const ZERO = Buffer.alloc(1);

const SLASH = Buffer.from("/");

/** `name` below `directory`, a path inside a share (empty for its root). */
export function joinPath(directory: Buffer, name: Buffer): Buffer {
  return directory.length === 0 ? name : Buffer.concat([directory, SLASH, name]);
}

/** Whether `path` is `above` or below it. Everything is below the root. */
export function isPathWithin(path: Buffer, above: Buffer): boolean {
  if (above.length === 0) return true;
  if (path.length < above.length || path.compare(above, 0, above.length, 0, above.length) !== 0) return false;
  return path.length === above.length || path[above.length] === SLASH[0];
}
