import type { Command } from "commander";
import type { ShareInfo, ViewsOption } from "../../domain/admin-catalogue.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { formatUtcTime } from "../../domain/moment.ts";
import { parseAppRef } from "../../domain/share-path.ts";
import { body, type CommandContext } from "../leaf.ts";
import type { Column } from "../output/output.ts";
import type { Session } from "../session.ts";
import { deletedFilter, fullName, shortId } from "./app-commands.ts";
import { needed, parseShare } from "./arguments.ts";

const VIEWS: readonly ViewsOption[] = ["off", "root", "users"];
const VIEWS_HELP = "who may look into .tidemark at its root: off, root or users";

/** tidemark share ... */
export function addShareCommands(program: Command, context: CommandContext): void {
  const share = program.command("share").description("make, list, rename, delete and undelete shares");
  body<{ views: string }>(
    share.command("create <app/share>").description("make a share").option("--views <who>", VIEWS_HELP, "root"),
    context,
    async (session, [name], options) => {
      const { app, share: ref } = parseShare(needed(name));
      if (ref.id !== undefined) {
        throw new TidemarkError("INVALID_ARGUMENT", `a new share gets its own id: write it without "@${ref.id}"`);
      }
      const request = { app, name: ref.name, views: parseViews(options.views) };
      const made = await (await session.api()).catalogue.createShare(request, session.callOptions);
      await session.output.done(
        made,
        `Created share ${sharePath(made)}. Next: tidemark mount ${sharePath(made)} DIRECTORY`,
      );
    },
    "admin",
  );
  body<{ deleted?: boolean; all?: boolean }>(
    share
      .command("list [app]")
      .description("list the shares of one app, or of all")
      .option("--deleted", "the deleted ones instead")
      .option("--all", "the deleted ones too"),
    context,
    listShares,
    "admin",
  );
  addShareChanges(share, context);
}

function addShareChanges(share: Command, context: CommandContext): void {
  body(
    share.command("rename <app/share> <new-name>").description("rename a share"),
    context,
    async (session, [name, newName]) => {
      const request = { ...parseShare(needed(name)), name: needed(newName) };
      const renamed = await (await session.api()).catalogue.updateShare(request, session.callOptions);
      await session.output.done(renamed, `Share ${name} is called ${sharePath(renamed)} now.`);
    },
    "admin",
  );
  body<{ views: string }>(
    share
      .command("set <app/share>")
      .description("change options of a share")
      .requiredOption("--views <who>", VIEWS_HELP),
    context,
    async (session, [name], options) => {
      const request = { ...parseShare(needed(name)), views: parseViews(options.views) };
      const changed = await (await session.api()).catalogue.updateShare(request, session.callOptions);
      await session.output.done(changed, `Share ${sharePath(changed)} has views = ${changed.views}.`);
    },
    "admin",
  );
  body(
    share
      .command("delete <app/share>")
      .description("delete a share; it stays readable and restorable, and can be undeleted"),
    context,
    async (session, [name]) => {
      const request = parseShare(needed(name));
      const deleted = await (await session.api()).catalogue.deleteShare(request, session.callOptions);
      const back = `tidemark share undelete ${sharePath(deleted)}@${shortId(deleted.id)}`;
      await session.output.done(deleted, `Deleted share ${sharePath(deleted)}. To take it back: ${back}`);
    },
    "admin",
  );
  body<{ name?: string }>(
    share
      .command("undelete <app/share>")
      .description("take a deletion back; app/share@id when several deleted shares had the name")
      .option("--name <name>", "under another name"),
    context,
    async (session, [name], options) => {
      const ref = parseShare(needed(name));
      const request = options.name === undefined ? ref : { ...ref, name: options.name };
      const undeleted = await (await session.api()).catalogue.undeleteShare(request, session.callOptions);
      await session.output.done(undeleted, `Share ${sharePath(undeleted)} is back.`);
    },
    "admin",
  );
}

async function listShares(
  session: Session,
  [app]: readonly string[],
  options: { deleted?: boolean; all?: boolean },
): Promise<undefined> {
  const deleted = deletedFilter(options);
  const request = app === undefined ? { deleted } : { app: parseAppRef(app), deleted };
  const pages = (await session.api()).catalogue.listShares(request, session.callOptions);
  const columns: Column<ShareInfo>[] = [
    { title: "SHARE", human: sharePath, style: () => "bold" },
    { title: "VIEWS", human: (share) => share.views },
    {
      title: "CREATED",
      human: (share) => session.time(share.createdAt),
      plain: (share) => formatUtcTime(share.createdAt),
    },
    {
      title: "DELETED",
      human: ({ deletedAt }) => (deletedAt === undefined ? "" : session.time(deletedAt)),
      plain: ({ deletedAt }) => (deletedAt === undefined ? "" : formatUtcTime(deletedAt)),
    },
    { title: "ID", human: (share) => shortId(share.id), plain: (share) => share.id },
  ];
  const shown = deleted === "without" ? columns.filter((column) => column.title !== "DELETED") : columns;
  const empty = deleted === "only" ? "No deleted shares." : "No shares yet. Make one: tidemark share create APP/NAME";
  await session.output.list(shown, pages, { empty });
  return undefined;
}

function parseViews(text: string): ViewsOption {
  const views = VIEWS.find((word) => word === text);
  if (views === undefined)
    throw new TidemarkError("INVALID_ARGUMENT", `--views "${text}": expected ${VIEWS.join(", ")}`);
  return views;
}

/** `[namespace:]app/share` of a share in an answer. */
export function sharePath(share: {
  readonly name: string;
  readonly app: { readonly namespace: string; readonly name: string };
}): string {
  return `${fullName(share.app)}/${share.name}`;
}
