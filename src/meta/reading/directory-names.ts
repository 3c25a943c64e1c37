import type { InodeId, Lsn } from "../../domain/ids.ts";
import type { EngineCore } from "../core.ts";
import * as keys from "../keys.ts";
import { decodeDentry, type InodeRow } from "../rows.ts";
import { after } from "./paths.ts";
import type { Work } from "./work.ts";

/** One name of a directory as of a moment. */
export type DirectoryName = { readonly name: Buffer; readonly ino: InodeId; readonly type: number };

/** Rows read in one go: a quarter of a millisecond to some. */
const PAGE_ROWS = 512;

/** Names that died after the moment held in memory, about 4 MiB; with more, the dead are read in the order of names instead, all of them. */
const DEAD_HELD_MAX = 20_000;

/** Where hash and name begin in keys: table and inode; in keys by end also `until`. */
const ORDER_OFFSET = 6;
const ENDED_ORDER_OFFSET = 14;

/** `order`: hash and name, by which directories are listed. */
type Found = DirectoryName & { readonly order: Buffer };

/**
 * The names of a directory as of the moment `at`, in hash order, in batches. `directory` is its row as of `at`. Memory is bounded whatever the directory
 * holds and held; changes meanwhile are not seen. Every turn reads live and dead rows together, so a name that dies between two turns is found in one of them.
 */
export async function* directoryNames(
  core: EngineCore,
  directory: InodeRow,
  at: Lsn,
  work: Work,
): AsyncGenerator<readonly DirectoryName[]> {
  // The size of a directory is the count of its names: an empty one costs nothing, whatever died in it, and the last name ends the search.
  let left = directory.size;
  if (left === 0n) return;
  const recent = new RecentlyDead(core, directory.ino, at);
  const source = (await recent.fill(work))
    ? new ByEnd(core, directory.ino, at, recent)
    : new ByName(core, directory.ino, at);
  while (left > 0n) {
    if (work.due) await work.pause();
    const { names, ended } = source.next();
    left -= BigInt(names.length);
    if (names.length > 0) yield names;
    if (ended) return;
  }
}

type Batch = { readonly names: Found[]; readonly ended: boolean };

/** Live rows from `cursor` on that were there at `at`, and up to which order this is complete. */
function livePage(core: EngineCore, ino: InodeId, at: Lsn, gte: Buffer): { found: Found[]; bound: Buffer | undefined } {
  const lt = keys.prefixEnd(keys.inoPrefix(keys.TABLE.DENTRY, ino));
  const rows = core.store.range({ gte, lt, limit: PAGE_ROWS });
  const found: Found[] = [];
  for (const row of rows) {
    const dentry = decodeDentry(row.value);
    if (dentry.since <= at) found.push(foundOf(row.key.subarray(ORDER_OFFSET), dentry));
  }
  const last = rows.at(-1);
  return {
    found,
    bound: last === undefined || rows.length < PAGE_ROWS ? undefined : Buffer.from(last.key.subarray(ORDER_OFFSET)),
  };
}

function foundOf(order: Buffer, dentry: { ino: InodeId; type: number }): Found {
  const copy = Buffer.from(order);
  return { order: copy, name: copy.subarray(8), ino: dentry.ino, type: dentry.type };
}

/** Names that died after the moment, as they come: read by the time of their end, so that what died before costs nothing. */
class RecentlyDead {
  readonly #core: EngineCore;
  readonly #at: Lsn;
  readonly #lt: Buffer;
  #from: Buffer;
  #held: Found[] = [];
  #sorted = true;

  constructor(core: EngineCore, ino: InodeId, at: Lsn) {
    this.#core = core;
    this.#at = at;
    this.#from = keys.dentryEndedFrom(ino, at + 1);
    this.#lt = keys.prefixEnd(keys.inoPrefix(keys.TABLE.DENTRY_ENDED, ino));
  }

  /** Reads what died so far; answers false when it is too much to be held. */
  async fill(work: Work): Promise<boolean> {
    while (this.#readPage()) {
      if (this.#held.length > DEAD_HELD_MAX) return false;
      if (work.due) await work.pause();
    }
    return true;
  }

  /** Reads what died since, in this turn. */
  refresh(beyond: Buffer): void {
    const before = this.#held.length;
    while (this.#readPage());
    // What was listed while it lived is not listed again.
    if (this.#held.length > before) this.#held = this.#held.filter((entry) => Buffer.compare(entry.order, beyond) > 0);
  }

  /** Takes out what is in order up to `bound`. */
  take(bound: Buffer | undefined): Found[] {
    if (!this.#sorted) this.#held.sort(byOrder);
    this.#sorted = true;
    if (bound === undefined) return this.#held.splice(0);
    const end = this.#held.findIndex((entry) => Buffer.compare(entry.order, bound) > 0);
    return this.#held.splice(0, end === -1 ? this.#held.length : end);
  }

  /** Whether there may be more. */
  #readPage(): boolean {
    const rows = this.#core.store.range({ gte: this.#from, lt: this.#lt, limit: PAGE_ROWS });
    for (const row of rows) {
      const dentry = decodeDentry(row.value);
      if (dentry.since > this.#at) continue;
      this.#held.push(foundOf(row.key.subarray(ENDED_ORDER_OFFSET), dentry));
      this.#sorted = false;
    }
    const last = rows.at(-1);
    if (last !== undefined) this.#from = after(last.key);
    return rows.length === PAGE_ROWS;
  }
}

/** Live names by page; the dead come from `RecentlyDead`. */
class ByEnd {
  readonly #core: EngineCore;
  readonly #ino: InodeId;
  readonly #at: Lsn;
  readonly #dead: RecentlyDead;
  #from: Buffer;
  #listed: Buffer = Buffer.alloc(0);

  constructor(core: EngineCore, ino: InodeId, at: Lsn, dead: RecentlyDead) {
    this.#core = core;
    this.#ino = ino;
    this.#at = at;
    this.#dead = dead;
    this.#from = keys.inoPrefix(keys.TABLE.DENTRY, ino);
  }

  next(): Batch {
    this.#dead.refresh(this.#listed);
    const { found, bound } = livePage(this.#core, this.#ino, this.#at, this.#from);
    const names = [...found, ...this.#dead.take(bound)].sort(byOrder);
    if (bound === undefined) return { names, ended: true };
    this.#listed = bound;
    this.#from = after(Buffer.concat([keys.inoPrefix(keys.TABLE.DENTRY, this.#ino), bound]));
    return { names, ended: false };
  }
}

/** Live and dead names side by side, both in the order of names: reads every name the directory ever had, once. */
class ByName {
  readonly #core: EngineCore;
  readonly #ino: InodeId;
  readonly #at: Lsn;
  /** Everything up to this order is listed. */
  #listed: Buffer = Buffer.alloc(0);

  constructor(core: EngineCore, ino: InodeId, at: Lsn) {
    this.#core = core;
    this.#ino = ino;
    this.#at = at;
  }

  next(): Batch {
    const livePrefix = keys.inoPrefix(keys.TABLE.DENTRY, this.#ino);
    const from = this.#listed.length === 0 ? livePrefix : after(Buffer.concat([livePrefix, this.#listed]));
    const live = livePage(this.#core, this.#ino, this.#at, from);
    const dead = this.#deadPage();
    const bound = smaller(live.bound, dead.bound);
    const names = [...live.found, ...dead.found]
      .filter((entry) => bound === undefined || Buffer.compare(entry.order, bound) <= 0)
      .sort(byOrder);
    if (bound === undefined) return { names, ended: true };
    this.#listed = bound;
    return { names, ended: false };
  }

  #deadPage(): { found: Found[]; bound: Buffer | undefined } {
    const prefix = keys.inoPrefix(keys.TABLE.DENTRY_PAST, this.#ino);
    // A key is order, 0x00, until: 0x01 comes behind all rows of one name.
    const gte = this.#listed.length === 0 ? prefix : Buffer.concat([prefix, this.#listed, ONE]);
    const rows = this.#core.store.range({ gte, lt: keys.prefixEnd(prefix), limit: PAGE_ROWS });
    const found: Found[] = [];
    let order: Buffer | undefined;
    for (const row of rows) {
      order = row.key.subarray(ORDER_OFFSET, row.key.length - 9);
      if (keys.lsnAtEnd(row.key) <= this.#at) continue;
      const dentry = decodeDentry(row.value);
      // Spans of one name do not overlap: at most one of its rows holds the moment.
      if (dentry.since <= this.#at) found.push(foundOf(order, dentry));
    }
    if (order === undefined || rows.length < PAGE_ROWS) return { found, bound: undefined };
    const bound = Buffer.from(order);
    if (!found.some((entry) => entry.order.equals(bound))) this.#addRest(found, bound);
    return { found, bound };
  }

  /** The page ended inside the rows of one name, perhaps before the one that holds the moment: a seek finds it. */
  #addRest(found: Found[], order: Buffer): void {
    const start = Buffer.concat([keys.inoPrefix(keys.TABLE.DENTRY_PAST, this.#ino), order]);
    const until = Buffer.alloc(9);
    until.writeBigUInt64BE(BigInt(this.#at + 1), 1);
    const row = this.#core.store.range({
      gte: Buffer.concat([start, until]),
      lt: Buffer.concat([start, ONE]),
      limit: 1,
    })[0];
    if (row === undefined) return;
    const dentry = decodeDentry(row.value);
    if (dentry.since <= this.#at) found.push(foundOf(order, dentry));
  }
}

const ONE = Buffer.from([1]);

function byOrder(left: Found, right: Found): number {
  return Buffer.compare(left.order, right.order);
}

function smaller(left: Buffer | undefined, right: Buffer | undefined): Buffer | undefined {
  if (left === undefined || right === undefined) return left ?? right;
  return Buffer.compare(left, right) <= 0 ? left : right;
}
