import { readU40Be, readU64Be } from "../base/bytes.ts";
import type { InodeId, Lsn } from "../domain/ids.ts";
import type { RowOp } from "../journal/record.ts";
import type { EngineCore } from "./core.ts";
import { type Look, looksAt } from "./fork.ts";
import * as keys from "./keys.ts";
import { decodeDentry } from "./rows.ts";

/** Rows read in one go: a millisecond. */
const PAGE_ROWS = 512;

/** Names of one list: 100 bytes each, 6.5 MB. With more, a listing reads all names that ever died, in the order of names. */
const NAMES_MAX = 65_536;

/** Lists kept for listings that go on later, as views do from page to page. */
const IDLE_LISTS_MAX = 3;

/** Bytes of the hash, with which an order begins. */
export const HASH_BYTES = 8;

/** One name of a directory. `order` is its hash and the name as a latin-1 string: listings are sorted by it, and such strings compare as their bytes do. */
export type ListedName = { readonly order: string; readonly ino: InodeId; readonly type: number };

/**
 * The names that a directory had at a moment and has lost since.
 *
 * Invariants
 * N1  What ended up to the LSN at which the list was begun is read from the rows, what ends later is told by `add`: nothing is missed or there twice.
 * N2  A list is only used while its moment is kept readable, so its rows are not collected.
 */
export class DeadNames {
  readonly ino: InodeId;
  readonly at: Lsn;
  readonly #core: EngineCore;
  readonly #begunAt: Lsn;
  readonly #looks: readonly Look[];
  readonly #namesMax: number;
  #lookIndex = 0;
  /** Where in the present look to go on. */
  #from: Buffer | undefined;
  #names: ListedName[] = [];
  #sorted = true;
  #state: "reading" | "held" | "too many" = "reading";
  /** How many listings are going on with it. */
  users = 0;

  constructor(core: EngineCore, ino: InodeId, at: Lsn, namesMax: number) {
    this.#core = core;
    this.#namesMax = namesMax;
    this.ino = ino;
    this.at = at;
    this.#begunAt = core.lastLsn;
    this.#looks = looksAt(at, core.lastLsn);
  }

  /** `too many`: it holds none, and never will. */
  get state(): "reading" | "held" | "too many" {
    return this.#state;
  }

  /** Reads on, a bounded number of rows. */
  read(): void {
    for (let count = 0; count < PAGE_ROWS && this.#state === "reading"; ) {
      const look = this.#looks[this.#lookIndex];
      if (look === undefined) this.#state = "held";
      else count += this.#readPage(look);
    }
  }

  #readPage(look: Look): number {
    const { table, fork } = look;
    const rows = this.#core.store.range({
      gte: this.#from ?? keys.dentryForkFrom(table, this.ino, fork, look.from),
      lt: keys.dentryForkFrom(table, this.ino, fork, look.to),
      limit: PAGE_ROWS,
    });
    for (const { key, value } of rows) {
      const dentry = decodeDentry(value);
      const lsn = readU64Be(key, keys.FORK_LSN_OFFSET);
      const [since, until] = table === keys.TABLE.DENTRY_ENDED ? [dentry.since, lsn] : [lsn, dentry.since];
      if (since > this.at || until > this.#begunAt) continue;
      this.#push({ order: key.toString("latin1", keys.FORK_HASH_OFFSET), ino: dentry.ino, type: dentry.type });
    }
    const last = rows.at(-1);
    if (last === undefined || rows.length < PAGE_ROWS) {
      this.#lookIndex++;
      this.#from = undefined;
    } else this.#from = Buffer.concat([last.key, Buffer.alloc(1)]);
    return rows.length;
  }

  /** A name ended that the directory had at the moment. */
  add(name: ListedName): void {
    if (this.#state !== "too many") this.#push(name);
  }

  #push(name: ListedName): void {
    this.#names.push(name);
    this.#sorted = false;
    if (this.#names.length <= this.#namesMax) return;
    this.#state = "too many";
    this.#names = [];
  }

  /** The first names from `from` on, at most `max`. Only when they are held. */
  page(from: string, max: number): readonly ListedName[] {
    // Almost in order already: what was added since comes behind.
    if (!this.#sorted) this.#names.sort(byOrder);
    this.#sorted = true;
    let low = 0;
    for (let high = this.#names.length; low < high; ) {
      const middle = (low + high) >>> 1;
      if ((this.#names[middle] as ListedName).order < from) low = middle + 1;
      else high = middle;
    }
    return this.#names.slice(low, low + max);
  }
}

export function byOrder(left: ListedName, right: ListedName): number {
  return left.order < right.order ? -1 : left.order > right.order ? 1 : 0;
}

/** The lists of an app, and how they come to know what ends. */
export class DeadLists {
  /** The one used last is the last. */
  readonly #lists: DeadNames[] = [];
  /** Of lists begun from now on. Tests lower it. */
  namesMax = NAMES_MAX;

  /** The list of a directory and moment, from now until `release` in use. */
  use(core: EngineCore, ino: InodeId, at: Lsn): DeadNames {
    const index = this.#lists.findIndex((list) => list.ino === ino && list.at === at);
    const list = this.#lists[index] ?? new DeadNames(core, ino, at, this.namesMax);
    if (index >= 0) this.#lists.splice(index, 1);
    this.#lists.push(list);
    list.users++;
    return list;
  }

  release(list: DeadNames): void {
    list.users--;
    const idle = this.#lists.filter(({ users }) => users === 0);
    const oldest = idle[0];
    if (oldest !== undefined && idle.length > IDLE_LISTS_MAX) this.#lists.splice(this.#lists.indexOf(oldest), 1);
  }

  /** Takes note of the rows of a record that was just committed (N1). */
  committed(rows: readonly RowOp[]): void {
    if (this.#lists.length === 0) return;
    for (const { key, value } of rows) if (key[0] === keys.TABLE.DENTRY_PAST && value !== null) this.#ended(key, value);
  }

  #ended(key: Buffer, value: Buffer): void {
    const parent = readU40Be(key, 1);
    const until = keys.lsnAtEnd(key);
    const { since, ino, type } = decodeDentry(value);
    for (const list of this.#lists) {
      if (list.ino !== parent || since > list.at || until <= list.at) continue;
      list.add({ order: key.toString("latin1", keys.HASH_OFFSET, key.length - 9), ino, type });
    }
  }
}
