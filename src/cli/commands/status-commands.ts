import type { Command } from "commander";
import type { AppStatus, ServiceStatus } from "../../domain/admin-status.ts";
import { body, type CommandContext } from "../leaf.ts";
import { formatBytes, formatCount, formatDuration, plural } from "../output/human.ts";
import type { Column } from "../output/output.ts";
import type { Session } from "../session.ts";
import { fullName } from "./app-commands.ts";
import { backupColumns } from "./backup-commands.ts";
import { mountColumns } from "./mount-commands.ts";

/** tidemark status. */
export function addStatusCommands(program: Command, context: CommandContext): void {
  body<{ all?: boolean }>(
    program
      .command("status")
      .description("how the service, its apps and its mounts are doing")
      .option("--all", "deleted apps too"),
    context,
    async (session, _, options) => {
      const withDeleted = options.all === true;
      if (session.output.json) await statusJson(session, withDeleted);
      else await statusText(session, withDeleted);
      return undefined;
    },
  );
}

/** One JSON value. The lists in it are as long as the catalogue, which the service bounds. */
async function statusJson(session: Session, withDeleted: boolean): Promise<void> {
  const api = await session.api();
  const service = await api.status.serviceStatus(session.callOptions);
  const apps = await all(api.status.appStatus({ withDeleted }, session.callOptions));
  const mounts = await all(api.mounts.listMounts(session.callOptions));
  const backups = await all(api.backups.backupStatus({}, session.callOptions));
  await session.output.value({ service, apps, mounts, backups });
}

async function all<T>(pages: AsyncIterable<readonly T[]>): Promise<T[]> {
  const items: T[] = [];
  for await (const page of pages) items.push(...page);
  return items;
}

async function statusText(session: Session, withDeleted: boolean): Promise<void> {
  const api = await session.api();
  const { output } = session;
  const service = await api.status.serviceStatus(session.callOptions);
  for (const line of serviceLines(session, service)) await output.line(line);
  await output.line("");
  const apps = api.status.appStatus({ withDeleted }, session.callOptions);
  const archived: AppStatus[] = [];
  await output.table(appColumns(), notingArchived(apps, archived), {
    empty: "No apps yet. Make one: tidemark app create NAME",
  });
  for (const status of archived) for (const line of archiveLines(session, status)) await output.line(line);
  await output.line("");
  await output.table(mountColumns(session), api.mounts.listMounts(session.callOptions), {
    empty: "Nothing is mounted.",
  });
  await output.line("");
  await output.table(backupColumns(session), api.backups.backupStatus({}, session.callOptions), {
    empty: "Nothing is backed up. Begin: tidemark repo init ADDRESS",
  });
  for (const alarm of service.alarms) {
    const where = alarm.app === "" ? "" : ` ${alarm.app}:`;
    await output.line(output.style("red", `ALARM ${session.time(alarm.time)} ${alarm.code}${where} ${alarm.message}`));
  }
}

/** Passes the apps on, and notes those that are partly in a repository. */
async function* notingArchived(
  pages: AsyncIterable<readonly AppStatus[]>,
  archived: AppStatus[],
): AsyncGenerator<readonly AppStatus[]> {
  for await (const page of pages) {
    for (const status of page) if (status.archive !== undefined && archived.length < LINES_MAX) archived.push(status);
    yield page;
  }
}

/** As many apps as one looks at. */
const LINES_MAX = 100;

function archiveLines(session: Session, { app, archive }: AppStatus): string[] {
  if (archive === undefined) return [];
  const { description, lastLsn, isHydrated, bytesDone, damagedBytes, waitsFor } = archive;
  const name = fullName(app);
  const records = `records up to lsn:${lastLsn} are only in ${description}`;
  const lines = [
    isHydrated
      ? `${name}: recovered; ${records}`
      : `${name}: recovered; its data are being brought in, ${formatBytes(bytesDone)} so far, and read from there until then; ${records}`,
  ];
  if (waitsFor !== undefined) lines.push(session.output.style("yellow", `${name}: waits to go on: ${waitsFor}`));
  if (damagedBytes > 0n)
    lines.push(
      session.output.style(
        "red",
        `${name}: ${formatBytes(damagedBytes)} are damaged in ${description}: reading them is EIO`,
      ),
    );
  return lines;
}

function serviceLines(session: Session, service: ServiceStatus): string[] {
  const { supervisor, disk } = service;
  const upSeconds = session.environment.clock.now().sec - service.startedAt.sec;
  const running = `running for ${formatDuration(Math.max(0, upSeconds))}, pid ${service.pid}, ${formatBytes(service.memoryBytes)} of memory`;
  const lines = [
    `${session.output.style("bold", `Tidemark ${service.version}`)}  ${running}`,
    `data        ${service.dataFolder}, ${formatBytes(disk.freeBytes)} of ${formatBytes(disk.totalBytes)} free, history up to ${formatBytes(service.historyBytesMax)}`,
    `supervisor  ${supervisorText(session, supervisor)}`,
  ];
  if (service.listening.length > 0) lines.push(`nodes       ${service.listening.join(", ")} (tidemark node list)`);
  if (!service.canMount)
    lines.push(`mounts      ${session.output.style("yellow", `not possible: ${service.mountsMessage}`)}`);
  return lines;
}

function supervisorText(session: Session, supervisor: ServiceStatus["supervisor"]): string {
  switch (supervisor.state) {
    case "none":
      return "none: mounts break when the service ends";
    case "lost":
      return session.output.style(
        "red",
        "lost: mounts would break if the service crashed now; restart it when you can",
      );
    case "running": {
      const kernel = supervisor.kernelResends
        ? "open files survive a crash of the service"
        : "this kernel does not deliver requests again: mounts are made anew after a crash of the service";
      return `pid ${supervisor.pid}, ${plural(supervisor.restartCount, "restart")} of the service; ${kernel}`;
    }
  }
}

function appColumns(): Column<AppStatus>[] {
  const bytes = (title: string, of: (status: AppStatus) => bigint): Column<AppStatus> => ({
    title,
    align: "right",
    human: (status) => formatBytes(of(status)),
    plain: (status) => String(of(status)),
  });
  return [
    {
      title: "APP",
      human: ({ app }) => fullName(app) + (app.deletedAt === undefined ? "" : " (deleted)"),
      style: () => "bold",
    },
    { title: "SHARES", align: "right", human: ({ app }) => formatCount(app.shareCount) },
    { title: "FILES", align: "right", human: (status) => formatCount(status.inodeCount) },
    {
      title: "LSN",
      align: "right",
      human: (status) => formatCount(status.lastLsn),
      plain: (status) => String(status.lastLsn),
    },
    { title: "NOT SYNCED", align: "right", human: (status) => formatCount(status.lastLsn - status.durableLsn) },
    { title: "NOT APPLIED", align: "right", human: (status) => formatCount(status.lastLsn - status.appliedLsn) },
    bytes("LIVE", (status) => status.liveBytes),
    bytes("HISTORY", (status) => status.historyBytes),
    bytes("RECLAIMABLE", (status) => status.reclaimableBytes),
    {
      title: "STALLS",
      align: "right",
      human: (status) => stalls(status),
      plain: (status) => String(status.stallCount),
    },
    {
      title: "JOURNAL",
      human: (status) => status.journalState,
      style: (status) => (status.journalState === "failed" ? "red" : undefined),
    },
  ];
}

function stalls({ stallCount, stallMs }: AppStatus): string {
  return stallCount === 0 ? "0" : `${formatCount(stallCount)} (${(stallMs / 1000).toFixed(1)} s)`;
}
