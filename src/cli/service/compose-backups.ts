import type { RepositoryReference } from "../../backup/archive-file.ts";
import { archivesOf } from "../../backup/attach-archives.ts";
import { Hydrations } from "../../backup/hydrations.ts";
import { openShipIndex } from "../../backup/ship-index.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { SystemTimers } from "../../base/timers.ts";
import type { Environment } from "../../blob/s3-credentials.ts";
import type { AppId } from "../../domain/ids.ts";
import type { DataFolder } from "../../journal/data-folder.ts";
import type { RocksKv } from "../../kv/rocks-kv.ts";
import { SystemTurns } from "../../meta/reading/turns.ts";
import type { MetadataService, ServiceOptions } from "../../meta/service.ts";
import type { Repository } from "../../repository/repository.ts";
import { KnownRepositories } from "../repository/known-repositories.ts";
import { Backups } from "./backups.ts";
import { LockKeeper } from "./lock-keeper.ts";
import { openReference, RepositoryShippers } from "./repository-shippers.ts";

export type ComposeBackupsParts = {
  readonly folder: DataFolder;
  readonly service: MetadataService;
  /** The service's rows, which the shipper's worker reads. */
  readonly kv: RocksKv;
  readonly reserveBytes: number;
  readonly environment: Environment;
  readonly clock: Clock;
  readonly log: Log;
};

/** What ships a service's apps. */
export type ComposedBackups = {
  readonly backups: Backups;
  start(): void;
  stop(): Promise<void>;
};

/** The backups of a service, not started. */
export async function composeBackups(parts: ComposeBackupsParts): Promise<ComposedBackups> {
  const { folder, service, reserveBytes, log } = parts;
  const timers = new SystemTimers();
  const diskSpace = () => ({ ...service.diskSpaceNow(), reserveBytes: BigInt(reserveBytes) });
  const shared = { ...parts, timers, diskSpace };
  const openIndex = () => openShipIndex(folder.path, log);
  const shippers = new RepositoryShippers({ ...shared, dataFolder: folder.path, serviceId: folder.id, openIndex });
  // Up to where apps are protected has to be known before anything is dropped. Without: nothing is, as on a disk that is too full even for this.
  if (service.catalogue.backups().length > 0)
    await shippers.prepare().catch((error: unknown) => log.warn("backups can't begin yet", { cause: error }));
  const known = new KnownRepositories(folder.path);
  const backups = new Backups({ ...shared, known, shippers });
  const locks = new LockKeeper({
    ...shared,
    shipped: () => shippedNow(service, known, shippers),
    memory: () => shippers.index(),
  });
  return {
    backups,
    start: () => {
      backups.start();
      locks.start();
    },
    stop: async () => {
      await locks.stop();
      await backups.stop();
    },
  };
}

/** Which apps go into which repository. One that can't be opened now is for the next time. */
async function shippedNow(
  service: MetadataService,
  known: KnownRepositories,
  shippers: RepositoryShippers,
): Promise<{ repository: Repository; apps: AppId[] }[]> {
  const rows = service.catalogue.backups();
  const shipped: { repository: Repository; apps: AppId[] }[] = [];
  for (const name of new Set(rows.map(({ repository }) => repository))) {
    const entry = await known.get(name);
    if (entry === undefined) continue;
    // One that is away is its shippers' to report; they wait for it too.
    const repository = await shippers.repository(entry).catch(() => undefined);
    if (repository === undefined) continue;
    shipped.push({ repository, apps: rows.filter((row) => row.repository === name).map(({ appId }) => appId) });
  }
  return shipped;
}

/** Where the older part of recovered apps is. */
export function archives(
  parts: Pick<ComposeBackupsParts, "folder" | "kv" | "environment" | "clock" | "log">,
): NonNullable<ServiceOptions["archiveOf"]> {
  const { folder, kv, log } = parts;
  const timers = new SystemTimers();
  const openRepository = (reference: RepositoryReference) => openReference(reference, { ...parts, timers });
  return archivesOf({ dataFolder: folder.path, kv, openRepository, timers, log });
}

/** What brings the data of recovered apps in, in the background. Not started. */
export function composeHydrations(
  parts: Pick<ComposeBackupsParts, "folder" | "service" | "clock" | "log">,
): Hydrations {
  const { folder, service, clock, log } = parts;
  const apps = () => service.openApps();
  return new Hydrations({
    dataFolder: folder.path,
    apps,
    clock,
    timers: new SystemTimers(),
    turns: new SystemTurns(),
    log,
  });
}
