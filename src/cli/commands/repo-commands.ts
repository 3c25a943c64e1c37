import type { Command } from "commander";
import type { RepositoryInfo } from "../../domain/admin-backup.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { formatUtcTime } from "../../domain/moment.ts";
import { parseSharePath } from "../../domain/share-path.ts";
import type { ExitName } from "../exit-codes.ts";
import { body, type CommandContext } from "../leaf.ts";
import { formatCount } from "../output/human.ts";
import type { Column } from "../output/output.ts";
import type { PruneCommandOptions } from "../repository/prune-repository.ts";
import type { RepoOptions } from "../repository/repo-options.ts";
import type { DescribedApp } from "../repository/repository-apps.ts";
import type { Session } from "../session.ts";
import { fullName, shortId } from "./app-commands.ts";
import { needed, parseCount } from "./arguments.ts";
import { addExportCommand } from "./export-commands.ts";
import { addHistoryCommands } from "./history-commands.ts";
import { addReadingCommands } from "./reading-commands.ts";
import { isMachinePath } from "./restore-commands.ts";
import { addPolicyOptions } from "./retention-commands.ts";

/** tidemark repo ... What works on the repository itself is loaded when it is wanted: it takes longer than most commands. */
export function addRepoCommands(program: Command, context: CommandContext): void {
  const repo = program
    .command("repo")
    .description("repositories: make them, read them without the service, recover from them")
    .option("--repo <address-or-name>", "which one (default: TIDEMARK_REPO, else the only one the data folder knows)")
    .option("--key-file <file>", "its key (default: TIDEMARK_KEY_FILE, the data folder's own, else a passphrase)")
    .option("--endpoint <url>", "the S3 server, where it isn't Amazon's (default: AWS_ENDPOINT_URL)")
    .option("--region <name>", "the bucket's region (default: AWS_REGION)")
    .option("--at-version <time>", "read a versioned bucket as it was then, behind later deletes");
  addMaking(repo, context);
  addKeyCommands(repo, context);
  const reading: CommandContext = {
    ...context,
    connect: async (session, options) =>
      (await import("../repository/connect.ts")).connectToRepository(session, options),
  };
  addReadingCommands(repo, reading);
  addHistoryCommands(repo, reading, { follows: false });
  addExportCommand(repo, reading);
  addRestore(repo, reading);
  addRecover(repo, context);
  addPrune(repo, context);
  addCheck(repo, context);
}

type InitOptions = RepoOptions & { readonly name: string; readonly lockDays?: string };

function addMaking(repo: Command, context: CommandContext): void {
  body<InitOptions>(
    repo
      .command("init <address>")
      .description("make a repository in a directory or a bucket (s3://bucket/prefix), and tell the service of it")
      .option("--name <name>", "what the service calls it", "main")
      .option("--lock-days <count>", "with S3 Object Lock: what is written can't be deleted for so many days"),
    context,
    async (session, [address], options) => {
      const { initRepository } = await import("../repository/make-repository.ts");
      const { lockDays, ...rest } = options;
      const days = lockDays === undefined ? {} : { lockDays: parseCount("--lock-days", lockDays, 1) };
      return initRepository(session, { ...rest, address: needed(address), ...days });
    },
  );
  body<RepoOptions & { name: string }>(
    repo
      .command("add <address>")
      .description("tell the service of a repository that is there")
      .option("--name <name>", "what the service calls it", "main"),
    context,
    async (session, [address], options) => {
      const { addRepository } = await import("../repository/make-repository.ts");
      return addRepository(session, { ...options, address: needed(address) });
    },
  );
  body(
    repo.command("remove <name>").description("the service forgets a repository; what is in it stays"),
    context,
    async (session, [name]) => {
      const gone = await (await session.api()).backups.removeRepository({ name: needed(name) }, session.callOptions);
      await session.output.done(
        gone,
        `The service does not know ${gone.name} any more; ${gone.location.url} is as it was.`,
      );
    },
  );
  body(repo.command("list").description("list the repositories that the service knows"), context, listRepositories);
  body<RepoOptions>(
    repo.command("apps").description("list the apps that are in a repository, and up to when"),
    context,
    listApps,
  );
}

async function listRepositories(session: Session): Promise<undefined> {
  const pages = (await session.api()).backups.listRepositories(session.callOptions);
  const columns: Column<RepositoryInfo>[] = [
    { title: "REPOSITORY", human: ({ name }) => name, style: () => "bold" },
    { title: "ADDRESS", human: ({ location }) => location.url },
    { title: "ENDPOINT", human: ({ location }) => location.endpoint ?? "" },
    { title: "APPS", align: "right", human: ({ appCount }) => formatCount(appCount) },
    { title: "SINCE", human: (each) => session.time(each.addedAt), plain: (each) => formatUtcTime(each.addedAt) },
    { title: "ID", human: ({ id }) => shortId(id), plain: ({ id }) => id },
  ];
  await session.output.list(columns, pages, { empty: "No repositories yet. Make one: tidemark repo init ADDRESS" });
  return undefined;
}

async function listApps(session: Session, _: readonly string[], options: RepoOptions): Promise<ExitName | undefined> {
  const { openRepositoryApps } = await import("../repository/connect.ts");
  const { apps } = await openRepositoryApps(session, options);
  const columns: Column<DescribedApp>[] = [
    { title: "APP", human: fullName, style: () => "bold" },
    {
      title: "UP TO",
      human: ({ protected: reached }) => (reached === undefined ? "" : session.time(reached.time)),
      plain: ({ protected: reached }) => (reached === undefined ? "" : formatUtcTime(reached.time)),
    },
    {
      title: "LSN",
      align: "right",
      human: ({ protected: reached }) => (reached === undefined ? "" : formatCount(reached.lsn)),
      plain: ({ protected: reached }) => String(reached?.lsn ?? 0),
    },
    {
      title: "DELETED",
      human: ({ deletedAt }) => (deletedAt === undefined ? "" : session.time(deletedAt)),
      plain: ({ deletedAt }) => (deletedAt === undefined ? "" : formatUtcTime(deletedAt)),
    },
    { title: "ID", human: ({ id }) => shortId(id), plain: ({ id }) => id },
  ];
  const pages = (async function* () {
    const all = await apps.all();
    if (all.length > 0) yield all;
  })();
  try {
    await session.output.list(columns, pages, { empty: "No apps to show." });
    return (await apps.leftOut()) > 0 ? "INCOMPLETE" : undefined;
  } finally {
    await apps.close();
  }
}

type AddKeyOptions = RepoOptions & { readonly newKeyFile?: string; readonly newPassphrase?: boolean };

function addKeyCommands(repo: Command, context: CommandContext): void {
  const key = repo.command("key").description("what opens a repository: add, list and remove keys and passphrases");
  body<AddKeyOptions>(
    key
      .command("add")
      .description("let another key file or passphrase open it too")
      .option("--new-key-file <file>", "a key file: the one that is there, else it is made")
      .option("--new-passphrase", "a passphrase: asked for twice, or in TIDEMARK_NEW_PASSPHRASE"),
    context,
    async (session, _, options) => {
      if ((options.newKeyFile === undefined) === (options.newPassphrase !== true))
        throw new TidemarkError("INVALID_ARGUMENT", "which? Expected --new-key-file FILE or --new-passphrase");
      return (await import("../repository/repository-keys.ts")).addKey(session, options);
    },
  );
  body<RepoOptions>(key.command("list").description("list what opens it"), context, async (session, _, options) =>
    (await import("../repository/repository-keys.ts")).listKeys(session, options),
  );
  body<RepoOptions & { yes?: boolean }>(
    key
      .command("remove <key>")
      .description("what it named no longer opens the repository; who has read the repository's key before still can")
      .option("--yes", "do not ask"),
    context,
    async (session, [name], options) =>
      (await import("../repository/repository-keys.ts")).removeKey(session, { ...options, key: needed(name) }),
  );
  body<RepoOptions & { yes?: boolean }>(
    repo
      .command("destroy <app>")
      .description("destroy an app's key, and with it all its backups; nothing brings them back")
      .option("--yes", "do not ask"),
    context,
    async (session, [app], options) =>
      (await import("../repository/repository-keys.ts")).destroyApp(session, { ...options, app: needed(app) }),
  );
}

function addPrune(repo: Command, context: CommandContext): void {
  body<PruneCommandOptions>(
    addPolicyOptions(repo.command("prune"))
      .description(
        "delete what the apps' policies of retention don't keep, and what nothing names; in two steps, a grace apart",
      )
      .option("--app <app>", "only this one")
      .option("--grace <span>", "how long what goes still stays, from 1h on (default: 24h)")
      .option("--dry-run", "only show the plan")
      .option("--yes", "do not ask"),
    context,
    async (session, _, options) =>
      (await import("../repository/prune-repository.ts")).pruneRepository(session, options),
  );
}

type RestoreOptions = {
  readonly at?: string;
  readonly to: string;
  readonly dryRun?: boolean;
  readonly force?: boolean;
} & {
  readonly yes?: boolean;
};

function addRestore(repo: Command, context: CommandContext): void {
  body<RestoreOptions>(
    repo
      .command("restore <path>")
      .description("write a file, a directory or a share as it was to this machine")
      .option("--at <moment>", "as it was then (default: the newest that is protected)")
      .requiredOption("--to <place>", "what it becomes: a path of this machine")
      .option("--dry-run", "only show the plan")
      .option("--yes", "do not ask")
      .option("--force", "replace files that are there"),
    context,
    restore,
  );
  body<RepoOptions & { at?: string }>(
    repo
      .command("mount <app/share> <directory>")
      .description("mount a share as it was, read-only, until Ctrl-C")
      .option("--at <moment>", "as it was then (default: the newest that is protected)"),
    context,
    async (session, [share, directory], options) => {
      const { mountRepository } = await import("../repository/mount-repository.ts");
      return mountRepository(session, { ...options, share: needed(share), directory: needed(directory) });
    },
  );
}

async function restore(
  session: Session,
  [path]: readonly string[],
  options: RestoreOptions,
): Promise<ExitName | undefined> {
  const source = parseSharePath(needed(path));
  if (source.share === undefined) {
    const message = `"${path}" names an app only: restore its shares one by one, as ${path}/SHARE, or recover it: tidemark repo recover --app ${path}`;
    throw new TidemarkError("INVALID_ARGUMENT", message);
  }
  if (!isMachinePath(options.to)) {
    const message = `--to "${options.to}" is no path of this machine: expected one starting with / or ./; into a share: tidemark restore, once the service runs`;
    throw new TidemarkError("INVALID_ARGUMENT", message);
  }
  const { restoreOutside } = await import("../outside/restore-outside.ts");
  return restoreOutside(session, {
    source,
    at: session.moment(options.at),
    target: session.machinePath(options.to),
    dryRun: options.dryRun === true,
    yes: options.yes === true,
    force: options.force === true,
  });
}

type RecoverOptions = RepoOptions & {
  readonly into: string;
  readonly app?: string;
  readonly as?: string;
  readonly lazy?: boolean;
  readonly name: string;
};

function addRecover(repo: Command, context: CommandContext): void {
  body<RecoverOptions>(
    repo
      .command("recover")
      .description(
        "make a data folder from a repository: all apps with all their history; after a crash, again: goes on",
      )
      .requiredOption("--into <directory>", "the data folder to make, missing or empty")
      .option("--app <app>", "only this one")
      .option("--as <name>", "with --app: under another name, as a new app")
      .option("--lazy", "usable at once: contents come when they are read, and in the background")
      .option("--name <name>", "what the service of the new data folder calls the repository", "main"),
    context,
    async (session, _, options) => (await import("../repository/recover-apps.ts")).recoverApps(session, options),
  );
}

function addCheck(repo: Command, context: CommandContext): void {
  body<RepoOptions & { readonly app?: string; readonly readData?: string | true }>(
    repo
      .command("check")
      .description(
        "verify it: structure, and with --read-data contents; tells what is damaged and which files it touches",
      )
      .option("--read-data [part]", "also read packs and verify every byte; a random part of them, as 10%")
      .option("--app <app>", "only this one"),
    context,
    async (session, _, options) =>
      (await import("../repository/check-repository.ts")).checkRepository(session, options),
  );
}

/** tidemark drill: proves that backups can be restored. */
export function addDrillCommand(program: Command, context: CommandContext): void {
  body<RepoOptions & { readonly files: string }>(
    program
      .command("drill <app>")
      .description("restore from the repository and compare with the live app at the same moment; keeps a report")
      .option("--files <count>", "so many files byte for byte, chosen at random; of all names the attributes", "100")
      .option("--repo <address-or-name>", "which repository (default: as with `repo`)")
      .option("--key-file <file>", "its key")
      .option("--endpoint <url>", "the S3 server")
      .option("--region <name>", "the bucket's region"),
    context,
    async (session, [app], options) => {
      const { drill } = await import("../repository/drill.ts");
      const fileCountMax = parseCount("--files", options.files, 1);
      return drill(session, { ...options, app: needed(app), fileCountMax });
    },
  );
}
