import type { InodeId, Lsn } from "../../domain/ids.ts";
import type { EngineCore } from "../core.ts";
import type { ShareRow } from "../shares.ts";
import { DirectoryPaths } from "./directory-paths.ts";
import { sharesByRoot } from "./find-share.ts";
import { isPathWithin, joinPath } from "./paths.ts";

/** Limbos of restores remembered: each restore has one. */
const LIMBOS_MAX = 10_000;

/** Where something was: the share, and the path in it (relative to the scope's root). */
export type ScopedPlace = { readonly share: ShareRow; readonly path: Buffer };

export type ScopeOptions = {
  /** Absent: every share of the app. */
  readonly share?: ShareRow;
  /** Names joined by "/", relative to the root; empty: all of it. */
  readonly path: Buffer;
  /** Only what was below this directory of the share, at each moment by itself. Paths are relative to it. */
  readonly within?: InodeId;
};

/**
 * What a reader of changes may see (`share`, `within`) and wants (`path`). What it may see goes by inodes: a directory that was moved out of `within` is outside from that record on,
 * whatever it is called.
 */
export class ChangeScope {
  readonly share: ShareRow | undefined;
  readonly path: Buffer;
  readonly #core: EngineCore;
  readonly #within: InodeId | undefined;
  /** Paths below the scope's root, and those that tell whether that root itself is in the share. */
  readonly #directories: DirectoryPaths;
  readonly #whole: DirectoryPaths;
  #shares: Map<InodeId, ShareRow>;
  readonly #limbos = new Set<InodeId>();

  constructor(core: EngineCore, { share, path, within }: ScopeOptions) {
    this.#core = core;
    this.share = share;
    this.path = path;
    this.#within = within === share?.root ? undefined : within;
    this.#directories = new DirectoryPaths(core, { top: this.#within });
    this.#whole = new DirectoryPaths(core);
    this.#shares = sharesByRoot(core);
  }

  /** The directory that paths begin at; undefined when the scope is a whole app. */
  get root(): InodeId | undefined {
    return this.#within ?? this.share?.root;
  }

  /** Whether it is a part of a share that may be seen, not all of it: then nothing else of the app is to be told. */
  get isSubtree(): boolean {
    return this.#within !== undefined;
  }

  /** Whether a path that may be seen is wanted. */
  wants(path: Buffer): boolean {
    return isPathWithin(path, this.path);
  }

  /** Where the name `name` of `parent` was as of `at`; undefined when it was not to be seen then. */
  name(parent: InodeId, name: Buffer, at: Lsn): ScopedPlace | undefined {
    const directory = this.directory(parent, at);
    return directory === undefined ? undefined : { ...directory, path: joinPath(directory.path, name) };
  }

  /** Where a directory was as of `at`, likewise. */
  directory(ino: InodeId, at: Lsn): ScopedPlace | undefined {
    const place = this.#directories.of(ino, at);
    if (place === undefined) return undefined;
    const share = this.#within === undefined ? this.#shareOf(place.root) : this.#shareOfWithin(place.root, at);
    if (share === undefined || (this.share !== undefined && this.share.id !== share.id)) return undefined;
    return { share, path: place.path };
  }

  /** The share of an id, deleted ones included. */
  shareById(id: string): ShareRow | undefined {
    const find = (): ShareRow | undefined => [...this.#shares.values()].find((share) => share.id === id);
    const known = find();
    if (known !== undefined) return known;
    this.#shares = sharesByRoot(this.#core);
    return find();
  }

  #shareOf(root: InodeId): ShareRow | undefined {
    const known = this.#shares.get(root);
    if (known !== undefined || this.#limbos.has(root)) return known;
    // A share may have been made since. A root that is none now never will be: it is the limbo of a restore.
    this.#shares = sharesByRoot(this.#core);
    const share = this.#shares.get(root);
    if (this.#limbos.size === LIMBOS_MAX) this.#limbos.clear();
    if (share === undefined) this.#limbos.add(root);
    return share;
  }

  #shareOfWithin(root: InodeId, at: Lsn): ShareRow | undefined {
    const within = this.#within;
    if (within === undefined || root !== within) return undefined;
    // A restore may have taken it out of the share for a while.
    return this.#whole.of(within, at)?.root === this.share?.root ? this.share : undefined;
  }
}
