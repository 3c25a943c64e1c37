import type { Command } from "commander";
import type { AppInfo, DeletedFilter, Labels } from "../../domain/admin-catalogue.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { formatUtcTime } from "../../domain/moment.ts";
import { type AppRef, formatAppRef, NAMESPACE_DEFAULT, parseAppRef } from "../../domain/share-path.ts";
import { body, type CommandContext } from "../leaf.ts";
import { formatCount } from "../output/human.ts";
import type { Column } from "../output/output.ts";
import type { Session } from "../session.ts";
import { collect, first, needed } from "./arguments.ts";

type NameOptions = { readonly namespace?: string };
type ListOptions = NameOptions & {
  readonly label?: readonly string[];
  readonly deleted?: boolean;
  readonly all?: boolean;
};

/** tidemark app ... */
export function addAppCommands(program: Command, context: CommandContext): void {
  const app = program.command("app").description("make, list, rename, delete and undelete apps");
  body<NameOptions & { label?: readonly string[] }>(
    app
      .command("create <app>")
      .description("make an app, e.g. prod:shop")
      .option("--namespace <name>", "instead of writing namespace:app")
      .option("--label <name=value>", "label it; may be given several times", collect),
    context,
    async (session, [name], options) => {
      const { namespace, name: appName, id } = appArgument(needed(name), options.namespace);
      if (id !== undefined)
        throw new TidemarkError("INVALID_ARGUMENT", `a new app gets its own id: write it without "@${id}"`);
      const request = { namespace, name: appName, labels: parseLabels(options.label ?? []) };
      const made = await (await session.api()).catalogue.createApp(request, session.callOptions);
      await session.output.done(
        made,
        `Created app ${fullName(made)}. Next: tidemark share create ${fullName(made)}/NAME`,
      );
    },
  );
  body<ListOptions>(
    app
      .command("list")
      .description("list apps")
      .option("--namespace <name>", "only this namespace")
      .option("--label <name=value>", "only those with this label; may be given several times", collect)
      .option("--deleted", "the deleted ones instead")
      .option("--all", "the deleted ones too"),
    context,
    listApps,
  );
  addAppChanges(app, context);
}

function addAppChanges(app: Command, context: CommandContext): void {
  body(
    app.command("rename <app> <new-name>").description("rename an app"),
    context,
    async (session, [name, newName]) => {
      const app = parseAppRef(needed(name));
      const request = { app, name: newNameOf(app, needed(newName)) };
      const renamed = await (await session.api()).catalogue.updateApp(request, session.callOptions);
      await session.output.done(renamed, `App ${name} is called ${fullName(renamed)} now.`);
    },
  );
  body(
    app.command("label <app> <changes...>").description("change labels: name=value sets one, name- removes one"),
    context,
    async (session, [name, ...changes]) => {
      const changed = await changeLabels(session, parseAppRef(needed(name)), changes);
      await session.output.done(
        changed,
        `App ${fullName(changed)} has the labels ${formatLabels(changed.labels) || "(none)"}.`,
      );
    },
  );
  body(
    app.command("delete <app>").description("delete an app; it stays readable and restorable, and can be undeleted"),
    context,
    async (session, [name]) => {
      const request = { app: parseAppRef(needed(name)) };
      const deleted = await (await session.api()).catalogue.deleteApp(request, session.callOptions);
      const back = `tidemark app undelete ${fullName(deleted)}@${shortId(deleted.id)}`;
      await session.output.done(deleted, `Deleted app ${fullName(deleted)}. To take it back: ${back}`);
    },
  );
  body<{ name?: string }>(
    app
      .command("undelete <app>")
      .description("take a deletion back; app@id when several deleted apps had the name")
      .option("--name <name>", "under another name"),
    context,
    async (session, [name], options) => {
      const ref = parseAppRef(needed(name));
      const request = options.name === undefined ? { app: ref } : { app: ref, name: options.name };
      const undeleted = await (await session.api()).catalogue.undeleteApp(request, session.callOptions);
      await session.output.done(undeleted, `App ${fullName(undeleted)} is back.`);
    },
  );
}

/** The name alone, or with the namespace that the app is in. */
function newNameOf({ namespace }: AppRef, text: string): string {
  const prefix = `${namespace}:`;
  if (text.startsWith(prefix)) return text.slice(prefix.length);
  if (!text.includes(":")) return text;
  throw new TidemarkError("INVALID_ARGUMENT", `"${text}": expected the new name alone, without a namespace`);
}

async function listApps(session: Session, _: readonly string[], options: ListOptions): Promise<undefined> {
  const request = {
    ...(options.namespace === undefined ? {} : { namespace: options.namespace }),
    ...(options.label === undefined ? {} : { labels: parseLabels(options.label) }),
    deleted: deletedFilter(options),
  };
  const pages = (await session.api()).catalogue.listApps(request, session.callOptions);
  const columns: Column<AppInfo>[] = [
    { title: "APP", human: fullName, style: () => "bold" },
    { title: "SHARES", align: "right", human: (app) => formatCount(app.shareCount) },
    { title: "CREATED", human: (app) => session.time(app.createdAt), plain: (app) => formatUtcTime(app.createdAt) },
    {
      title: "DELETED",
      human: ({ deletedAt }) => (deletedAt === undefined ? "" : session.time(deletedAt)),
      plain: ({ deletedAt }) => (deletedAt === undefined ? "" : formatUtcTime(deletedAt)),
    },
    { title: "ID", human: (app) => shortId(app.id), plain: (app) => app.id },
    { title: "LABELS", human: (app) => formatLabels(app.labels) },
  ];
  const shown = request.deleted === "without" ? columns.filter((column) => column.title !== "DELETED") : columns;
  const empty = request.deleted === "only" ? "No deleted apps." : "No apps yet. Make one: tidemark app create NAME";
  await session.output.list(shown, pages, { empty });
  return undefined;
}

async function changeLabels(session: Session, app: AppRef, changes: readonly string[]): Promise<AppInfo> {
  const { catalogue } = await session.api();
  const labels: Record<string, string> = { ...(await findApp(session, app)).labels };
  for (const change of changes) {
    if (change.endsWith("-") && !change.includes("=")) delete labels[change.slice(0, -1)];
    else Object.assign(labels, parseLabels([change]));
  }
  return catalogue.updateApp({ app, labels }, session.callOptions);
}

async function findApp(session: Session, app: AppRef): Promise<AppInfo> {
  const { catalogue } = await session.api();
  const found = await first(
    catalogue.listApps({ namespace: app.namespace, deleted: "without" }, session.callOptions),
    (each) => each.name === app.name && (app.id === undefined || each.id.startsWith(app.id)),
  );
  if (found === undefined)
    throw new TidemarkError("NOT_FOUND", `there is no app "${formatAppRef(app)}": see \`tidemark app list\``, {
      data: { missing: "app" },
    });
  return found;
}

function appArgument(text: string, namespace: string | undefined): AppRef {
  if (namespace === undefined) return parseAppRef(text);
  if (text.includes(":"))
    throw new TidemarkError("INVALID_ARGUMENT", `"${text}" names a namespace already: leave out --namespace`);
  return parseAppRef(`${namespace}:${text}`);
}

/** Which of the deleted ones --deleted and --all ask for. */
export function deletedFilter(options: { readonly deleted?: boolean; readonly all?: boolean }): DeletedFilter {
  if (options.all === true) return "with";
  return options.deleted === true ? "only" : "without";
}

/** `name=value` pairs. Throws INVALID_ARGUMENT. */
export function parseLabels(pairs: readonly string[]): Labels {
  const labels: Record<string, string> = {};
  for (const pair of pairs) {
    const equals = pair.indexOf("=");
    if (equals < 1) throw new TidemarkError("INVALID_ARGUMENT", `"${pair}" is not a label: expected name=value`);
    labels[pair.slice(0, equals)] = pair.slice(equals + 1);
  }
  return labels;
}

function formatLabels(labels: Labels): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}=${value}`)
    .join(",");
}

/** `[namespace:]name` of an app in an answer. */
export function fullName(app: { readonly namespace: string; readonly name: string }): string {
  return app.namespace === NAMESPACE_DEFAULT ? app.name : `${app.namespace}:${app.name}`;
}

/** As much of an id as people copy: 48 bits. */
export function shortId(id: string): string {
  return id.slice(0, 12);
}
