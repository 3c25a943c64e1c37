import type { RestoreRequest } from "../../domain/admin-restore.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { Lsn, ShareId } from "../../domain/ids.ts";
import type { ResolvedMoment } from "../../domain/moment.ts";
import { joinNames, pathNames } from "../../domain/names.ts";
import type { OpenApp } from "../open-app.ts";
import { floorOf, type ReadingParts } from "../reading/apps.ts";
import { findShare } from "../reading/find-share.ts";
import { notThere, shareOf } from "../reading/locate.ts";
import { lookupPath } from "../reading/paths.ts";
import { resolveMoment } from "../reading/time.ts";
import type { Work } from "../reading/work.ts";
import type { ShareRow } from "../shares.ts";
import { type PlanInput, restoreSteps } from "./restore-plan.ts";
import { type Job, type RestoreRow, restoreRow, restoreRows } from "./restore-rows.ts";
import type { Side, Step } from "./step.ts";
import { undoSteps } from "./undo-plan.ts";

/** A request that was understood: the app it changes, what is done, and for people where. */
export type UnderstoodJob = {
  readonly app: OpenApp;
  readonly job: Job;
  readonly at: ResolvedMoment;
  readonly place: RestoreRow["place"];
};

/** Finds what a request names. Throws NOT_FOUND, INVALID_ARGUMENT, OUT_OF_HISTORY, FAILED_PRECONDITION. */
export function understand(parts: ReadingParts, request: RestoreRequest): Promise<UnderstoodJob> {
  return request.kind === "undo" ? understandUndo(parts, request) : understandRestore(parts, request);
}

async function understandRestore(
  parts: ReadingParts,
  request: RestoreRequest & { kind: "restore" },
): Promise<UnderstoodJob> {
  const { source, mode } = request;
  // From outside it may be anything.
  if (mode !== "mirror" && mode !== "overlay")
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `"${String(mode)}" is not a way to restore: expected mirror or overlay`,
    );
  const sourceApp = await parts.apps.find(source.app);
  const at = await resolveMoment(sourceApp.core, request.at, floorOf(parts, sourceApp));
  if (at.lsn === 0) throw notThere(source, at);
  const share = source.share === undefined ? undefined : findShare(sourceApp.core, source.share);
  const names = pathNames(source.path);
  // The floor may have passed while the time of the moment was looked up.
  sourceApp.core.moments.require(at.lsn);
  if (share !== undefined && lookupPath(sourceApp.core, share.root, names, at.lsn) === undefined)
    throw notThere(source, at);
  const sourcePath = joinNames(names);
  const from = { sourceApp: sourceApp.id, sourcePath: sourcePath.toString("hex"), at: at.lsn, mode };
  const target = await understandTarget(parts, request);
  if (share === undefined) return { app: sourceApp, at, job: { kind: "restore", ...from }, place: { path: "" } };
  const job: Job = { kind: "restore", ...from, sourceShare: share.id };
  const isInPlace =
    target === undefined ||
    (target.app === sourceApp && target.share.id === share.id && target.path.equals(sourcePath));
  if (isInPlace) return { app: sourceApp, at, job, place: { share: share.name, path: from.sourcePath } };
  const targetPath = target.path.toString("hex");
  const place = { share: target.share.name, path: targetPath };
  return { app: target.app, at, job: { ...job, targetShare: target.share.id, targetPath }, place };
}

async function understandTarget(
  parts: ReadingParts,
  { source, target }: RestoreRequest & { kind: "restore" },
): Promise<{ readonly app: OpenApp; readonly share: ShareRow; readonly path: Buffer } | undefined> {
  if (target === undefined) return undefined;
  if (source.share === undefined) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      "a whole app can only be restored in place: name a share to restore it to another place",
    );
  }
  const app = await parts.apps.find(target.app);
  return { app, share: shareOf(app, target), path: joinNames(pathNames(target.path)) };
}

async function understandUndo(parts: ReadingParts, request: RestoreRequest & { kind: "undo" }): Promise<UnderstoodJob> {
  const app = await parts.apps.find(request.app);
  const undone = findUndone(app, request.restoreId);
  const at = await resolveMoment(app.core, { kind: "lsn", lsn: (undone.firstLsn - 1) as Lsn }, floorOf(parts, app));
  return { app, at, job: { kind: "undo", of: undone.firstLsn }, place: undone.place };
}

function findUndone(app: OpenApp, id: string | undefined): RestoreRow {
  for (const row of restoreRows(app.core)) {
    if (id === undefined ? row.state === "undone" : row.id !== id) continue;
    if (row.state === "running")
      throw new TidemarkError("FAILED_PRECONDITION", `restore ${row.id} is still running: wait for it, or cancel it`);
    if (row.state === "undone")
      throw new TidemarkError("FAILED_PRECONDITION", `restore ${row.id} has been undone already`);
    return row;
  }
  const what = id === undefined ? "the app has no restore that could be undone" : `the app has no restore ${id}`;
  throw new TidemarkError("NOT_FOUND", `${what}: see \`tidemark undo APP --list\``);
}

/** What is needed to plan a job, besides the job. */
export type JobInput = {
  readonly app: OpenApp;
  /** The LSN before the restore. */
  readonly plannedAt: Lsn;
  readonly mountedShares: ReadonlySet<ShareId>;
  readonly limitations: Set<string>;
  readonly work: Work;
};

/** A job's past side and its steps. */
export type PlannedJob = {
  readonly source: Side;
  readonly identity: "inode" | "name";
  readonly steps: AsyncGenerator<Step>;
};

/** Plans a job. Nothing happens before the first step is asked for; the first may throw as RestoreApi.plan. */
export async function planJob(parts: ReadingParts, job: Job, input: JobInput): Promise<PlannedJob> {
  const { core } = input.app;
  const target: Side = { core, at: input.plannedAt };
  const rest: Omit<PlanInput, "source"> = {
    target,
    mountedShares: input.mountedShares,
    limitations: input.limitations,
    work: input.work,
  };
  if (job.kind === "undo") {
    const undone = restoreRow(core, job.of);
    if (undone === undefined)
      throw new TidemarkError("NOT_FOUND", "the restore that was to be undone is not known any more");
    const source: Side = { core, at: (undone.firstLsn - 1) as Lsn };
    return { source, identity: "inode", steps: undoSteps(undone, { ...rest, source }) };
  }
  const isSameApp = job.sourceApp === input.app.id;
  const sourceApp = isSameApp
    ? input.app
    : await parts.apps.find({ ...parts.apps.nameOf(job.sourceApp), id: job.sourceApp });
  const source: Side = { core: sourceApp.core, at: job.at };
  return {
    source,
    identity: job.targetShare === undefined ? "inode" : "name",
    steps: restoreSteps(job, { ...rest, source }),
  };
}
