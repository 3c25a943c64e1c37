import { type InodeId, LIVE, type Lsn } from "../../domain/ids.ts";
import type { EngineCore } from "../core.ts";
import { GenerationCache } from "../generation-cache.ts";

/** Inodes known to be in one directory now, in each of two generations: 2 MB for all sessions that have that directory. */
const INODES_CACHED = 20_000;

/** Past moments that are remembered at a time, and inodes of each: people look at few moments at once. */
const MOMENTS_CACHED = 8;
const PAST_INODES_CACHED = 4_096;

type Known = GenerationCache<number, true>;

/**
 * Inodes known to be below one directory: shared by all sessions whose tokens are for it, since it is the same for all of them.
 *
 * S1  Nothing is known as inside that is not: what loses a name, or may be below a directory that got another parent, is forgotten in the commit that does it.
 */
export class InsideCache {
  readonly #inside: Known = new GenerationCache(INODES_CACHED);
  readonly #past = new Map<Lsn, Known>();
  readonly #close: () => void;
  #users = 0;

  private constructor(core: EngineCore, onClose: () => void) {
    const unwatch = core.watchPlaces({
      directoryMoved: () => this.#inside.clear(),
      nameEnded: (ino) => this.#inside.delete(ino),
      orphaned: () => {},
    });
    this.#close = () => {
      unwatch();
      onClose();
    };
  }

  /** The one for the directory `root`, to be released. */
  static of(core: EngineCore, root: InodeId): InsideCache {
    let roots = CACHES.get(core);
    if (roots === undefined) {
      roots = new Map();
      CACHES.set(core, roots);
    }
    const all = roots;
    let cache = all.get(root);
    if (cache === undefined) {
      cache = new InsideCache(core, () => all.delete(root));
      all.set(root, cache);
    }
    cache.#users++;
    return cache;
  }

  release(): void {
    this.#users--;
    if (this.#users === 0) this.#close();
  }

  has(ino: InodeId, at: Lsn): boolean {
    return (at === LIVE ? this.#inside : this.#past.get(at))?.get(ino) === true;
  }

  add(ino: InodeId, at: Lsn): void {
    (at === LIVE ? this.#inside : this.#pastOf(at)).set(ino, true);
  }

  #pastOf(at: Lsn): Known {
    let known = this.#past.get(at);
    if (known !== undefined) return known;
    known = new GenerationCache(PAST_INODES_CACHED);
    const oldest = this.#past.keys().next();
    if (this.#past.size >= MOMENTS_CACHED && oldest.done === false) this.#past.delete(oldest.value);
    this.#past.set(at, known);
    return known;
  }
}

const CACHES = new WeakMap<EngineCore, Map<InodeId, InsideCache>>();
