import type { Command } from "commander";
import type { PurgePlan, PurgeRequest, PurgeResult } from "../../domain/admin-purge.ts";
import { textFromBytes } from "../../domain/byte-text.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { parseSharePath } from "../../domain/share-path.ts";
import { confirm } from "../confirm.ts";
import type { ExitName } from "../exit-codes.ts";
import { body, type CommandContext } from "../leaf.ts";
import { formatBytes, formatCount } from "../output/human.ts";
import type { Session } from "../session.ts";
import { fullName } from "./app-commands.ts";
import { needed } from "./arguments.ts";

type PurgeOptions = {
  readonly allHistory?: boolean;
  readonly reason?: string;
  readonly shared?: boolean;
  readonly liveToo?: boolean;
  readonly names?: boolean;
  readonly dryRun?: boolean;
  readonly yes?: boolean;
};

/** Files named in a line; --json has more. */
const NAMED_MAX = 5;

/** tidemark purge. */
export function addPurgeCommand(program: Command, context: CommandContext): void {
  body<PurgeOptions>(
    program
      .command("purge <path>")
      .description(
        "erase the content of a file, or of all that was ever below a directory, at all moments and for ever; shows the plan first",
      )
      .option("--all-history", "needed: there is no other kind")
      .option("--reason <text>", "needed: why; kept with the record of it")
      .option("--live-too", "delete files that are there now first")
      .option("--shared", "also bytes that other files share: theirs are gone too then")
      .option("--names", "not possible: names and attributes stay in history")
      .option("--dry-run", "only show the plan")
      .option("--yes", "do not ask"),
    context,
    purge,
  );
}

async function purge(
  session: Session,
  [path]: readonly string[],
  options: PurgeOptions,
): Promise<ExitName | undefined> {
  const reason = checked(options);
  const { purges } = await session.api();
  const request: PurgeRequest = {
    path: parseSharePath(needed(path)),
    shared: options.shared === true,
    liveToo: options.liveToo === true,
  };
  const plan = await purges.planPurge(request, session.callOptions);
  if (options.dryRun === true) {
    if (session.output.json) await session.output.value(plan);
    else for (const line of planLines(plan)) await session.output.line(line);
    return undefined;
  }
  for (const line of planLines(plan)) session.output.note(line);
  const question = "This content is erased for ever, from all moments. Go on?";
  const refused = isRefused(plan, request)
    ? undefined
    : await confirm(session, { question, yes: options.yes === true });
  if (refused !== undefined) return refused;
  const result = await purges.purge({ ...request, reason }, session.callOptions);
  await session.output.done(result, doneText(result));
  return undefined;
}

/** The reason. Throws INVALID_ARGUMENT for what is missing. */
function checked({ allHistory, reason, names, dryRun }: PurgeOptions): string {
  const refuse = (message: string): never => {
    throw new TidemarkError("INVALID_ARGUMENT", message);
  };
  if (names === true)
    refuse(
      "--names: names and attributes can't be erased: they are in the journal's chain, as are xattrs and the targets of symbolic links. Only the content of files can",
    );
  if (allHistory !== true)
    refuse(
      "say --all-history: content is erased from every moment, snapshots and backups included. To delete a file now and keep its past, use rm",
    );
  if (reason === undefined && dryRun !== true)
    refuse("say why: --reason TEXT. It is kept with the record, for as long as the app is");
  return reason ?? "";
}

/** What the service is going to refuse needs no question. */
function isRefused(plan: PurgePlan, { shared, liveToo }: PurgeRequest): boolean {
  return (plan.liveCount > 0 && !liveToo) || (plan.sharedCount > 0 && !shared);
}

function planLines(plan: PurgePlan): string[] {
  const { app, repository } = plan;
  const lines = [
    `App: ${fullName(app)}`,
    `Files that have or had the path: ${formatCount(plan.fileCount)} in ${formatCount(plan.versionCount)} states${named(plan.files, plan.fileCount)}`,
    `Bytes: ${formatBytes(plan.bytes)} in ${formatCount(plan.recordCount)} writes`,
  ];
  if (plan.liveCount > 0) lines.push(`There now: ${formatCount(plan.liveCount)}${named(plan.live, plan.liveCount)}`);
  if (plan.sharedCount > 0) {
    lines.push(`Other files that share bytes: ${formatCount(plan.sharedCount)}${named(plan.shared, plan.sharedCount)}`);
  }
  if (plan.snapshotCount > 0) {
    const more = plan.snapshotCount > NAMED_MAX ? ", …" : "";
    lines.push(
      `Snapshots they are in: ${formatCount(plan.snapshotCount)} (${plan.snapshots.slice(0, NAMED_MAX).join(", ")}${more})`,
    );
  }
  if (repository !== undefined)
    lines.push(`Repository: ${repository.name}${repository.hasIt ? "" : " (nothing of it there yet)"}`);
  return lines;
}

function named(files: readonly { readonly path: Buffer }[], count: number): string {
  if (files.length === 0) return "";
  const shown = files.slice(0, NAMED_MAX).map(({ path }) => textFromBytes(path));
  return `: ${shown.join(", ")}${count > shown.length ? ", …" : ""}`;
}

function doneText({ plan, lsn, openCount }: PurgeResult): string {
  const { app, repository } = plan;
  const first =
    lsn === undefined
      ? "All of it was erased before."
      : `Erased: ${formatBytes(plan.bytes)} of ${formatCount(plan.fileCount)} files, recorded as LSN ${formatCount(lsn)}.`;
  const open =
    openCount > 0
      ? ` ${formatCount(openCount)} of them are held open: what is written to them from now on is not erased.`
      : "";
  if (repository === undefined) return first + open;
  return `${first}${open} Repository ${repository.name} is told with the next backup (\`tidemark backup now ${fullName(app)}\`), refuses the bytes from then on, and loses them with \`tidemark repo prune\` when the grace is over (a versioned bucket when it drops old versions).`;
}
