import type { InodeId, Lsn } from "../../domain/ids.ts";
import type { EngineCore } from "../core.ts";
import { GenerationCache } from "../generation-cache.ts";
import { DEPTH_MAX, joinPath, nameAt } from "./paths.ts";

/** Where a directory was: the root of its tree, and its path below that. */
export type Place = { readonly root: InodeId; readonly path: Buffer };

/** A place and the LSNs [since, until) for which it is known. */
type Known = Place & { readonly since: Lsn; readonly until: number };

/** Directories remembered, in each of two generations: with paths of 200 bytes, 10 MiB. */
const DIRECTORIES_CACHED = 16_384;

/**
 * Paths of directories at moments. Remembers over which LSNs each answer holds, so that a log of a million records costs a look-up for each directory and
 * rename, not for each record.
 */
export class DirectoryPaths {
  readonly #core: EngineCore;
  readonly #top: InodeId | undefined;
  readonly #known = new GenerationCache<number, Known>(DIRECTORIES_CACHED);

  /** `top`: a directory that counts as a root: paths of what was below it are relative to it. */
  constructor(core: EngineCore, { top }: { readonly top?: InodeId | undefined } = {}) {
    this.#core = core;
    this.#top = top;
  }

  /** The place of the directory `ino` as of `at`; undefined when it was in no tree then. */
  of(ino: InodeId, at: Lsn): Place | undefined {
    const chain: { ino: InodeId; name: Buffer; since: Lsn; until: number }[] = [];
    let top: Known | undefined;
    for (let next = ino; top === undefined; ) {
      top = this.#remembered(next, at);
      if (top !== undefined) break;
      const inode = this.#core.findInodeAt(next, at);
      if (inode === undefined || chain.length >= DEPTH_MAX) return undefined;
      // A root is one from the beginning to the end.
      if (inode.parent === next || next === this.#top) {
        top = { root: next, path: NO_BYTES, since: 0 as Lsn, until: Number.POSITIVE_INFINITY };
        break;
      }
      const name = nameAt(this.#core, next, at);
      if (name === undefined) return undefined;
      // What holds now is known to hold up to the last record, not beyond.
      chain.push({ ino: next, name: name.name, since: name.since, until: name.until ?? this.#core.lastLsn + 1 });
      next = name.parent;
    }
    let place = top;
    for (const link of chain.reverse()) {
      const since = Math.max(place.since, link.since) as Lsn;
      place = {
        root: place.root,
        path: joinPath(place.path, link.name),
        since,
        until: Math.min(place.until, link.until),
      };
      this.#known.set(link.ino, place);
    }
    return place;
  }

  #remembered(ino: number, at: Lsn): Known | undefined {
    const known = this.#known.get(ino);
    return known !== undefined && known.since <= at && at < known.until ? known : undefined;
  }
}

const NO_BYTES = Buffer.alloc(0);
