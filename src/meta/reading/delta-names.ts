import type { DeltaName, NameNow } from "../../domain/admin-changes.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { InodeId, Lsn } from "../../domain/ids.ts";
import { isDirectory } from "../../domain/inode.ts";
import { pathNames } from "../../domain/names.ts";
import type { EngineCore } from "../core.ts";
import type { InodeRow } from "../rows.ts";
import type { ChangeScope } from "./change-scope.ts";
import { lookupPath, namesAt } from "./paths.ts";

/** Names of one inode that are compared at once: 20 MiB at usual lengths. */
const NAMES_MAX = 100_000;

/** A name as of a moment. */
type NameAt = { readonly parent: InodeId | 0; readonly name: Buffer; readonly path: Buffer };

/** The names of inodes at two moments, inside a scope. */
export class DeltaNames {
  readonly #core: EngineCore;
  readonly #scope: ChangeScope;
  readonly #root: InodeId;
  readonly #to: Lsn;
  readonly #byPath: boolean;
  /** What the last name that was looked for was in: those of one directory come together. */
  #parent: { readonly path: Buffer; readonly row: InodeRow | undefined } | undefined;

  constructor(
    core: EngineCore,
    options: { readonly scope: ChangeScope; readonly root: InodeId; readonly to: Lsn; readonly byPath: boolean },
  ) {
    this.#core = core;
    this.#scope = options.scope;
    this.#root = options.root;
    this.#to = options.to;
    this.#byPath = options.byPath;
  }

  /** The names of an inode as of `at` that are wanted, by path. `row`: the inode then. Throws FAILED_PRECONDITION when there are too many. */
  at(row: InodeRow | undefined, at: Lsn): NameAt[] {
    if (row === undefined) return [];
    const scope = this.#scope;
    if (row.ino === this.#root || row.parent === row.ino) {
      const place = scope.directory(row.ino, at);
      return place === undefined || !scope.wants(place.path) ? [] : [{ parent: 0, name: NO_BYTES, path: place.path }];
    }
    if (row.nlink === 0) return [];
    const names: NameAt[] = [];
    // The row tells how many names there are: with the last one the search ends.
    const count = isDirectory(row.mode) ? 1 : row.nlink;
    if (count > NAMES_MAX) {
      throw new TidemarkError("FAILED_PRECONDITION", `inode ${row.ino} has ${count} names: too many for a delta`);
    }
    const all = namesAt(this.#core, row.ino, at, count);
    for (const { parent, name } of all) {
      const place = scope.name(parent, name, at);
      if (place !== undefined && scope.wants(place.path)) names.push({ parent, name, path: place.path });
    }
    return names.length < 2 ? names : names.sort((left, right) => Buffer.compare(left.path, right.path));
  }

  /** What became of the names of an inode: those at `to` by path, then those that went. */
  compare(before: readonly NameAt[], after: readonly NameAt[]): DeltaName[] {
    const left = new Map(before.map((name) => [this.#key(name), name]));
    const names: DeltaName[] = [];
    for (const name of after) {
      const { parent, path } = name;
      const key = this.#key(name);
      const was = left.get(key);
      left.delete(key);
      if (was === undefined) names.push({ state: "added", parent, path });
      else if (was.path.equals(path)) names.push({ state: "kept", parent, path });
      else names.push({ state: "kept", parent, path, pathBefore: was.path });
    }
    for (const { parent, path } of left.values()) names.push({ state: "removed", parent, path, now: this.#now(path) });
    return names;
  }

  #key({ parent, name, path }: NameAt): string {
    return this.#byPath ? path.toString("latin1") : `${parent}/${name.toString("latin1")}`;
  }

  /** What is at a path at `to`. */
  #now(path: Buffer): NameNow {
    const slash = path.lastIndexOf("/");
    const name = path.subarray(slash + 1);
    const directory = this.#directoryNow(slash === -1 ? NO_BYTES : path.subarray(0, slash));
    if (directory === undefined || !isDirectory(directory.mode)) return "no-directory";
    if (path.length === 0) return "other";
    return this.#core.dentry(directory.ino, name, this.#to) === undefined ? "nothing" : "other";
  }

  #directoryNow(path: Buffer): InodeRow | undefined {
    if (this.#parent?.path.equals(path) === true) return this.#parent.row;
    const row = lookupPath(this.#core, this.#root, pathNames(path), this.#to);
    this.#parent = { path, row };
    return row;
  }
}

const NO_BYTES = Buffer.alloc(0);
