import { OTHER_NAMES_MAX, type PlanAction, type RestoredPart } from "../../domain/admin-restore.ts";
import { ERASED_BY_ORDER } from "../../domain/errors.ts";
import type { InodeId } from "../../domain/ids.ts";
import { type Dentry, isDirectory, S_IFMT } from "../../domain/inode.ts";
import { attributesOf } from "../reading/attributes.ts";
import { isPartlyErased } from "../reading/content-stream.ts";
import { type DirectoryName, directoryNames } from "../reading/directory-names.ts";
import { DirectoryPaths } from "../reading/directory-paths.ts";
import { lastState } from "../reading/last-state.ts";
import { pathText } from "../reading/locate.ts";
import { joinPath, namesAt } from "../reading/paths.ts";
import { type RowChange, rowChanges } from "../reading/row-changes.ts";
import type { Work } from "../reading/work.ts";
import type { InodeRow } from "../rows.ts";
import type { Rules, Side, Step, TargetDirectory, Wanted } from "./step.ts";

/** Files of several names that are remembered as put back or made: 40 bytes each. Beyond, a plan may name a change twice; carrying it out is exact in any case. */
const LINKED_MAX = 1_000_000;

/** Files told one by one that can't be put back. */
const LIMITATIONS_MAX = 1000;

/** How often one file was deleted and restored, as far as it is followed. */
const REBORN_MAX = 64;

/** A directory on the way: first its names of the moment, then those that came since. */
type Frame = {
  readonly target: TargetDirectory;
  readonly source: InodeRow;
  readonly names: Names;
  phase: "put" | "remove";
};
type Names = AsyncGenerator<readonly DirectoryName[]>;
/** A directory that goes, with what is in it. */
type Doomed = { readonly path: Buffer; readonly names: Names };

/**
 * Compares trees of two moments and says step by step what makes one of the other. Both moments never change, so the steps are the same whenever they are asked
 * for, also while they are being carried out: that is how a restore goes on after a crash. Memory: the directories on the way down.
 */
export class TreePlanner {
  readonly #rules: Rules;
  readonly #work: Work;
  readonly #targetPaths: DirectoryPaths;
  /** Files of several names whose state has been compared. */
  readonly #compared = new Set<InodeId>();
  /** Files of several names for which a step made an inode. */
  readonly #made = new Set<InodeId>();

  /** Dead files of several names, and the inode that an earlier restore made of each. */
  readonly #reborn = new Map<InodeId, InodeId>();

  constructor(rules: Rules, work: Work) {
    this.#rules = rules;
    this.#work = work;
    this.#targetPaths = new DirectoryPaths(rules.target.core);
  }

  /** Puts `source` at a name, with what is below it. */
  async *put(directory: TargetDirectory, name: Buffer, source: InodeRow): AsyncGenerator<Step> {
    const found = await this.#putOne(directory, name, source);
    if (found.step !== undefined) yield found.step;
    if (found.replaced !== undefined) yield* this.#goneWith(found.replaced, joinPath(directory.path, name), directory);
    if (found.made !== undefined && this.#goesInto(found.made)) yield* this.#descend(source, found.made);
  }

  #goesInto(directory: TargetDirectory): boolean {
    return this.#rules.goesInto === "all" || directory.before === undefined;
  }

  /** Makes the contents of a directory what they were. */
  contents(source: InodeRow, target: TargetDirectory): AsyncGenerator<Step> {
    return this.#descend(source, target);
  }

  /** Puts back the state of an inode that keeps its number. */
  async *change(
    ino: InodeId,
    source: InodeRow,
    place: { directory: TargetDirectory; name: Buffer } | { share: TargetDirectory["share"] },
  ): AsyncGenerator<Step> {
    const live = this.#rules.target.core.findInodeAt(ino, this.#rules.target.at);
    if (live === undefined) return;
    if (await this.#isErased(source, "directory" in place ? joinPath(place.directory.path, place.name) : NO_BYTES))
      return;
    const parts = await this.#parts(source, live);
    if (parts.length === 0) return;
    const isNamed = "directory" in place;
    const path = isNamed ? joinPath(place.directory.path, place.name) : NO_BYTES;
    const share = isNamed ? place.directory.share : place.share;
    yield {
      action: this.#action("change", { share, path, row: source, parts, live }),
      change: { kind: "change", ino, source, at: isNamed ? place : undefined },
    };
  }

  /** Takes a name away, with what is below it. */
  async *remove(directory: TargetDirectory, name: Buffer, ino: InodeId): AsyncGenerator<Step> {
    const row = this.#rules.target.core.findInodeAt(ino, this.#rules.target.at);
    if (row === undefined) return;
    const path = joinPath(directory.path, name);
    yield { action: deletion(directory, path, row), change: { kind: "remove", directory, name, ino } };
    if (isDirectory(row.mode)) yield* this.#goneWith(row, path, directory);
  }

  async *#descend(source: InodeRow, target: TargetDirectory): AsyncGenerator<Step> {
    const frames = [this.#frame(source, target)];
    try {
      for (let frame = frames.at(-1); frame !== undefined; frame = frames.at(-1)) {
        const batch = await frame.names.next();
        if (batch.done === true) {
          frames.pop();
          const next = frame.phase === "put" ? this.#removals(frame) : undefined;
          if (next !== undefined) frames.push(next);
          continue;
        }
        if (frame.phase === "remove") yield* this.#removeNames(frame, batch.value);
        else frames.push(...(yield* this.#putNames(frame, batch.value)));
      }
    } finally {
      for (const frame of frames) await frame.names.return(undefined);
    }
  }

  #frame(source: InodeRow, target: TargetDirectory): Frame {
    const { core, at } = this.#rules.source;
    return { source, target, phase: "put", names: directoryNames(core, source, at, this.#work) };
  }

  #removals({ source, target }: Frame): Frame | undefined {
    const { core, at } = this.#rules.target;
    const before = target.before === undefined || !this.#rules.mirror ? undefined : core.findInodeAt(target.before, at);
    if (before === undefined) return undefined;
    return { source, target, phase: "remove", names: directoryNames(core, before, at, this.#work) };
  }

  /** Puts the names of a batch; answers the directories among them, to be gone into. */
  async *#putNames(frame: Frame, batch: readonly DirectoryName[]): AsyncGenerator<Step, Frame[]> {
    const { core, at } = this.#rules.source;
    const directories: Frame[] = [];
    for (const { name, ino } of batch) {
      if (this.#work.due) await this.#work.pause();
      const source = core.findInodeAt(ino, at);
      if (source === undefined) continue;
      const found = await this.#putOne(frame.target, name, source);
      if (found.step !== undefined) yield found.step;
      if (found.replaced !== undefined)
        yield* this.#goneWith(found.replaced, joinPath(frame.target.path, name), frame.target);
      if (found.made !== undefined && this.#goesInto(found.made)) directories.push(this.#frame(source, found.made));
    }
    return directories.reverse();
  }

  async *#removeNames(frame: Frame, batch: readonly DirectoryName[]): AsyncGenerator<Step> {
    const { core, at } = this.#rules.source;
    for (const { name, ino } of batch) {
      if (this.#work.due) await this.#work.pause();
      if (core.dentry(frame.source.ino, name, at) === undefined) yield* this.remove(frame.target, name, ino);
    }
  }

  /** What is to be done at one name. `made`: the node of a directory, to be gone into. `replaced`: a directory that went with all it held. */
  async #putOne(
    directory: TargetDirectory,
    name: Buffer,
    source: InodeRow,
  ): Promise<{ readonly step?: Step; readonly made?: TargetDirectory; readonly replaced?: InodeRow }> {
    if (await this.#isErased(source, joinPath(directory.path, name))) return {};
    const { core, at } = this.#rules.target;
    const existing = directory.before === undefined ? undefined : core.dentry(directory.before, name, at);
    const existingRow = existing === undefined ? undefined : core.findInodeAt(existing.ino, at);
    const wanted = await this.#wanted(source, existing, existingRow);
    const live = wanted.kind === "alive" ? core.findInodeAt(wanted.ino, at) : undefined;
    const parts = live === undefined ? [] : await this.#parts(source, live);
    const path = joinPath(directory.path, name);
    const { share } = directory;
    const isDir = isDirectory(source.mode);
    const made: TargetDirectory | undefined = isDir
      ? { share, path, before: live?.ino, ino: live?.ino, isRestored: true }
      : undefined;
    const node = made === undefined ? {} : { made };
    const describe = (kind: PlanAction["kind"]): PlanAction =>
      this.#action(kind, { share, path, row: source, parts, live });
    if (live !== undefined && existing?.ino === live.ino) {
      if (parts.length === 0) return node;
      return {
        ...node,
        step: {
          action: describe("change"),
          change: { kind: "change", ino: live.ino, source, at: { directory, name } },
        },
      };
    }
    const isLinked = this.#isLinked(source);
    if (wanted.kind === "new" && isLinked && this.#made.size < LINKED_MAX) this.#made.add(source.ino);
    const kind = existing !== undefined ? "replace" : wanted.kind === "new" ? "create" : "link";
    const change = { kind: "put", directory, name, source, wanted, parts, isLinked, ...node } as const;
    const replaced = existingRow !== undefined && isDirectory(existingRow.mode) ? { replaced: existingRow } : {};
    return { ...node, ...replaced, step: { action: describe(kind), change } };
  }

  /** What was erased by order can't be put back: it is left out, and said. */
  async #isErased(source: InodeRow, path: Buffer): Promise<boolean> {
    const { core, at } = this.#rules.source;
    if (!(await isPartlyErased(core, source, at, this.#work))) return false;
    const { limitations } = this.#rules;
    if (limitations.size < LIMITATIONS_MAX)
      limitations.add(`${pathText(path)} is left out: its content was ${ERASED_BY_ORDER}`);
    return true;
  }

  #isLinked(source: InodeRow): boolean {
    return !isDirectory(source.mode) && source.nlink > 1;
  }

  async #wanted(source: InodeRow, existing: Dentry | undefined, existingRow: InodeRow | undefined): Promise<Wanted> {
    if (this.#isLinked(source) && this.#made.has(source.ino)) return { kind: "made" };
    if (this.#rules.identity === "name") return this.#wantedByName(source, existingRow);
    const { core, at } = this.#rules.target;
    const live = core.findInodeAt(source.ino, at);
    if (live === undefined || live.nlink === 0) return this.#wantedReborn(source, existingRow);
    const mayHave = !isDirectory(source.mode) || existing?.ino === live.ino || this.#rules.mayMove(live.ino);
    return mayHave ? { kind: "alive", ino: live.ino } : { kind: "new" };
  }

  /** A dead inode that was restored before lives on under another number: a restore that is repeated changes nothing. */
  #wantedReborn(source: InodeRow, existing: InodeRow | undefined): Wanted {
    const isLinked = this.#isLinked(source);
    const known = isLinked ? this.#reborn.get(source.ino) : undefined;
    if (known !== undefined) return { kind: "alive", ino: known };
    if (existing === undefined || !isReborn(this.#rules.target, existing, source.ino)) return { kind: "new" };
    if (isLinked && this.#reborn.size < LINKED_MAX) this.#reborn.set(source.ino, existing.ino);
    return { kind: "alive", ino: existing.ino };
  }

  /** A name that is taken by something of the same kind is changed; not if that has other names, which would change with it. */
  async #wantedByName(source: InodeRow, existing: InodeRow | undefined): Promise<Wanted> {
    if (existing === undefined || (existing.mode & S_IFMT) !== (source.mode & S_IFMT)) return { kind: "new" };
    if (isDirectory(source.mode)) return { kind: "alive", ino: existing.ino };
    const isSameKind = existing.rdev === source.rdev && existing.target.equals(source.target);
    return isSameKind && existing.nlink === 1 && !this.#isLinked(source)
      ? { kind: "alive", ino: existing.ino }
      : { kind: "new" };
  }

  /** What of a live inode differs; empty for one of several names that was compared before. */
  async #parts(source: InodeRow, live: InodeRow): Promise<RestoredPart[]> {
    const { source: then, target: before } = this.#rules;
    const isLinked = this.#isLinked(source) || this.#isLinked(live);
    if (isLinked && this.#compared.has(live.ino)) return [];
    if (isLinked && this.#compared.size < LINKED_MAX) this.#compared.add(live.ino);
    const changes = await rowChanges({ ...then, row: source }, { ...before, row: live }, this.#work);
    return changes.filter(isPart);
  }

  #action(
    kind: PlanAction["kind"],
    of: {
      share: PlanAction["share"];
      path: Buffer;
      row: InodeRow;
      parts: readonly RestoredPart[];
      live: InodeRow | undefined;
    },
  ): PlanAction {
    const { share, path, row, parts, live } = of;
    const otherNames = live === undefined || parts.length === 0 ? [] : this.#otherNames(live, path);
    return { kind, share, path, attributes: attributesOf(row), inoThen: row.ino, parts, otherNames };
  }

  /** Names beside `path` that change with it. */
  #otherNames(live: InodeRow, path: Buffer): Buffer[] {
    if (isDirectory(live.mode)) return [];
    const { core, at } = this.#rules.target;
    const names: Buffer[] = [];
    for (const { parent, name } of namesAt(core, live.ino, at, OTHER_NAMES_MAX + 1)) {
      const directory = this.#targetPaths.of(parent, at);
      if (directory === undefined) continue;
      const other = joinPath(directory.path, name);
      if (!other.equals(path)) names.push(other);
    }
    return names.slice(0, OTHER_NAMES_MAX);
  }

  /** What was in a directory that goes, unless the directory itself is put elsewhere: its names are then compared there. */
  async *#goneWith(row: InodeRow, path: Buffer, directory: TargetDirectory): AsyncGenerator<Step> {
    const { core, at } = this.#rules.target;
    if (this.#rules.isPutElsewhere(row.ino)) return;
    const doomed: Doomed[] = [{ path, names: directoryNames(core, row, at, this.#work) }];
    try {
      for (let top = doomed.at(-1); top !== undefined; top = doomed.at(-1)) {
        const batch = await top.names.next();
        if (batch.done === true) {
          doomed.pop();
          continue;
        }
        for (const { name, ino } of batch.value) {
          if (this.#work.due) await this.#work.pause();
          const child = core.findInodeAt(ino, at);
          if (child === undefined) continue;
          const childPath = joinPath(top.path, name);
          yield { action: deletion(directory, childPath, child), change: { kind: "none" } };
          if (!isDirectory(child.mode) || this.#rules.isPutElsewhere(ino)) continue;
          doomed.push({ path: childPath, names: directoryNames(core, child, at, this.#work) });
        }
      }
    } finally {
      for (const { names } of doomed) await names.return(undefined);
    }
  }
}

const NO_BYTES = Buffer.alloc(0);

/** Whether `row` was restored from the inode `then`, or from one that was restored from it, and so on. */
function isReborn({ core, at }: Side, row: InodeRow, then: InodeId): boolean {
  let next: InodeRow | undefined = row;
  for (let times = 0; next !== undefined && next.restoredFrom !== 0 && times < REBORN_MAX; times++) {
    if (next.restoredFrom === then) return true;
    next = lastState(core, next.restoredFrom, at);
  }
  return false;
}

function isPart(change: RowChange): change is RowChange & RestoredPart {
  return change !== "device";
}

function deletion(directory: TargetDirectory, path: Buffer, row: InodeRow): PlanAction {
  return {
    kind: "delete",
    share: directory.share,
    path,
    attributes: attributesOf(row),
    inoThen: 0,
    parts: [],
    otherNames: [],
  };
}
