import { ByteReader } from "../../base/bytes.ts";
import type { DiffChange, DiffEntry } from "../../domain/admin-reading.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { InodeId, Lsn } from "../../domain/ids.ts";
import { isDirectory } from "../../domain/inode.ts";
import type { EngineCore } from "../core.ts";
import { TABLE } from "../keys.ts";
import type { InodeRow } from "../rows.ts";
import { type ShareRow, sharesAt } from "../shares.ts";
import { attributesOf } from "./attributes.ts";
import { directoryNames } from "./directory-names.ts";
import { DirectoryPaths } from "./directory-paths.ts";
import { shareLabel, sharesByRoot } from "./find-share.ts";
import { isPathWithin, joinPath, lookupPath, namesAt } from "./paths.ts";
import { rowChanges } from "./row-changes.ts";
import type { Work } from "./work.ts";

/** Files that may differ between the moments: held in memory with their paths for sorting, about 300 bytes each. */
const CANDIDATES_MAX = 1_000_000;

/** Names of one hard-linked inode that are compared. */
const NAMES_MAX = 1000;

/** What is compared: a whole app, a share, or a path in it (by name at both moments). */
export type DiffScope = { readonly share?: ShareRow; readonly names: readonly Buffer[]; readonly path: Buffer };

type Side = { readonly at: Lsn; readonly directories: DirectoryPaths };
type Named = { readonly share: ShareRow; readonly path: Buffer };
/** A difference before its attributes are looked up again, so that many can be sorted. */
type Difference = Named & {
  readonly kind: DiffEntry["kind"];
  readonly ino: InodeId;
  readonly pathBefore?: Buffer;
  readonly changes: readonly DiffChange[];
};

/** Compares two moments of one app at the cost of what changed: the journal between them tells which inodes to look at. */
export class Diff {
  readonly #core: EngineCore;
  readonly #scope: DiffScope;
  readonly #work: Work;
  readonly #before: Side;
  readonly #after: Side;
  readonly #shares: Map<InodeId, ShareRow>;
  readonly #candidates = new Set<InodeId>();

  constructor(
    core: EngineCore,
    options: { readonly scope: DiffScope; readonly from: Lsn; readonly to: Lsn; readonly work: Work },
  ) {
    this.#core = core;
    this.#scope = options.scope;
    this.#work = options.work;
    this.#before = { at: options.from, directories: new DirectoryPaths(core) };
    this.#after = { at: options.to, directories: new DirectoryPaths(core) };
    this.#shares = sharesByRoot(core);
  }

  /** The differences: shares by name, in each by path. Throws OUT_OF_HISTORY, FAILED_PRECONDITION when too much changed. */
  async *entries(): AsyncGenerator<readonly DiffEntry[]> {
    await this.#collectTouched();
    await this.#collectMovedTrees();
    const differences: Difference[] = [];
    for (const ino of this.#candidates) {
      if (this.#work.due) await this.#work.pause();
      differences.push(...(await this.#compare(ino)));
    }
    this.#candidates.clear();
    // Of one path, what went comes before what came.
    const isAdded = ({ kind }: Difference): number => (kind === "added" ? 1 : 0);
    differences.sort((left, right) => byShareAndPath(left, right) || isAdded(left) - isAdded(right));
    for (const difference of differences) {
      if (this.#work.due) await this.#work.pause();
      yield [this.#entry(difference)];
    }
  }

  /** Every inode with a new state in a record between the moments. */
  async #collectTouched(): Promise<void> {
    const { floor } = this.#core.moments;
    if (this.#before.at < floor || this.#after.at < floor) return this.#collectTrees();
    const from = Math.min(this.#before.at, this.#after.at) + 1;
    const to = Math.max(this.#before.at, this.#after.at);
    if (from > to) return;
    for await (const record of this.#core.records(from as Lsn, to as Lsn)) {
      if (this.#work.due) await this.#work.pause();
      for (const { key } of record.rows) if (key[0] === TABLE.INODE) this.#add(new ByteReader(key, 1).u40() as InodeId);
    }
  }

  /** Of a kept moment before the floor there is the state, but not each record since: then everything is compared. */
  async #collectTrees(): Promise<void> {
    for (const { at } of [this.#before, this.#after]) {
      for (const share of sharesAt(this.#core, at)) {
        if (this.#scope.share !== undefined && this.#scope.share.id !== share.id) continue;
        const root = lookupPath(this.#core, share.root, this.#scope.names, at);
        if (root !== undefined) await this.#addTree(root, at);
      }
    }
  }

  #add(ino: InodeId): void {
    this.#candidates.add(ino);
    if (this.#candidates.size <= CANDIDATES_MAX) return;
    throw new TidemarkError(
      "FAILED_PRECONDITION",
      `more than ${CANDIDATES_MAX} files changed between the two moments: compare a shorter time, or export both and compare those`,
    );
  }

  /** What came into the path asked for, or left it, with a directory above it that was moved: unchanged itself, but not there at one of the moments. */
  async #collectMovedTrees(): Promise<void> {
    const { share, names, path } = this.#scope;
    if (share === undefined || path.length === 0) return;
    const rootBefore = lookupPath(this.#core, share.root, names, this.#before.at);
    const rootAfter = lookupPath(this.#core, share.root, names, this.#after.at);
    if (rootBefore?.ino !== rootAfter?.ino) {
      if (rootBefore !== undefined) await this.#addTree(rootBefore, this.#before.at);
      if (rootAfter !== undefined) await this.#addTree(rootAfter, this.#after.at);
      return;
    }
    for (const ino of [...this.#candidates]) {
      if (this.#work.due) await this.#work.pause();
      const before = this.#directory(ino, this.#before);
      const after = this.#directory(ino, this.#after);
      if (before === undefined || after === undefined || before.isInside === after.isInside) continue;
      if (before.isInside) await this.#addTree(before.row, this.#before.at);
      else await this.#addTree(after.row, this.#after.at);
    }
  }

  #directory(ino: InodeId, side: Side): { row: InodeRow; isInside: boolean } | undefined {
    const row = this.#core.findInodeAt(ino, side.at);
    if (row === undefined || !isDirectory(row.mode)) return undefined;
    return { row, isInside: this.#names(row, side).length > 0 };
  }

  async #addTree(root: InodeRow, at: Lsn): Promise<void> {
    this.#add(root.ino);
    if (!isDirectory(root.mode)) return;
    const pending = [root];
    for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
      for await (const batch of directoryNames(this.#core, directory, at, this.#work)) {
        for (const { ino } of batch) {
          this.#add(ino);
          const row = this.#core.findInodeAt(ino, at);
          if (row !== undefined && isDirectory(row.mode)) pending.push(row);
        }
      }
    }
  }

  async #compare(ino: InodeId): Promise<Difference[]> {
    const before = this.#state(ino, this.#before);
    const after = this.#state(ino, this.#after);
    if (before.names.length === 0) return after.names.map((named) => ({ ...named, kind: "added", ino, changes: [] }));
    if (after.names.length === 0) return before.names.map((named) => ({ ...named, kind: "removed", ino, changes: [] }));
    if (before.row === undefined || after.row === undefined) return [];
    const left = { core: this.#core, row: before.row, at: this.#before.at };
    const right = { core: this.#core, row: after.row, at: this.#after.at };
    const changes: DiffChange[] = await rowChanges(left, right, this.#work);
    const kept = after.names.find((named) => before.names.some((other) => isSameName(named, other)));
    const linksDiffer = !isDirectory(left.row.mode) && left.row.nlink !== right.row.nlink;
    if (linksDiffer || (kept !== undefined && !hasSameNames(before.names, after.names))) changes.push("links");
    if (kept !== undefined) return changes.length === 0 ? [] : [{ ...kept, kind: "changed", ino, changes }];
    const [first] = after.names;
    const [was] = before.names;
    if (first === undefined || was === undefined) return [];
    return [{ ...first, kind: "moved", ino, pathBefore: was.path, changes }];
  }

  #state(ino: InodeId, side: Side): { row: InodeRow | undefined; names: Named[] } {
    const row = this.#core.findInodeAt(ino, side.at);
    return { row, names: row === undefined ? [] : this.#names(row, side) };
  }

  /** Names of an inode inside the scope, by path. */
  #names(row: InodeRow, side: Side): Named[] {
    const { share: wanted, path: within } = this.#scope;
    const found: Named[] = [];
    const add = (root: InodeId, path: Buffer): void => {
      const share = this.#shares.get(root);
      if (share === undefined || (wanted !== undefined && wanted.id !== share.id)) return;
      if (isPathWithin(path, within)) found.push({ share, path });
    };
    if (row.parent === row.ino) add(row.ino, Buffer.alloc(0));
    else if (row.nlink > 0) {
      for (const { parent, name } of namesAt(this.#core, row.ino, side.at, NAMES_MAX)) {
        const directory = side.directories.of(parent, side.at);
        if (directory !== undefined) add(directory.root, joinPath(directory.path, name));
      }
    }
    return found.sort(byShareAndPath);
  }

  #entry(difference: Difference): DiffEntry {
    const { share, path, kind, ino, pathBefore, changes } = difference;
    const before = kind === "added" ? undefined : this.#core.findInodeAt(ino, this.#before.at);
    const after = kind === "removed" ? undefined : this.#core.findInodeAt(ino, this.#after.at);
    return {
      kind,
      share: shareLabel(share),
      path,
      ...(pathBefore === undefined ? {} : { pathBefore }),
      ...(before === undefined ? {} : { before: attributesOf(before) }),
      ...(after === undefined ? {} : { after: attributesOf(after) }),
      changes,
    };
  }
}

function byShareAndPath(left: Named, right: Named): number {
  if (left.share.id !== right.share.id)
    return left.share.name < right.share.name ||
      (left.share.name === right.share.name && left.share.id < right.share.id)
      ? -1
      : 1;
  return Buffer.compare(left.path, right.path);
}

function isSameName(left: Named, right: Named): boolean {
  return left.share.id === right.share.id && left.path.equals(right.path);
}

function hasSameNames(left: readonly Named[], right: readonly Named[]): boolean {
  return left.length === right.length && left.every((named, index) => isSameName(named, right[index] ?? named));
}
