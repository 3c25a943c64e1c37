import type { InodeId, Lsn } from "../../domain/ids.ts";
import type { EngineCore } from "../core.ts";
import { GenerationCache } from "../generation-cache.ts";
import * as keys from "../keys.ts";
import { type NameThen, namesAt } from "./paths.ts";

/** Inodes remembered, in each of two generations: with names of 50 bytes, 8 MiB. */
const INODES_CACHED = 16_384;

/** Names, and the LSNs [since, until] for which they are known to be all. */
type Known = { readonly names: readonly NameThen[]; readonly since: Lsn; readonly until: Lsn };

/** Names of inodes at moments, for readers that ask for many moments of the same inodes. Most files have one name and never another: those are looked up once. */
export class InodeNames {
  readonly #core: EngineCore;
  readonly #known = new GenerationCache<number, Known>(INODES_CACHED);

  constructor(core: EngineCore) {
    this.#core = core;
  }

  /** As `namesAt`. */
  at(ino: InodeId, at: Lsn, max: number): readonly NameThen[] {
    const known = this.#known.get(ino);
    if (known !== undefined && known.since <= at && at <= known.until) return known.names.slice(0, max);
    const names = namesAt(this.#core, ino, at, max);
    if (names.length > 0 && names.length < max) this.#remember(ino, names);
    return names;
  }

  /** Names that are all the inode ever had hold from the last of them to now. */
  #remember(ino: InodeId, names: readonly NameThen[]): void {
    const { store, lastLsn } = this.#core;
    if (names.some((name) => name.until !== undefined)) return;
    const past = keys.inoPrefix(keys.TABLE.PARENT_PAST, ino);
    if (store.range({ gte: past, lt: keys.prefixEnd(past), limit: 1 }).length > 0) return;
    const now = keys.inoPrefix(keys.TABLE.PARENT, ino);
    const rows = store.range({ gte: now, lt: keys.prefixEnd(now), limit: names.length + 1 });
    if (rows.length !== names.length) return;
    const since = Math.max(...names.map((name) => name.since)) as Lsn;
    this.#known.set(ino, { names, since, until: lastLsn });
  }
}
