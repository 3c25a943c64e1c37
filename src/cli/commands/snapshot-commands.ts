import type { Command } from "commander";
import type { SnapshotInfo } from "../../domain/admin-catalogue.ts";
import { formatUtcTime, parseMoment } from "../../domain/moment.ts";
import { parseAppRef } from "../../domain/share-path.ts";
import { body, type CommandContext } from "../leaf.ts";
import type { Column } from "../output/output.ts";
import type { Session } from "../session.ts";
import { needed } from "./arguments.ts";

/** tidemark snapshot ... */
export function addSnapshotCommands(program: Command, context: CommandContext): void {
  const snapshot = program.command("snapshot").description("name moments of an app and keep them");
  body<{ sync?: boolean }>(
    snapshot
      .command("create <app> <name>")
      .description("name the present; costs the same for any amount of data")
      .option("--sync", "first write back memory-mapped pages of its mounts"),
    context,
    async (session, [app, name], options) => {
      const request = { app: parseAppRef(needed(app)), name: needed(name), syncMounts: options.sync === true };
      const made = await (await session.api()).snapshots.createSnapshot(request, session.callOptions);
      await session.output.done(
        made,
        `Snapshot ${made.name} is lsn:${made.lsn}. Read it with --at ${momentOf(session, made.name)}`,
      );
      return undefined;
    },
    "snapshot",
  );
  body(
    snapshot.command("list <app>").description("list the snapshots of an app, oldest first"),
    context,
    async (session, [app]) => {
      const pages = (await session.api()).snapshots.listSnapshots(
        { app: parseAppRef(needed(app)) },
        session.callOptions,
      );
      const columns: Column<SnapshotInfo>[] = [
        { title: "SNAPSHOT", human: (each) => each.name, style: () => "bold" },
        { title: "TIME", human: (each) => session.time(each.time), plain: (each) => formatUtcTime(each.time) },
        { title: "LSN", align: "right", human: (each) => String(each.lsn) },
        { title: "MADE BY", human: (each) => (each.automatic ? "restore" : "you") },
      ];
      await session.output.list(columns, pages, {
        empty: `No snapshots yet. Make one: tidemark snapshot create ${app} NAME`,
      });
      return undefined;
    },
    "snapshot",
  );
  body(
    snapshot
      .command("delete <app> <name>")
      .description("let a moment go; its history stays as long as retention keeps it"),
    context,
    async (session, [app, name]) => {
      const request = { app: parseAppRef(needed(app)), name: needed(name) };
      const gone = await (await session.api()).snapshots.deleteSnapshot(request, session.callOptions);
      await session.output.done(gone, `Deleted snapshot ${gone.name} (it was lsn:${gone.lsn}).`);
      return undefined;
    },
    "admin",
  );
}

/** How a snapshot is named as a moment: bare, unless that means something else. */
function momentOf({ environment }: Session, name: string): string {
  const { moment } = parseMoment(name, { now: environment.clock.now(), zone: environment.zone });
  return moment.kind === "snapshot" ? name : `snap:${name}`;
}
