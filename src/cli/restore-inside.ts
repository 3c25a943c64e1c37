import { unreachable } from "../base/assert.ts";
import type { PlanAction, PlanSummary, RestoreRequest, RestoreResult } from "../domain/admin-restore.ts";
import { textFromBytes } from "../domain/byte-text.ts";
import { TidemarkError } from "../domain/errors.ts";
import { formatAppRef } from "../domain/share-path.ts";
import { AMBIGUOUS_NOTE, describeMoment } from "./commands/mount-commands.ts";
import { confirm } from "./confirm.ts";
import type { ExitName } from "./exit-codes.ts";
import { formatBytes, formatCount, plural } from "./output/human.ts";
import type { Style } from "./output/output.ts";
import { ProgressBar } from "./output/progress-bar.ts";
import type { Session } from "./session.ts";

/** Actions shown before the question: what a person can look over. `--dry-run` shows all. */
const ACTIONS_SHOWN_MAX = 60;

export type InsideTask = { readonly request: RestoreRequest; readonly dryRun: boolean; readonly yes: boolean };

/** Restores (or undoes) inside shares: plan, show, ask, execute. */
export async function restoreInside(
  session: Session,
  { request, dryRun, yes }: InsideTask,
): Promise<ExitName | undefined> {
  const summary = await showPlan(session, request, { all: dryRun });
  if (summary.at.ambiguous) session.output.note(AMBIGUOUS_NOTE);
  if (actionCount(summary) === 0) {
    if (!session.output.json) await session.output.line("Nothing differs: there is nothing to do.");
    return undefined;
  }
  if (dryRun) return undefined;
  const refused = await confirm(session, { question: "Go on?", yes });
  if (refused !== undefined) return refused;
  const result = await execute(session, request, actionCount(summary));
  await showResult(session, { result, planned: summary, request });
  return undefined;
}

function actionCount(summary: PlanSummary): number {
  return Object.values(summary.counts).reduce((sum, count) => sum + count, 0);
}

async function showPlan(session: Session, request: RestoreRequest, { all }: { all: boolean }): Promise<PlanSummary> {
  const { output } = session;
  let shown = 0;
  for await (const item of (await session.api()).restores.plan(request, session.callOptions)) {
    if (item.kind === "summary") {
      const hidden = actionCount(item.summary) - shown;
      if (hidden > 0 && !output.json)
        await output.line(`  ... and ${plural(hidden, "more change")} (--dry-run shows all)`);
      await showSummary(session, item.summary);
      return item.summary;
    }
    for (const action of item.actions) {
      if (!all && shown >= ACTIONS_SHOWN_MAX) break;
      shown += 1;
      await showAction(session, action);
    }
  }
  throw new TidemarkError("INTERNAL", "the plan ended without its summary");
}

async function showAction({ output }: Session, action: PlanAction): Promise<void> {
  if (output.json) {
    await output.value({ event: "action", ...action });
    return;
  }
  const { sign, style } = SIGNS[action.kind];
  const path = action.path.length === 0 ? action.share.name : `${action.share.name}/${textFromBytes(action.path)}`;
  const others = action.otherNames.map(textFromBytes).join(", ");
  const also = others === "" ? "" : `  also at ${others}`;
  await output.line(`  ${output.style(style, sign)} ${path}  ${output.style("dim", describeAction(action))}${also}`);
}

const SIGNS: Readonly<Record<PlanAction["kind"], { sign: string; style: Style }>> = {
  create: { sign: "+", style: "green" },
  link: { sign: "+", style: "green" },
  change: { sign: "~", style: "yellow" },
  delete: { sign: "-", style: "red" },
  replace: { sign: "!", style: "yellow" },
  share: { sign: "+", style: "green" },
};

function describeAction({ kind, parts, attributes, path }: PlanAction): string {
  switch (kind) {
    case "create":
      return formatBytes(attributes.size);
    case "link":
      return "a name of a file that is still there";
    case "change":
      return parts.join(", ");
    case "delete":
      return path.length === 0 ? "delete the share" : `delete, ${formatBytes(attributes.size)}`;
    case "replace":
      return `replace by what was there, ${formatBytes(attributes.size)}`;
    case "share":
      return "the share";
    default:
      return unreachable(kind);
  }
}

async function showSummary(session: Session, summary: PlanSummary): Promise<void> {
  const { output } = session;
  if (output.json) {
    await output.value({ event: "plan", summary });
    return;
  }
  const { counts } = summary;
  const words: [number, string][] = [
    [counts.share, counts.share === 1 ? "share back" : "shares back"],
    [counts.create, "to create"],
    [counts.link, counts.link === 1 ? "name back" : "names back"],
    [counts.change, "to change"],
    [counts.replace, "to replace"],
    [counts.delete, "to delete"],
  ];
  const said = words.filter(([count]) => count > 0).map(([count, text]) => `${formatCount(count)} ${text}`);
  await output.line(
    `As of ${describeMoment(session, summary.at)}: ${said.length === 0 ? "no changes" : said.join(", ")}.`,
  );
  if (summary.restoredBytes > 0n || summary.deletedBytes > 0n) {
    await output.line(`${formatBytes(summary.restoredBytes)} come back, ${formatBytes(summary.deletedBytes)} go.`);
  }
  for (const limitation of summary.limitations) await output.line(`Note: ${limitation}.`);
}

async function execute(session: Session, request: RestoreRequest, expected: number): Promise<RestoreResult> {
  const { output, environment } = session;
  const bar = new ProgressBar({ output, clock: environment.clock });
  try {
    for await (const event of (await session.api()).restores.execute(request, session.callOptions)) {
      if (event.kind === "done") return event.result;
      if (output.json) await output.value({ event: "progress", ...event });
      const { actionsDone, actionsTotal = expected, path } = event;
      const fraction = actionsTotal === 0 ? undefined : actionsDone / actionsTotal;
      bar.update({
        fraction,
        text: `${formatCount(actionsDone)} of ${formatCount(actionsTotal)}  ${textFromBytes(path)}`,
      });
    }
    throw new TidemarkError("INTERNAL", "the restore ended without its result");
  } finally {
    bar.clear();
  }
}

async function showResult(
  session: Session,
  { result, planned, request }: { result: RestoreResult; planned: PlanSummary; request: RestoreRequest },
): Promise<void> {
  const { output } = session;
  if (output.json) {
    await output.value({ event: "done", ...result });
    return;
  }
  const what = request.kind === "undo" ? "Undone" : "Restored";
  await output.line(
    `${what}: ${plural(actionCount(result.summary), "change")}, lsn:${result.firstLsn} to lsn:${result.lastLsn}.`,
  );
  // The plan is made afresh when it is executed: what others did in between is part of it.
  if (result.summary.counts.delete > planned.counts.delete) {
    const more = result.summary.counts.delete - planned.counts.delete;
    output.note(
      `note: ${plural(more, "file")} that came after the plan was shown went too; the snapshot below has them`,
    );
  }
  if (result.snapshot !== undefined) await output.line(`What was there before is the snapshot ${result.snapshot}.`);
  const app = request.kind === "undo" ? request.app : (request.target ?? request.source).app;
  await output.line(`To take it back: tidemark undo ${formatAppRef(app)} --restore ${result.restoreId}`);
}
