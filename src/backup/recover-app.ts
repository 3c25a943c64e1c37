import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { DataFolder } from "../journal/data-folder.ts";
import { makeFreshJournal } from "../journal/fresh-journal.ts";
import type { KvStore } from "../kv/kv-store.ts";
import type { AppRow } from "../meta/catalogue-rows.ts";
import { SERVICE_CONTEXT } from "../meta/open-app.ts";
import type { MetadataService } from "../meta/service.ts";
import type { Repository } from "../repository/repository.ts";
import { type RepositoryReference, writeArchiveFile } from "./archive-file.ts";
import { type MaterialiseProgress, materialise } from "./materialise.ts";
import type { RecoveryItem } from "./recovery-folder.ts";

export type LayAppOptions = {
  readonly repository: Repository;
  readonly reference: RepositoryReference;
  readonly folder: DataFolder;
  readonly item: RecoveryItem;
  readonly kv: KvStore;
  readonly service: MetadataService;
  readonly clock: Clock;
  readonly log: Log;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: MaterialiseProgress) => void;
};

/**
 * Makes one app in the folder, in this order, so that a crash at any point leaves either no app or a whole one: rows under the number the catalogue gives next, a journal that goes on after them, where the archive is; all durable;
 * then the app's row in the catalogue, durable too. Throws what reading the repository throws, and NOT_FOUND when nothing of the app is there.
 */
export async function layApp(
  options: LayAppOptions,
): Promise<{ readonly row: AppRow; readonly cutShort: Error | undefined }> {
  const { repository, folder, item, kv, service, clock, log, signal, onProgress } = options;
  const app = await repository.openApp(item.sourceApp);
  const slot = service.catalogue.nextAppSlot;
  const laid = await materialise({
    app,
    kv,
    slot,
    log,
    ...(signal === undefined ? {} : { signal }),
    ...(onProgress === undefined ? {} : { onProgress }),
  });
  if (laid.app === undefined)
    throw new TidemarkError(
      "NOT_FOUND",
      `the repository has nothing of app ${item.name} yet: its first backup was not finished`,
    );
  const { appId } = item;
  await makeFreshJournal({ folder: folder.journalFolder(appId), appId, lastLsn: laid.lsn, clock });
  await writeArchiveFile(folder.path, appId, {
    reference: options.reference,
    repositoryId: repository.id,
    sourceApp: item.sourceApp,
    description: repository.store.description,
    firstLsn: laid.firstLsn,
    lastLsn: laid.lsn,
    lastTime: laid.time,
    isHydrated: false,
  });
  await kv.sync();
  const { labels, created, deleted } = laid.app;
  const row = service.catalogue.adoptApp(
    {
      id: appId,
      namespace: item.namespace,
      name: item.name,
      labels,
      createdAt: created,
      ...(deleted === null ? {} : { deletedAt: deleted }),
    },
    SERVICE_CONTEXT,
  );
  await service.syncCatalogue();
  return { row, cutShort: laid.cutShort };
}
