import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  PlanAction,
  PlanItem,
  PlanSummary,
  RestoredPart,
  RestoreInfo,
  RestoreProgress,
  RestoreRequest,
  RestoreResult,
} from "../../domain/admin-restore.ts";
import { TidemarkError } from "../../domain/errors.ts";
import * as pb from "../gen/tidemark/v1/restore_pb.ts";
import {
  fromActor,
  fromAppRef,
  fromAttributes,
  fromIno,
  fromLsn,
  fromMoment,
  fromResolvedMoment,
  fromShareName,
  fromSharePath,
  fromTime,
  toAttributes,
  toMoment,
  toResolvedMoment,
  toSharePath,
  toTime,
} from "./common.ts";
import { buffer, defined, maybe, need, oneOf, safeNumber, WordCodec, wide } from "./values.ts";

/** What restore.proto has, both ways. */

const modes = new WordCodec("mode", { mirror: pb.RestoreMode.MIRROR, overlay: pb.RestoreMode.OVERLAY });

const actionKinds = new WordCodec("kind of action", {
  create: pb.PlanActionKind.CREATE,
  link: pb.PlanActionKind.LINK,
  change: pb.PlanActionKind.CHANGE,
  delete: pb.PlanActionKind.DELETE,
  replace: pb.PlanActionKind.REPLACE,
  share: pb.PlanActionKind.SHARE,
});

const restoreKinds = new WordCodec("kind of restore", { restore: pb.RestoreKind.RESTORE, undo: pb.RestoreKind.UNDO });

const restoreStates = new WordCodec("state of a restore", {
  running: pb.RestoreState.RUNNING,
  done: pb.RestoreState.DONE,
  interrupted: pb.RestoreState.INTERRUPTED,
  undone: pb.RestoreState.UNDONE,
});

const PARTS: readonly RestoredPart[] = ["content", "mode", "owner", "times", "xattrs", "target"];

export function fromTask(message: pb.RestoreTask | undefined): RestoreRequest {
  const { task } = need(message, "task");
  switch (task.case) {
    case "restore": {
      const { source, at, target, mode } = task.value;
      return defined({
        kind: "restore" as const,
        source: fromSharePath(source),
        at: fromMoment(at),
        target: maybe(target, fromSharePath),
        mode: modes.from(mode),
      });
    }
    case "undo":
      return defined({ kind: "undo" as const, app: fromAppRef(task.value.app), restoreId: task.value.restoreId });
    case undefined:
      throw new TidemarkError("INVALID_ARGUMENT", "the task is empty: expected restore or undo");
  }
}

export function toTask(request: RestoreRequest): MessageInitShape<typeof pb.RestoreTaskSchema> {
  if (request.kind === "undo")
    return { task: { case: "undo", value: { app: request.app, restoreId: request.restoreId } } };
  const { source, at, target, mode } = request;
  const value = {
    source: toSharePath(source),
    at: toMoment(at),
    target: maybe(target, toSharePath),
    mode: modes.to(mode),
  };
  return { task: { case: "restore", value } };
}

function fromAction(message: pb.PlanAction): PlanAction {
  return {
    kind: actionKinds.from(message.kind),
    share: fromShareName(message.share),
    path: buffer(message.path),
    attributes: fromAttributes(message.attributes),
    inoThen: fromIno(message.inoThen, "ino_then"),
    parts: message.parts.map((text) => oneOf(PARTS, text, "part")),
    otherNames: message.otherNames.map(buffer),
  };
}

function toAction(action: PlanAction): MessageInitShape<typeof pb.PlanActionSchema> {
  return {
    kind: actionKinds.to(action.kind),
    share: action.share,
    path: action.path,
    attributes: toAttributes(action.attributes),
    inoThen: wide(action.inoThen),
    parts: [...action.parts],
    otherNames: [...action.otherNames],
  };
}

/** One message may stand for actions or for the summary. */
export function fromPlanItem(message: pb.PlanResponse): PlanItem {
  if (message.summary !== undefined) return { kind: "summary", summary: fromSummary(message.summary) };
  return { kind: "actions", actions: message.actions.map(fromAction) };
}

export function toPlanItem(item: PlanItem): MessageInitShape<typeof pb.PlanResponseSchema> {
  return item.kind === "summary" ? { summary: toSummary(item.summary) } : { actions: item.actions.map(toAction) };
}

function fromSummary(message: pb.PlanSummary | undefined): PlanSummary {
  const { at, plannedAt, counts, restoredBytes, deletedBytes, limitations } = need(message, "summary");
  const { create, link, change, delete: deletions, replace, share } = need(counts, "counts");
  return {
    at: fromResolvedMoment(at),
    plannedAt: fromLsn(plannedAt, "planned_at"),
    counts: {
      create: safeNumber(create, "create"),
      link: safeNumber(link, "link"),
      change: safeNumber(change, "change"),
      delete: safeNumber(deletions, "delete"),
      replace: safeNumber(replace, "replace"),
      share: safeNumber(share, "share"),
    },
    restoredBytes,
    deletedBytes,
    limitations,
  };
}

function toSummary(summary: PlanSummary): MessageInitShape<typeof pb.PlanSummarySchema> {
  const { create, link, change, delete: deletions, replace, share } = summary.counts;
  return {
    at: toResolvedMoment(summary.at),
    plannedAt: wide(summary.plannedAt),
    counts: {
      create: wide(create),
      link: wide(link),
      change: wide(change),
      delete: wide(deletions),
      replace: wide(replace),
      share: wide(share),
    },
    restoredBytes: summary.restoredBytes,
    deletedBytes: summary.deletedBytes,
    limitations: [...summary.limitations],
  };
}

export function fromProgress({ event }: pb.ExecuteResponse): RestoreProgress {
  switch (event.case) {
    case "progress": {
      const { actionsDone, actionsTotal, path } = event.value;
      return defined({
        kind: "progress" as const,
        actionsDone: safeNumber(actionsDone, "actions_done"),
        actionsTotal: maybe(actionsTotal, (value) => safeNumber(value, "actions_total")),
        path: buffer(path),
      });
    }
    case "result":
      return { kind: "done", result: fromResult(event.value) };
    case undefined:
      throw new TidemarkError("INVALID_ARGUMENT", "the progress is empty");
  }
}

export function toProgress(progress: RestoreProgress): MessageInitShape<typeof pb.ExecuteResponseSchema> {
  if (progress.kind === "done") {
    const { firstLsn, lastLsn, summary, ...same } = progress.result;
    const value = { ...same, firstLsn: wide(firstLsn), lastLsn: wide(lastLsn), summary: toSummary(summary) };
    return { event: { case: "result", value } };
  }
  const { actionsDone, actionsTotal, path } = progress;
  return {
    event: {
      case: "progress",
      value: { actionsDone: wide(actionsDone), actionsTotal: maybe(actionsTotal, wide), path },
    },
  };
}

function fromResult(message: pb.ExecuteResult): RestoreResult {
  const { restoreId, snapshot, firstLsn, lastLsn, summary } = message;
  return defined({
    restoreId,
    snapshot,
    firstLsn: fromLsn(firstLsn, "first_lsn"),
    lastLsn: fromLsn(lastLsn, "last_lsn"),
    summary: fromSummary(summary),
  });
}

export function fromRestoreInfo(message: pb.RestoreInfo): RestoreInfo {
  return {
    id: message.id,
    kind: restoreKinds.from(message.kind),
    state: restoreStates.from(message.state),
    path: fromSharePath(message.path),
    at: fromResolvedMoment(message.at),
    startedAt: fromTime(message.startedAt, "started_at"),
    firstLsn: fromLsn(message.firstLsn, "first_lsn"),
    lastLsn: fromLsn(message.lastLsn, "last_lsn"),
    actor: fromActor(message.actor),
  };
}

export function toRestoreInfo(info: RestoreInfo): MessageInitShape<typeof pb.RestoreInfoSchema> {
  return {
    id: info.id,
    kind: restoreKinds.to(info.kind),
    state: restoreStates.to(info.state),
    path: toSharePath(info.path),
    at: toResolvedMoment(info.at),
    startedAt: toTime(info.startedAt),
    firstLsn: wide(info.firstLsn),
    lastLsn: wide(info.lastLsn),
    actor: info.actor,
  };
}
