import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { knownApps } from "../../backup/known-apps.ts";
import { type RecoverProgress, type RecoverReport, recover } from "../../backup/recover.ts";
import { checkRecoveryFolder } from "../../backup/recovery-folder.ts";
import { planRecovery } from "../../backup/recovery-plan.ts";
import { SystemTimers } from "../../base/timers.ts";
import { isBlobError } from "../../blob/blob-error.ts";
import { parseAppRef } from "../../domain/share-path.ts";
import { UNFINISHED_RECOVERY } from "../../journal/data-folder.ts";
import { SystemTurns } from "../../meta/reading/turns.ts";
import { newKeyFile } from "../../repository/key-file.ts";
import type { Repository } from "../../repository/repository.ts";
import type { RepositorySecret } from "../../repository/secrets.ts";
import { fullName } from "../commands/app-commands.ts";
import { describeMoment } from "../commands/mount-commands.ts";
import type { ExitName } from "../exit-codes.ts";
import { formatBytes, formatCount, plural } from "../output/human.ts";
import { ProgressBar } from "../output/progress-bar.ts";
import type { Session } from "../session.ts";
import { KnownRepositories, type KnownRepository, type KnownSecret } from "./known-repositories.ts";
import { NoteLog } from "./note-log.ts";
import { openRepository, type Place } from "./open-repository.ts";
import type { RepoOptions } from "./repo-options.ts";
import { NO_KEY } from "./repository-apps.ts";
import { storeFailure } from "./store-failure.ts";

type Options = RepoOptions & {
  readonly into: string;
  readonly app?: string;
  readonly as?: string;
  readonly lazy?: boolean;
  readonly name: string;
};

/** `repo recover`: a data folder out of a repository, by this process alone. Ends with INCOMPLETE when an app could not be brought back as it was. */
export async function recoverApps(session: Session, options: Options): Promise<ExitName | undefined> {
  const { repository, place, secret } = await openRepository(session, options);
  const into = session.machinePath(options.into);
  const bar = new ProgressBar({ output: session.output, clock: session.environment.clock });
  try {
    // Before the repository gets another key for it.
    checkRecoveryFolder(into);
    const request = {
      apps: options.app === undefined ? undefined : [parseAppRef(options.app)],
      as: options.as,
      newId: () => randomBytes(16).toString("hex"),
    };
    const log = new NoteLog(session.output);
    if (request.apps !== undefined || request.as !== undefined) planRecovery(await knownApps(repository, log), request);
    const { reference, added } = await referenceOf(session, repository, { place, secret, name: options.name });
    const { apps, as, newId } = request;
    const report = await recover({
      repository,
      reference,
      into,
      ...(apps === undefined ? {} : { apps }),
      ...(as === undefined ? {} : { as }),
      lazy: options.lazy === true,
      clock: session.environment.clock,
      timers: new SystemTimers(),
      turns: new SystemTurns(),
      log,
      newId,
      signal: session.environment.signal,
      onProgress: (progress) => bar.update(progressText(progress)),
    }).catch(async (error: unknown) => {
      // A recovery that was begun goes on with the key that its files name.
      if (!existsSync(join(into, UNFINISHED_RECOVERY))) await takeBack(repository, added);
      throw error;
    });
    bar.clear();
    const found = await foundBeside(repository, report, options);
    if (report.apps.length === 0 && report.failed.length === 0) await takeBack(repository, added);
    // So that the service of the new folder can go on shipping there. Not into the past of a bucket.
    else if (place.atVersionMs === undefined) await new KnownRepositories(into).put(reference);
    return await show(session, { ...report, ...found }, { into, options });
  } catch (error) {
    throw storeFailure(error);
  } finally {
    bar.clear();
    await repository.store.close();
  }
}

/** What the repository has and `recover` could make nothing of. */
type Beside = {
  /** Apps of which nothing can be read, as a person may name them. */
  readonly leftOut: readonly { readonly app: string; readonly message: string }[];
  /** Folders of apps that no key goes with; looked for when there is no app. */
  readonly strayCount: number;
};

async function foundBeside(repository: Repository, report: RecoverReport, { app }: Options): Promise<Beside> {
  if (app !== undefined) return { leftOut: [], strayCount: 0 };
  const leftOut: { readonly app: string; readonly message: string }[] = [];
  const entries = await repository.apps(({ tag, error }) => leftOut.push({ app: tag, message: error.message }));
  const dealtWith = new Set([...report.apps, ...report.failed.map((each) => each.app)].map((each) => each.sourceApp));
  for (const { appId } of entries)
    if (!dealtWith.has(appId)) leftOut.push({ app: `app ${appId}`, message: NOTHING_READABLE });
  const isEmpty = entries.length === 0 && leftOut.length === 0;
  return { leftOut, strayCount: isEmpty ? (await repository.appsWithoutKey()).length : 0 };
}

const NOTHING_READABLE =
  "nothing can be read of it: its first backup was not finished, or it is damaged (`tidemark repo check` tells)";

/** A key that nobody has is no danger, only clutter. */
async function takeBack(repository: Repository, added: string | undefined): Promise<void> {
  if (added !== undefined) await repository.removeSecret(added).catch(() => {});
}

/** What the new data folder's service opens the repository with: a key of its own, or this one, where nothing can be written. */
async function referenceOf(
  session: Session,
  repository: Repository,
  { place, secret, name }: { readonly place: Place; readonly secret: RepositorySecret; readonly name: string },
): Promise<{ readonly reference: KnownRepository; readonly added: string | undefined }> {
  const { location, credentials, atVersionMs } = place;
  const addedAt = session.environment.clock.now();
  const own = await ownSecret(repository, secret);
  const reference = {
    name,
    id: repository.id,
    location,
    addedAt,
    secret: own.secret,
    ...(credentials === undefined ? {} : { credentials }),
    ...(atVersionMs === undefined ? {} : { atVersionMs }),
  };
  return { reference, added: own.added };
}

/** `added`: the name of the key that was made. */
async function ownSecret(
  repository: Repository,
  secret: RepositorySecret,
): Promise<{ readonly secret: KnownSecret; readonly added: string | undefined }> {
  const { text, key } = newKeyFile({ comment: `Made for a recovery on ${hostname()}.` });
  try {
    const added = await repository.addSecret({ kind: "key-file", key });
    return { secret: { kind: "key-file", text }, added };
  } catch (error) {
    // In a disaster the credentials at hand may be for reading only.
    if (!isBlobError(error, "BLOB_DENIED") && !isBlobError(error, "BLOB_UNSUPPORTED")) throw error;
    if (secret.kind === "passphrase") return { secret, added: undefined };
    const { text } = newKeyFile({ fill: (bytes) => void secret.key.copy(bytes) });
    return { secret: { kind: "key-file", text }, added: undefined };
  }
}

function progressText(progress: RecoverProgress): { fraction: number | undefined; text: string } {
  const { app, appNumber, appCount } = progress;
  const of = appCount === 1 ? "" : ` (${formatCount(appNumber)} of ${formatCount(appCount)})`;
  const what =
    progress.kind === "data"
      ? `, ${formatBytes(progress.bytesDone)}`
      : progress.kind === "rows"
        ? ", names and attributes"
        : "";
  return { fraction: undefined, text: `${fullName(app)}${of}${what}` };
}

async function show(
  session: Session,
  report: RecoverReport & Beside,
  { into, options }: { readonly into: string; readonly options: Options },
): Promise<ExitName | undefined> {
  const { output } = session;
  const damaged = report.apps.filter((app) => app.damagedBytes > 0);
  const failed = [
    ...report.failed.map(({ app, error }) => ({ app: fullName(app), message: error.message })),
    ...report.leftOut,
  ];
  if (output.json) await output.value({ into, apps: report.apps, failed });
  else {
    for (const app of report.apps) {
      const time = app.time === undefined ? {} : { time: app.time };
      await output.line(
        `${fullName(app)}: as of ${describeMoment(session, { lsn: app.lsn, ...time })}, ${formatBytes(app.bytes)}.`,
      );
    }
    for (const { cutShort, ...app } of report.apps)
      if (cutShort !== undefined)
        output.note(`${fullName(app)}: what came after that can't be read from the repository: ${cutShort}`);
    for (const app of damaged)
      output.note(
        `${fullName(app)}: ${formatBytes(app.damagedBytes)} are damaged in the repository; reading them is EIO, nothing else is affected`,
      );
    for (const { app, message } of failed) output.note(`${app}: not recovered: ${message}`);
    if (report.apps.length > 0) await output.line(recovered(report, { into, options }));
    else if (report.strayCount > 0)
      output.note(`No app can be recovered: ${plural(report.strayCount, "folder")} under apps/, ${NO_KEY}.`);
    else output.note(failed.length > 0 ? "No app was recovered." : "The repository has no apps.");
  }
  const isCutShort = report.apps.some(({ cutShort }) => cutShort !== undefined);
  return isCutShort || damaged.length > 0 || failed.length > 0 || report.strayCount > 0 ? "INCOMPLETE" : undefined;
}

function recovered(
  { apps }: RecoverReport,
  { into, options }: { readonly into: string; readonly options: Options },
): string {
  const then = options.atVersion === undefined ? `, and there: tidemark backup enable APP --repo ${options.name}` : "";
  return `Recovered ${plural(apps.length, "app")} into ${into}. Next: tidemark serve --data ${into}${then}`;
}
