import type { Log } from "../base/log.ts";
import type { Timers } from "../base/timers.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { AppId } from "../domain/ids.ts";
import type { KvStore } from "../kv/kv-store.ts";
import type { Repository } from "../repository/repository.ts";
import { type RepositoryReference, readArchiveFile } from "./archive-file.ts";
import { ArchiveIndex } from "./archive-index.ts";
import { RepositoryArchive } from "./repository-archive.ts";

export type AttachOptions = {
  readonly dataFolder: string;
  readonly kv: KvStore;
  /** Opens a repository that `recover` was given the reference of. Called when it is first needed, and again after it failed. */
  readonly openRepository: (reference: RepositoryReference) => Promise<Repository>;
  readonly timers: Timers;
  readonly log: Log;
};

/** ServiceOptions.archiveOf for a data folder: finds the archives of recovered apps. The repository itself is opened when something is read of it. */
export function archivesOf(
  options: AttachOptions,
): (app: { readonly appId: AppId; readonly slot: number }) => Promise<RepositoryArchive | undefined> {
  const { dataFolder, kv, openRepository, timers, log } = options;
  return async ({ appId, slot }) => {
    const file = await readArchiveFile(dataFolder, appId);
    if (file === undefined) return undefined;
    const connect = async () => {
      const repository = await openRepository(file.reference);
      if (repository.id !== file.repositoryId)
        throw new TidemarkError(
          "FAILED_PRECONDITION",
          `${file.description} is now repository ${repository.id}, the app was recovered from ${file.repositoryId}`,
        );
      return repository.openApp(file.sourceApp);
    };
    return new RepositoryArchive({
      ...file,
      index: new ArchiveIndex(kv, slot),
      connect,
      timers,
      log: log.child({ appId }),
    });
  };
}
