import type { InodeId, Lsn } from "../../domain/ids.ts";
import type { EngineCore } from "../core.ts";
import { GenerationCache } from "../generation-cache.ts";
import { namesAt } from "./paths.ts";

/** A name that a record gave to an inode or took from one. */
export type NameChange = {
  readonly ino: InodeId;
  readonly parent: InodeId;
  readonly name: Buffer;
  readonly change: "gained" | "lost";
};

type Name = Pick<NameChange, "parent" | "name">;

/** Inodes remembered, in each of two generations: with names of 50 bytes, 8 MiB. */
const INODES_CACHED = 16_384;

/**
 * The names of inodes for a reader that goes through the journal record by record: each is looked up once, and from then on what the records say is enough. What a record makes is never
 * looked up.
 */
export class FeedNames {
  readonly #core: EngineCore;
  readonly #namesMax: number;
  readonly #known = new GenerationCache<InodeId, readonly Name[]>(INODES_CACHED);

  /** Of an inode with more than `namesMax` names, some of so many are told. */
  constructor(core: EngineCore, namesMax: number) {
    this.#core = core;
    this.#namesMax = namesMax;
  }

  /** Takes the changes of the next record, none left out. `made`: the inode it made, if it did. The names are kept: they must be no views. */
  note(changes: readonly NameChange[], made: InodeId | undefined): void {
    for (const { ino, parent, name, change } of changes) {
      const known = ino === made ? [] : this.#known.get(ino);
      if (known === undefined) continue;
      const rest = known.filter((each) => each.parent !== parent || !each.name.equals(name));
      const names = change === "gained" ? [...rest, { parent, name }] : rest;
      if (names.length < this.#namesMax) this.#known.set(ino, names);
      else this.#known.delete(ino);
    }
  }

  /** The names after the last record that was noted, which is `at`. `count`: how many there are. */
  at(ino: InodeId, at: Lsn, count: number): readonly Name[] {
    const known = this.#known.get(ino);
    if (known !== undefined) return known;
    const names = namesAt(this.#core, ino, at, Math.min(this.#namesMax, Math.max(1, count)));
    if (names.length < this.#namesMax) this.#known.set(ino, names);
    return names;
  }
}
