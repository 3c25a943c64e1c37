import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { type RecoverProgress, type RecoverReport, recover } from "../../backup/recover.ts";
import { checkRecoveryFolder } from "../../backup/recovery-folder.ts";
import { SystemTimers } from "../../base/timers.ts";
import { isBlobError } from "../../blob/blob-error.ts";
import { parseAppRef } from "../../domain/share-path.ts";
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
    const reference = await referenceOf(session, repository, { place, secret, name: options.name });
    const report = await recover({
      repository,
      reference,
      into,
      ...(options.app === undefined ? {} : { apps: [parseAppRef(options.app)] }),
      ...(options.as === undefined ? {} : { as: options.as }),
      lazy: options.lazy === true,
      clock: session.environment.clock,
      timers: new SystemTimers(),
      turns: new SystemTurns(),
      log: new NoteLog(session.output),
      newId: () => randomBytes(16).toString("hex"),
      signal: session.environment.signal,
      onProgress: (progress) => bar.update(progressText(progress)),
    });
    bar.clear();
    // So that the service of the new folder can go on shipping there. Not into the past of a bucket.
    if (place.atVersionMs === undefined) await new KnownRepositories(into).put(reference);
    return await show(session, report, { into, options });
  } catch (error) {
    throw storeFailure(error);
  } finally {
    bar.clear();
    await repository.store.close();
  }
}

/** What the new data folder's service opens the repository with: a key of its own, or this one, where nothing can be written. */
async function referenceOf(
  session: Session,
  repository: Repository,
  { place, secret, name }: { readonly place: Place; readonly secret: RepositorySecret; readonly name: string },
): Promise<KnownRepository> {
  const { location, credentials, atVersionMs } = place;
  const addedAt = session.environment.clock.now();
  return {
    name,
    id: repository.id,
    location,
    addedAt,
    secret: await ownSecret(repository, secret),
    ...(credentials === undefined ? {} : { credentials }),
    ...(atVersionMs === undefined ? {} : { atVersionMs }),
  };
}

async function ownSecret(repository: Repository, secret: RepositorySecret): Promise<KnownSecret> {
  const { text, key } = newKeyFile({ comment: `Made for a recovery on ${hostname()}.` });
  try {
    await repository.addSecret({ kind: "key-file", key });
    return { kind: "key-file", text };
  } catch (error) {
    // In a disaster the credentials at hand may be for reading only.
    if (!isBlobError(error, "BLOB_DENIED") && !isBlobError(error, "BLOB_UNSUPPORTED")) throw error;
    if (secret.kind === "passphrase") return secret;
    return { kind: "key-file", text: newKeyFile({ fill: (bytes) => void secret.key.copy(bytes) }).text };
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
  report: RecoverReport,
  { into, options }: { readonly into: string; readonly options: Options },
): Promise<ExitName | undefined> {
  const { output } = session;
  const damaged = report.apps.filter((app) => app.damagedBytes > 0);
  const failed = report.failed.map(({ app, error }) => ({ app: fullName(app), message: error.message }));
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
    const then =
      options.atVersion === undefined ? `, and there: tidemark backup enable APP --repo ${options.name}` : "";
    await output.line(
      `Recovered ${plural(report.apps.length, "app")} into ${into}. Next: tidemark serve --data ${into}${then}`,
    );
  }
  const isCutShort = report.apps.some(({ cutShort }) => cutShort !== undefined);
  return isCutShort || damaged.length > 0 || failed.length > 0 ? "INCOMPLETE" : undefined;
}
