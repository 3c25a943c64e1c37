import { TidemarkError } from "../../domain/errors.ts";
import type { FileName, InodeId, ShareId } from "../../domain/ids.ts";
import { isDirectory } from "../../domain/inode.ts";
import { joinNames, pathNames } from "../../domain/names.ts";
import { attributesOf } from "../reading/attributes.ts";
import { shareLabel } from "../reading/find-share.ts";
import { pathText } from "../reading/locate.ts";
import { isBelowAny, lookupPath } from "../reading/paths.ts";
import type { Work } from "../reading/work.ts";
import type { InodeRow } from "../rows.ts";
import { type ShareRow, sharesAt } from "../shares.ts";
import type { Job } from "./restore-rows.ts";
import type { Rules, Side, Step, TargetDirectory } from "./step.ts";
import { TreePlanner } from "./tree-planner.ts";

export type RestoreJob = Job & { readonly kind: "restore" };

/** What a plan is made from: the job, its two sides, and what is mounted. */
export type PlanInput = {
  readonly source: Side;
  readonly target: Side;
  readonly mountedShares: ReadonlySet<ShareId>;
  readonly limitations: Set<string>;
  readonly work: Work;
};

/** The steps of a restore. Throws NOT_FOUND, INVALID_ARGUMENT, FAILED_PRECONDITION before the first step, when the job can't be done as it is. */
export function restoreSteps(job: RestoreJob, input: PlanInput): AsyncGenerator<Step> {
  return new RestorePlan(job, input).steps();
}

class RestorePlan {
  readonly #job: RestoreJob;
  readonly #input: PlanInput;
  readonly #isInPlace: boolean;
  /** Directories, before the restore, out of which directories may be moved. */
  readonly #regions = new Set<InodeId>();
  /** Directories of the moment below which everything is put back. */
  readonly #sources = new Set<InodeId>();
  readonly #planner: TreePlanner;

  constructor(job: RestoreJob, input: PlanInput) {
    this.#job = job;
    this.#input = input;
    this.#isInPlace = job.targetShare === undefined;
    const { source, target, limitations, work } = input;
    const mirror = job.mode === "mirror";
    const rules: Rules = {
      source,
      target,
      identity: this.#isInPlace ? "inode" : "name",
      mirror,
      goesInto: "all",
      mayMove: (ino) => mirror && isBelowAny(target.core, ino, this.#regions, target.at),
      isPutElsewhere: (ino) =>
        mirror && this.#isInPlace && isBelowAny(source.core, ino, this.#sources, source.at) && isAlive(target, ino),
      limitations,
    };
    this.#planner = new TreePlanner(rules, work);
  }

  async *steps(): AsyncGenerator<Step> {
    const { sourceShare } = this.#job;
    if (sourceShare === undefined) yield* this.#wholeApp();
    else yield* this.#oneShare(sourceShare, this.#job.targetShare ?? sourceShare);
  }

  async *#wholeApp(): AsyncGenerator<Step> {
    const { source, target } = this.#input;
    const before = new Map(sharesAt(target.core, target.at).map((share) => [share.id, share]));
    const then = sharesAt(source.core, source.at).filter((share) => share.deletedAt === undefined);
    for (const share of then) {
      this.#regions.add(share.root);
      this.#sources.add(share.root);
    }
    for (const share of then) {
      const now = before.get(share.id) ?? share;
      before.delete(share.id);
      if (yield* this.#undelete(now)) yield* this.#root(share.root, now);
    }
    if (this.#job.mode === "mirror") for (const share of before.values()) yield* this.#deleteShare(share);
  }

  async *#oneShare(sourceId: ShareId, targetId: ShareId): AsyncGenerator<Step> {
    const { source, target } = this.#input;
    const shareThen = shareById(source, sourceId);
    const share = shareById(target, targetId);
    const names = pathNames(Buffer.from(this.#job.sourcePath, "hex"));
    const row = lookupPath(source.core, shareThen.root, names, source.at);
    if (row === undefined)
      throw new TidemarkError("NOT_FOUND", `there was no ${pathText(joinNames(names))} at LSN ${source.at}`);
    const targetNames =
      this.#job.targetPath === undefined ? names : pathNames(Buffer.from(this.#job.targetPath, "hex"));
    this.#sources.add(row.ino);
    if (!this.#isInPlace && share.deletedAt !== undefined) {
      throw new TidemarkError("FAILED_PRECONDITION", `the share "${share.name}" is deleted: undelete it first`);
    }
    if (!(yield* this.#undelete(share))) return;
    const name = targetNames.at(-1);
    if (name === undefined) {
      if (!isDirectory(row.mode))
        throw new TidemarkError(
          "INVALID_ARGUMENT",
          "a file cannot become the root of a share: name the file it is to be",
        );
      this.#regions.add(share.root);
      yield* this.#root(row.ino, share);
      return;
    }
    const parent = yield* this.#parents(share, targetNames.slice(0, -1), { root: shareThen.root, names });
    const existing = parent.before === undefined ? undefined : target.core.dentry(parent.before, name, target.at);
    if (existing !== undefined) this.#regions.add(existing.ino);
    yield* this.#planner.put(parent, name, row);
  }

  async *#root(rootThen: InodeId, share: ShareRow): AsyncGenerator<Step> {
    const { source, target } = this.#input;
    const row = source.core.findInodeAt(rootThen, source.at);
    if (row === undefined || target.core.findInodeAt(share.root, target.at) === undefined) return;
    yield* this.#planner.change(share.root, row, { share: shareLabel(share) });
    yield* this.#planner.contents(row, {
      share: shareLabel(share),
      path: NO_BYTES,
      before: share.root,
      ino: share.root,
      isRestored: true,
    });
  }

  /** The directory that gets the top of the restored tree. In place, directories missing on the way are made as they were, without what else was in them. */
  async *#parents(
    share: ShareRow,
    names: readonly FileName[],
    then: { root: InodeId; names: readonly FileName[] },
  ): AsyncGenerator<Step, TargetDirectory> {
    const { source, target } = this.#input;
    let node: TargetDirectory = {
      share: shareLabel(share),
      path: NO_BYTES,
      before: share.root,
      ino: share.root,
      isRestored: false,
    };
    for (const [index, name] of names.entries()) {
      const path = joinNames(names.slice(0, index + 1));
      const dentry = node.before === undefined ? undefined : target.core.dentry(node.before, name, target.at);
      const row = dentry === undefined ? undefined : target.core.findInodeAt(dentry.ino, target.at);
      if (row !== undefined) {
        if (!isDirectory(row.mode))
          throw new TidemarkError(
            "FAILED_PRECONDITION",
            `${pathText(path)} is not a directory now: move it away first`,
          );
        node = { share: node.share, path, before: row.ino, ino: row.ino, isRestored: false };
        continue;
      }
      const rowThen = this.#isInPlace
        ? lookupPath(source.core, then.root, then.names.slice(0, index + 1), source.at)
        : undefined;
      if (rowThen === undefined)
        throw new TidemarkError("NOT_FOUND", `there is no ${pathText(path)} now: make that directory first`);
      node = yield* makeParent(node, name, { path, row: rowThen });
    }
    return node;
  }

  /** Whether the share can be worked in; makes it live first. */
  async *#undelete(share: ShareRow): AsyncGenerator<Step, boolean> {
    if (share.deletedAt === undefined) return true;
    const { target, limitations } = this.#input;
    const isTaken = sharesAt(target.core, target.at).some(
      (other) => other.deletedAt === undefined && other.name === share.name,
    );
    if (isTaken) {
      limitations.add(`the deleted share "${share.name}" is left out: another share has its name now`);
      return false;
    }
    yield this.#shareStep("share", share);
    return true;
  }

  async *#deleteShare(share: ShareRow): AsyncGenerator<Step> {
    if (share.deletedAt !== undefined) return;
    if (!this.#input.mountedShares.has(share.id)) yield this.#shareStep("delete", share);
    else this.#input.limitations.add(`the share "${share.name}", which came since, stays: it is mounted`);
  }

  #shareStep(kind: "share" | "delete", share: ShareRow): Step {
    const { core, at } = this.#input.target;
    return shareStep(kind, share, core.inodeAt(share.root, at));
  }
}

/** A share is deleted, or undeleted. */
export function shareStep(kind: "share" | "delete", share: ShareRow, root: InodeRow): Step {
  const action = {
    kind,
    share: shareLabel(share),
    path: NO_BYTES,
    attributes: attributesOf(root),
    inoThen: 0,
    parts: [],
    otherNames: [],
  } as const;
  return { action, change: { kind: "share", id: share.id, deleted: kind === "delete" } };
}

async function* makeParent(
  parent: TargetDirectory,
  name: FileName,
  then: { readonly path: Buffer; readonly row: InodeRow },
): AsyncGenerator<Step, TargetDirectory> {
  const { path, row } = then;
  const made: TargetDirectory = { share: parent.share, path, before: undefined, ino: undefined, isRestored: true };
  const action = {
    kind: "create",
    share: parent.share,
    path,
    attributes: attributesOf(row),
    inoThen: row.ino,
    parts: [],
    otherNames: [],
  } as const;
  yield {
    action,
    change: {
      kind: "put",
      directory: parent,
      name,
      source: row,
      wanted: { kind: "new" },
      parts: [],
      isLinked: false,
      made,
    },
  };
  return made;
}

function shareById(side: Side, id: ShareId): ShareRow {
  const share = sharesAt(side.core, side.at).find((row) => row.id === id);
  if (share === undefined) throw new TidemarkError("NOT_FOUND", `there was no share ${id} at LSN ${side.at}`);
  return share;
}

function isAlive({ core, at }: Side, ino: InodeId): boolean {
  return (core.findInodeAt(ino, at)?.nlink ?? 0) > 0;
}

const NO_BYTES = Buffer.alloc(0);
