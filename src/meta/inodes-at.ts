import { readU40Be } from "../base/bytes.ts";
import { type InodeId, LIVE, type Lsn } from "../domain/ids.ts";
import { closeNumbers } from "./close-numbers.ts";
import type { EngineCore } from "./core.ts";
import * as keys from "./keys.ts";
import { decodeInode, type InodeRow } from "./rows.ts";

/** Rows read in one go: few where most of them are of no use, more where inodes of one directory lie close together, as those made one after the other do. */
const ROWS_MIN = 4;
const ROWS_MAX = 128;

/** Inodes that nobody asked for between two that are read together. */
const GAP_MAX = 8;

/**
 * The inodes of `inos` as of `at`, without those that were not there: as `EngineCore.findInodeAt` for each, at a third of the cost where most of them have changed
 * or gone since.
 */
export function inodesAt(core: EngineCore, inos: readonly InodeId[], at: Lsn): Map<InodeId, InodeRow> {
  const found = new Map<InodeId, InodeRow>();
  const changed: InodeId[] = [];
  for (const [ino, now] of inodesNow(core, new Set(inos))) {
    if (now !== undefined && now.since <= at) found.set(ino, now);
    else if (at !== LIVE) changed.push(ino);
  }
  changed.sort((left, right) => left - right);
  addPast(core, changed, at, found);
  return found;
}

/** The live inodes. What was not in the cache does not go into it: a walk through a tree would push out what mounts use. */
function* inodesNow(core: EngineCore, inos: Iterable<InodeId>): Generator<[InodeId, InodeRow | undefined]> {
  const absent: InodeId[] = [];
  for (const ino of inos) {
    const cached = core.inodes.get(ino);
    if (cached === undefined) absent.push(ino);
    else yield [ino, cached];
  }
  absent.sort((left, right) => left - right);
  for (const group of closeNumbers(absent, GAP_MAX)) {
    const first = group[0] as InodeId;
    const end = (group.at(-1) as InodeId) + 1;
    const range = { gte: keys.inodeKey(first), lt: keys.inodeKey(end), limit: end - first };
    const values = new Map<number, Buffer>();
    for (const { key, value } of core.store.range(range)) values.set(readU40Be(key, 1), value);
    for (const ino of group) {
      const value = values.get(ino);
      yield [ino, value === undefined ? undefined : decodeInode(ino, value)];
    }
  }
}

/** Adds the first past row of each of `inos` (ascending) that ended after `at`, if it had begun by then. */
function addPast(core: EngineCore, inos: readonly InodeId[], at: Lsn, found: Map<InodeId, InodeRow>): void {
  const lt = keys.prefixEnd(keys.inoPrefix(keys.TABLE.INODE_PAST, inos.at(-1) ?? 0));
  let limit = ROWS_MIN;
  for (let next = 0; next < inos.length; ) {
    const before = next;
    // The first row is of the inode that is next, and ended after `at`, or of one behind it: each read gets on.
    const rows = core.store.range({ gte: keys.inodePastKey(inos[next] ?? 0, at + 1), lt, limit });
    for (const { key, value } of rows) {
      const ino = readU40Be(key, 1) as InodeId;
      while ((inos[next] ?? ino) < ino) next++;
      if (inos[next] !== ino || keys.lsnAtEnd(key) <= at) continue;
      const row = decodeInode(ino, value);
      if (row.since <= at) found.set(ino, row);
      next++;
    }
    if (rows.length < limit) return;
    limit = next - before > limit / 4 ? Math.min(ROWS_MAX, limit * 2) : Math.max(ROWS_MIN, limit / 2);
  }
}
