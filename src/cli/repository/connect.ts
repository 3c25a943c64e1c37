import { SystemTimers } from "../../base/timers.ts";
import type { Connection } from "../environment.ts";
import { ProgressBar } from "../output/progress-bar.ts";
import type { Session } from "../session.ts";
import { NoteLog } from "./note-log.ts";
import { cacheFolderOf, openRepository } from "./open-repository.ts";
import type { RepoOptions } from "./repo-options.ts";
import { repositoryApi } from "./repository-api.ts";
import { RepositoryApps, type RepositoryAppsParts } from "./repository-apps.ts";

/** The apps of the repository that the options mean. To be closed. */
export async function openRepositoryApps(
  session: Session,
  options: RepoOptions,
): Promise<{ readonly apps: RepositoryApps; readonly parts: RepositoryAppsParts }> {
  const { repository, place } = await openRepository(session, options);
  const { clock, signal } = session.environment;
  const parts = {
    repository,
    cacheFolder: cacheFolderOf(session, repository.id, place),
    clock,
    timers: new SystemTimers(),
    log: new NoteLog(session.output),
    signal,
  };
  return { apps: new RepositoryApps(parts), parts };
}

/** The repository that the options mean, as the commands for a live service take it. */
export async function connectToRepository(session: Session, options: RepoOptions): Promise<Connection> {
  const bar = new ProgressBar({ output: session.output, clock: session.environment.clock });
  bar.update({ fraction: undefined, text: "Opening the repository ..." });
  try {
    const { apps, parts } = await openRepositoryApps(session, options);
    return { api: repositoryApi(apps, parts), close: () => apps.close() };
  } finally {
    bar.clear();
  }
}
