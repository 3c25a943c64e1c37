import type { Command } from "commander";
import {
  BACKUP_EVERY_MS_MAX,
  BACKUP_EVERY_MS_MIN,
  type BacklogPolicy,
  type BackupState,
  type BackupStatus,
} from "../../domain/admin-backup.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { formatUtcTime } from "../../domain/moment.ts";
import { parseAppRef } from "../../domain/share-path.ts";
import type { ExitName } from "../exit-codes.ts";
import { body, type CommandContext } from "../leaf.ts";
import { formatBytes, formatCount } from "../output/human.ts";
import type { Column, Style } from "../output/output.ts";
import { ProgressBar } from "../output/progress-bar.ts";
import type { Session } from "../session.ts";
import { fullName } from "./app-commands.ts";
import { needed, parseSpan } from "./arguments.ts";
import type { RepairOptions } from "./backup-repair.ts";
import { describeMoment } from "./mount-commands.ts";

type EnableOptions = { readonly repo?: string; readonly every: string; readonly onBacklog: string };

const POLICIES: readonly BacklogPolicy[] = ["serve", "stop"];

/** tidemark backup ... */
export function addBackupCommands(program: Command, context: CommandContext): void {
  const backup = program.command("backup").description("ship apps to a repository, continuously");
  body<EnableOptions>(
    backup
      .command("enable <app>")
      .description("ship an app from now on, also after a restart; again: change how")
      .option("--repo <name>", "which repository the service ships to (default: the only one it knows)")
      .option("--every <span>", "ship a change at most so long after it is durable, e.g. 500ms, 5s, 1m", "5s")
      .option(
        "--on-backlog <policy>",
        "when the repository is away so long that local history is full: serve (and alarm), or stop (refuse writes)",
        "serve",
      ),
    context,
    enable,
    "admin",
  );
  body(
    backup.command("disable <app>").description("stop shipping an app; what is in the repository stays there"),
    context,
    async (session, [app]) => {
      const request = { app: parseAppRef(needed(app)) };
      const was = await (await session.api()).backups.disableBackup(request, session.callOptions);
      await session.output.done(
        was,
        `App ${fullName(was.app)} is not backed up any more. ${protectedText(session, was)}`,
      );
    },
    "admin",
  );
  body(
    backup.command("now <app>").description("ship what there is and wait until it is durable in the repository"),
    context,
    now,
    "admin",
  );
  body<RepairOptions>(
    backup
      .command("repair <app>")
      .description("check an app in its repository, and store anew what is damaged there, from the live app")
      .option("--read-data [part]", "read the data too, all of it or a part, e.g. 10%")
      .option("--yes", "do not ask"),
    context,
    async (...call) => (await import("./backup-repair.ts")).repairBackup(...call),
  );
  body(
    backup.command("status [app]").description("how far each app is protected, and what is not yet"),
    context,
    async (session, [app]) => {
      const request = app === undefined ? {} : { app: parseAppRef(app) };
      const pages = (await session.api()).backups.backupStatus(request, session.callOptions);
      const empty = "Nothing is backed up. Begin: tidemark backup enable APP --repo NAME";
      await session.output.list(backupColumns(session), pages, { empty });
    },
    "admin",
  );
}

async function enable(
  session: Session,
  [app]: readonly string[],
  options: EnableOptions,
): Promise<ExitName | undefined> {
  const onBacklog = POLICIES.find((policy) => policy === options.onBacklog);
  if (onBacklog === undefined)
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `--on-backlog "${options.onBacklog}": expected ${POLICIES.join(" or ")}`,
    );
  const everyMs = parseSpan("--every", options.every, { leastMs: BACKUP_EVERY_MS_MIN, mostMs: BACKUP_EVERY_MS_MAX });
  const api = await session.api();
  const repository = options.repo ?? (await onlyRepository(session));
  const request = { app: parseAppRef(needed(app)), repository, everyMs, onBacklog };
  const status = await api.backups.enableBackup(request, session.callOptions);
  const every = `${fullName(status.app)} is backed up to ${status.repository} every ${formatSpan(status.everyMs)}`;
  await session.output.done(status, `App ${every}. See: tidemark backup status`);
  const { state, message } = status;
  const how = state === "failed" ? "has failed" : `is ${state}`;
  if (message !== undefined) session.output.note(`note: the backup ${how}: ${message}`);
  return state === "failed" || state === "fenced" ? "CONFLICT" : undefined;
}

async function onlyRepository(session: Session): Promise<string> {
  const names: string[] = [];
  for await (const page of (await session.api()).backups.listRepositories(session.callOptions))
    names.push(...page.map(({ name }) => name));
  const [name, ...others] = names;
  if (name === undefined)
    throw new TidemarkError(
      "FAILED_PRECONDITION",
      "the service knows no repository: make one with `tidemark repo init`",
    );
  if (others.length === 0) return name;
  throw new TidemarkError("INVALID_ARGUMENT", `to which repository? --repo ${names.join(" or --repo ")}`);
}

async function now(session: Session, [app]: readonly string[]): Promise<undefined> {
  const { output, environment } = session;
  const bar = new ProgressBar({ output, clock: environment.clock });
  const request = { app: parseAppRef(needed(app)) };
  let first: bigint | undefined;
  try {
    for await (const event of (await session.api()).backups.backupNow(request, session.callOptions)) {
      if (output.json) await output.value({ event: event.kind, ...(event.kind === "done" ? event.status : event) });
      if (event.kind === "done") {
        bar.clear();
        if (!output.json) await output.line(`${fullName(event.status.app)}: ${protectedText(session, event.status)}`);
        return undefined;
      }
      first ??= event.unprotectedBytes;
      const fraction = first === 0n ? undefined : Math.max(0, 1 - Number(event.unprotectedBytes) / Number(first));
      bar.update({ fraction, text: `${formatBytes(event.unprotectedBytes)} to go` });
    }
    throw new TidemarkError("INTERNAL", "the backup ended without its result");
  } finally {
    bar.clear();
  }
}

function protectedText(session: Session, status: BackupStatus): string {
  if (status.protected === undefined)
    return isUnknown(status)
      ? "How far it is protected isn't known here: tidemark repo apps tells."
      : "Nothing of it is protected.";
  return `Protected up to ${describeMoment(session, status.protected)}.`;
}

/** Whether the repository could not be asked how far the app is protected. */
function isUnknown({ state, protected: reached }: BackupStatus): boolean {
  return reached === undefined && (state === "failed" || state === "fenced" || state === "retrying");
}

/** The columns of a list of backups, which `status` shows too. */
export function backupColumns(session: Session): Column<BackupStatus>[] {
  return [
    { title: "APP", human: ({ app }) => fullName(app), style: () => "bold" },
    { title: "REPOSITORY", human: ({ repository }) => repository },
    {
      title: "EVERY",
      align: "right",
      human: (each) => formatSpan(each.everyMs),
      plain: (each) => String(each.everyMs),
    },
    { title: "STATE", human: ({ state }) => state, style: ({ state }) => STYLES[state] },
    {
      title: "PROTECTED UP TO",
      human: (each) => {
        if (each.protected !== undefined) return session.time(each.protected.time);
        return isUnknown(each) ? "not known here" : "nothing yet";
      },
      plain: (each) => (each.protected === undefined ? "" : formatUtcTime(each.protected.time)),
    },
    {
      title: "LSN",
      align: "right",
      human: (each) => `${formatCount(each.protected?.lsn ?? 0)} of ${formatCount(each.lastLsn)}`,
      plain: (each) => String(each.protected?.lsn ?? 0),
    },
    { title: "LAG", align: "right", human: (each) => formatSpan(each.lagMs), plain: (each) => String(each.lagMs) },
    {
      title: "NOT PROTECTED",
      align: "right",
      human: (each) => formatBytes(each.unprotectedBytes),
      plain: (each) => String(each.unprotectedBytes),
    },
    {
      title: "SENT",
      align: "right",
      human: (each) => formatBytes(each.sentBytes),
      plain: (each) => String(each.sentBytes),
    },
    { title: "", human: remarks },
  ];
}

function remarks({ message, waitingOrder }: BackupStatus): string {
  const order = waitingOrder === undefined ? "" : `the order to erase of LSN ${formatCount(waitingOrder)} waits for it`;
  return [message ?? "", order].filter((text) => text !== "").join("; ");
}

const STYLES: Readonly<Record<BackupState, Style>> = {
  starting: "yellow",
  idle: "green",
  shipping: "green",
  retrying: "yellow",
  stopped: "red",
  fenced: "red",
  failed: "red",
};

/** A span for people: "500 ms", "5 s", "12 min", "3.5 h". */
function formatSpan(ms: number): string {
  if (ms > 0 && ms < 1000) return `${Math.round(ms)} ms`;
  const [value, unit] = ms < 120_000 ? [ms / 1000, "s"] : ms < 7_200_000 ? [ms / 60_000, "min"] : [ms / 3_600_000, "h"];
  return `${Number(value.toFixed(1))} ${unit}`;
}
