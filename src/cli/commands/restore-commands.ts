import type { Command } from "commander";
import type { RestoreInfo } from "../../domain/admin-restore.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { formatUtcTime } from "../../domain/moment.ts";
import { formatSharePath, parseAppRef, parseSharePath, type SharePath } from "../../domain/share-path.ts";
import type { ExitName } from "../exit-codes.ts";
import { body, type CommandContext } from "../leaf.ts";
import { formatActor } from "../output/human.ts";
import type { Column } from "../output/output.ts";
import { restoreInside } from "../restore-inside.ts";
import type { Session } from "../session.ts";
import { needed, parseCount } from "./arguments.ts";
import { describeMoment } from "./mount-commands.ts";

type RestoreOptions = {
  readonly at: string;
  readonly to?: string;
  readonly keepNewer?: boolean;
  readonly dryRun?: boolean;
  readonly yes?: boolean;
  readonly force?: boolean;
};

type UndoOptions = {
  readonly restore?: string;
  readonly list?: boolean;
  readonly limit: string;
  readonly dryRun?: boolean;
  readonly yes?: boolean;
};

/** tidemark restore and undo. */
export function addRestoreCommands(program: Command, context: CommandContext): void {
  body<RestoreOptions>(
    program
      .command("restore <path>")
      .description("put a file, a directory, a share or a whole app back as it was; shows the plan first")
      .requiredOption("--at <moment>", "as it was then")
      .option("--to <place>", "elsewhere: app/share/path, or a path of this machine starting with / or ./")
      .option("--keep-newer", "keep what came since instead of deleting it")
      .option("--dry-run", "only show the plan")
      .option("--yes", "do not ask")
      .option("--force", "with a --to on this machine: replace files that are there"),
    context,
    restore,
    "restore",
  );
  body<UndoOptions>(
    program
      .command("undo <app>")
      .description("take the newest restore of an app back, or the one named")
      .option("--restore <id>", "that restore instead of the newest")
      .option("--list", "list restores")
      .option("--limit <count>", "with --list: at most so many", "20")
      .option("--dry-run", "only show the plan")
      .option("--yes", "do not ask"),
    context,
    undo,
    "restore",
  );
}

async function restore(
  session: Session,
  [path]: readonly string[],
  options: RestoreOptions,
): Promise<ExitName | undefined> {
  const at = session.moment(options.at);
  const dryRun = options.dryRun === true;
  const yes = options.yes === true;
  if (options.to !== undefined && isMachinePath(options.to)) {
    // Loaded only here: it brings koffi.
    const { restoreOutside } = await import("../outside/restore-outside.ts");
    const target = session.machinePath(options.to);
    const source = parseSharePath(needed(path));
    if (source.share === undefined) throw wholeAppElsewhere(needed(path));
    if (options.keepNewer === true) {
      const message =
        "--keep-newer is for restores inside shares; with a --to on this machine --force decides what is replaced";
      throw new TidemarkError("INVALID_ARGUMENT", message);
    }
    return restoreOutside(session, {
      source,
      at,
      target,
      dryRun,
      yes,
      force: options.force === true,
    });
  }
  if (options.force === true) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      "--force is for a --to on this machine; inside shares the plan says what is replaced",
    );
  }
  const mode = options.keepNewer === true ? "overlay" : "mirror";
  const source = parseSharePath(needed(path));
  if (source.share === undefined && options.to !== undefined) throw wholeAppElsewhere(needed(path));
  const target = options.to === undefined ? {} : { target: insideTarget(options.to) };
  return restoreInside(session, { request: { kind: "restore", source, at, ...target, mode }, dryRun, yes });
}

function insideTarget(to: string): SharePath {
  const target = parseSharePath(to);
  if (target.share !== undefined) return target;
  const message = `--to "${to}" names an app only: expected app/share/path, or a path of this machine, as ./${to}`;
  throw new TidemarkError("INVALID_ARGUMENT", message);
}

function wholeAppElsewhere(app: string): TidemarkError {
  const message = `a whole app goes back in place only: with --to, restore its shares one by one, as ${app}/SHARE`;
  return new TidemarkError("INVALID_ARGUMENT", message);
}

/** A path of this machine starts with "/", or with "." so that it can't be an app. */
export function isMachinePath(text: string): boolean {
  return /^(\/|\.\.?(\/|$))/.test(text);
}

async function undo(session: Session, [app]: readonly string[], options: UndoOptions): Promise<ExitName | undefined> {
  const ref = parseAppRef(needed(app));
  if (options.list === true)
    return listRestores(session, { app: ref, countMax: parseCount("--limit", options.limit, 1) });
  const chosen = options.restore === undefined ? {} : { restoreId: options.restore };
  const request = { kind: "undo", app: ref, ...chosen } as const;
  return restoreInside(session, { request, dryRun: options.dryRun === true, yes: options.yes === true });
}

async function listRestores(
  session: Session,
  request: { app: ReturnType<typeof parseAppRef>; countMax: number },
): Promise<undefined> {
  const restores = await (await session.api()).restores.listRestores(request, session.callOptions);
  const columns: Column<RestoreInfo>[] = [
    { title: "RESTORE", human: (each) => each.id, style: () => "bold" },
    { title: "STARTED", human: (each) => session.time(each.startedAt), plain: (each) => formatUtcTime(each.startedAt) },
    { title: "KIND", human: (each) => each.kind },
    {
      title: "STATE",
      human: (each) => each.state,
      style: (each) => (each.state === "interrupted" ? "yellow" : undefined),
    },
    { title: "AS OF", human: (each) => describeMoment(session, each.at), plain: (each) => `lsn:${each.at.lsn}` },
    { title: "BY", human: (each) => formatActor(each.actor) },
    { title: "PATH", human: (each) => formatSharePath(each.path) },
  ];
  const pages = (async function* () {
    yield restores;
  })();
  const json = (each: RestoreInfo) => ({ ...each, path: formatSharePath(each.path) });
  await session.output.list(columns, pages, { empty: "There was no restore.", json });
  return undefined;
}
