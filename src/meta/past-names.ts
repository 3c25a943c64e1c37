import type { InodeId, Lsn } from "../domain/ids.ts";
import type { EngineCore } from "./core.ts";
import { byOrder, type DeadNames, type ListedName } from "./dead-names.ts";
import * as keys from "./keys.ts";
import { decodeDentry } from "./rows.ts";

/** Rows of each table that one step reads: a millisecond or two. */
const PAGE_ROWS_MAX = 512;
const PAGE_ROWS_MIN = 64;

/** What one step found, in order. `ended`: there are no more. */
export type NamesStep = { readonly names: readonly ListedName[]; readonly ended: boolean };

/** Names in order, up to and including `bound`; without one, up to the last. */
type Found = { readonly names: readonly ListedName[]; readonly bound: string | undefined };

/**
 * The names of a directory as of a moment, in order, step by step. Changes between two steps are not seen. Every step reads living and dead names of one
 * stretch together, so a name that dies between two steps is found in one of them. `close` it. Its moment must be held.
 *
 * The dead are those of the list, or when they are too many to be held, read in the order of names from all that ever died: no state, whatever their number.
 */
export class PastNames {
  readonly #core: EngineCore;
  readonly #ino: InodeId;
  readonly #at: Lsn;
  readonly #dead: DeadNames;
  readonly #rows: number;
  /** Everything before this is listed. */
  #from: string;

  /** `from`: the order to begin with. `wanted`: about how many names will be taken. */
  constructor(
    core: EngineCore,
    place: { readonly ino: InodeId; readonly at: Lsn; readonly from: string; readonly wanted: number },
  ) {
    this.#core = core;
    this.#ino = place.ino;
    this.#at = place.at;
    this.#from = place.from;
    this.#rows = Math.min(PAGE_ROWS_MAX, Math.max(PAGE_ROWS_MIN, place.wanted));
    this.#dead = core.deadLists.use(core, place.ino, place.at);
  }

  close(): void {
    this.#core.deadLists.release(this.#dead);
  }

  next(): NamesStep {
    if (this.#dead.state === "reading") {
      this.#dead.read();
      return { names: [], ended: false };
    }
    const live = this.#live();
    const dead = this.#dead.state === "held" ? this.#held() : this.#deadByName();
    const bound = smaller(live.bound, dead.bound);
    const names = [...live.names, ...dead.names].filter(({ order }) => bound === undefined || order <= bound);
    if (bound !== undefined) this.#from = bound + NEXT;
    return { names: names.sort(byOrder), ended: bound === undefined };
  }

  #live(): Found {
    const prefix = keys.inoPrefix(keys.TABLE.DENTRY, this.#ino);
    const rows = this.#core.store.range({
      gte: keyOf(prefix, this.#from),
      lt: keys.prefixEnd(prefix),
      limit: this.#rows,
    });
    const names: ListedName[] = [];
    for (const { key, value } of rows) {
      const { since, ino, type } = decodeDentry(value);
      if (since <= this.#at) names.push({ order: key.toString("latin1", keys.HASH_OFFSET), ino, type });
    }
    const last = rows.at(-1);
    const isAll = last === undefined || rows.length < this.#rows;
    return { names, bound: isAll ? undefined : last.key.toString("latin1", keys.HASH_OFFSET) };
  }

  #held(): Found {
    const names = this.#dead.page(this.#from, this.#rows);
    return { names, bound: names.length < this.#rows ? undefined : names.at(-1)?.order };
  }

  #deadByName(): Found {
    const prefix = keys.inoPrefix(keys.TABLE.DENTRY_PAST, this.#ino);
    const lt = keys.prefixEnd(prefix);
    const rows = this.#core.store.range({ gte: keyOf(prefix, this.#from), lt, limit: this.#rows });
    const names: ListedName[] = [];
    for (const { key, value } of rows) {
      if (keys.lsnAtEnd(key) <= this.#at) continue;
      const { since, ino, type } = decodeDentry(value);
      // Spans of one name do not overlap: at most one of its rows holds the moment.
      if (since <= this.#at) names.push({ order: orderOfPast(key), ino, type });
    }
    const last = rows.at(-1);
    if (last === undefined || rows.length < this.#rows) return { names, bound: undefined };
    const bound = orderOfPast(last.key);
    if (names.at(-1)?.order !== bound) names.push(...this.#rest(bound));
    return { names, bound };
  }

  /** The page ended inside the rows of one name, perhaps before the one that holds the moment: a seek finds it. */
  #rest(order: string): ListedName[] {
    const name = keyOf(keys.inoPrefix(keys.TABLE.DENTRY_PAST, this.#ino), order);
    const until = Buffer.alloc(9);
    until.writeBigUInt64BE(BigInt(this.#at + 1), 1);
    const lt = keyOf(name, NEXT);
    const row = this.#core.store.range({ gte: Buffer.concat([name, until]), lt, limit: 1 })[0];
    if (row === undefined) return [];
    const { since, ino, type } = decodeDentry(row.value);
    return since <= this.#at ? [{ order, ino, type }] : [];
  }
}

/** Behind an order: what is behind the name. Names have no 0x00, which is what follows them in the keys of past rows. */
const NEXT = "\x01";

function keyOf(prefix: Buffer, order: string): Buffer {
  return Buffer.concat([prefix, Buffer.from(order, "latin1")]);
}

/** A past key is table and parent, order, 0x00, until. */
function orderOfPast(key: Buffer): string {
  return key.toString("latin1", keys.HASH_OFFSET, key.length - 9);
}

function smaller(left: string | undefined, right: string | undefined): string | undefined {
  if (left === undefined || right === undefined) return left ?? right;
  return left < right ? left : right;
}
