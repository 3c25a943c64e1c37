import { statfsSync } from "node:fs";
import path from "node:path";
import { present } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { FsError } from "../domain/errors.ts";
import type { AppId, Lsn } from "../domain/ids.ts";
import type { AppRef } from "../domain/share-path.ts";
import type { JournalArchive } from "../journal/archive.ts";
import type { JournalLimits } from "../journal/limits.ts";
import type { SpaceReserve } from "../journal/space-reserve.ts";
import type { KvStore } from "../kv/kv-store.ts";
import type { ApplyBackend } from "./applier.ts";
import { Catalogue } from "./catalogue.ts";
import type { AppRow } from "./catalogue-rows.ts";
import { Nodes } from "./nodes.ts";
import { type DiskSpace, OpenApp, SERVICE_CONTEXT } from "./open-app.ts";
import type { RowStore } from "./row-store.ts";

export type ServiceOptions = {
  /** The data folder, locked and checked by the caller. */
  readonly folder: string;
  readonly kv: KvStore;
  readonly clock: Clock;
  readonly log: Log;
  /** 16 random bytes as hex. */
  readonly newId: () => string;
  /** How rows get into the KV; absent: in this process. */
  readonly backend?: (app: {
    readonly appId: AppId;
    readonly slot: number;
    readonly folder: string;
    readonly store: RowStore;
  }) => ApplyBackend;
  /** The archive of an app whose journal's older part is not in its folder; undefined: it is all there. Throws to refuse the app. */
  readonly archiveOf?: (app: { readonly appId: AppId; readonly slot: number }) => Promise<JournalArchive | undefined>;
  readonly journalLimits?: Partial<JournalLimits>;
  /** Space for what must work on a full disk. */
  readonly reserve?: SpaceReserve;
  /** Called each time there is no room for rows: `SpaceKeeper.kick`. */
  readonly onNoSpace?: () => void;
  /** What writers of an app get while its backup must not fall behind further. */
  readonly refusal?: (appId: AppId) => FsError | undefined;
  /** Drops history on a full disk: `SpaceKeeper.makeRoom`. */
  readonly makeRoom?: () => Promise<boolean>;
};

/** The app that holds the catalogue. */
export const SYSTEM_APP_ID = "0".repeat(32) as AppId;

/** How long an answer about the disk's space is used again. */
const DISK_SPACE_MS = 1000;

/**
 * The metadata service of one data folder: the catalogue, and the open apps. All apps are open, deleted ones too: they can be read at any time.
 */
export class MetadataService {
  readonly catalogue: Catalogue;
  /** Machines that may talk to the service over the network. */
  readonly nodes: Nodes;
  readonly #options: ServiceOptions;
  readonly #system: OpenApp;
  readonly #apps = new Map<AppId, OpenApp>();
  #space: { readonly atMs: number; readonly space: DiskSpace } | undefined;

  private constructor(options: ServiceOptions, system: OpenApp) {
    this.#options = options;
    this.#system = system;
    this.catalogue = new Catalogue(system.core);
    this.nodes = new Nodes(system.core);
  }

  /** Opens the catalogue and all apps. Throws what `OpenApp.open` throws, naming the app. */
  static async open(options: ServiceOptions): Promise<MetadataService> {
    const holder: { service?: MetadataService } = {};
    const diskSpace = (): DiskSpace => holder.service?.diskSpace() ?? { totalBytes: 0n, freeBytes: 0n };
    const system = await openOne(options, { appId: SYSTEM_APP_ID, slot: 0, unmounted: true }, diskSpace);
    const service = new MetadataService(options, system);
    holder.service = service;
    try {
      for (const app of service.catalogue.apps()) await service.open(app);
    } catch (error) {
      await service.close();
      throw error;
    }
    return service;
  }

  get clock(): Clock {
    return this.#options.clock;
  }

  get log(): Log {
    return this.#options.log;
  }

  newId(): string {
    return this.#options.newId();
  }

  /** The app that has what the service knows besides its apps: no share, and a journal of its own. */
  get system(): OpenApp {
    return this.#system;
  }

  /** Apps that are open now. */
  openApps(): OpenApp[] {
    return [...this.#apps.values()];
  }

  /** The app a reference means, live or deleted. Throws NOT_FOUND. */
  find(ref: AppRef): OpenApp {
    const row = this.catalogue.find(ref);
    return present(this.#apps.get(row.id), "an open app");
  }

  /** What an app is called now. */
  nameOf(id: AppId): { readonly namespace: string; readonly name: string } {
    const { namespace, name } = present(this.catalogue.app(id), "an app of the catalogue");
    return { namespace, name };
  }

  /** Whether the app is deleted now. */
  isDeleted(id: AppId): boolean {
    return this.catalogue.app(id)?.deletedAt !== undefined;
  }

  /** The open app. */
  get(id: AppId): OpenApp | undefined {
    return this.#apps.get(id);
  }

  /** Opens an app that has just been made, or at the start. */
  async open(app: AppRow): Promise<OpenApp> {
    const unmounted = this.catalogue.mounts().every(({ appId }) => appId !== app.id);
    const open = await openOne(this.#options, { appId: app.id, slot: app.slot, unmounted }, () => this.diskSpace());
    this.#apps.set(app.id, open);
    return open;
  }

  /** Makes what the catalogue acknowledged durable. */
  async syncCatalogue(): Promise<void> {
    await this.#system.journal.sync(this.#system.core.lastLsn);
  }

  /** The slot of a view, see `Catalogue.slotOf`. */
  viewSlot(appId: AppId, lsn: Lsn): number {
    return this.catalogue.slotOf(appId, lsn, SERVICE_CONTEXT);
  }

  /** Space of the data folder's disk; at most a second old. */
  diskSpace(): DiskSpace {
    const nowMs = this.#options.clock.monotonicMs();
    if (this.#space === undefined || nowMs - this.#space.atMs > DISK_SPACE_MS) {
      this.#space = { atMs: nowMs, space: this.diskSpaceNow() };
    }
    return this.#space.space;
  }

  /** As `diskSpace`, asked of the file system now. */
  diskSpaceNow(): DiskSpace {
    const stat = statfsSync(this.#options.folder, { bigint: true });
    return { totalBytes: stat.blocks * stat.bsize, freeBytes: stat.bavail * stat.bsize };
  }

  /** Closes all apps, then the catalogue: everything durable and applied. */
  async close(): Promise<void> {
    for (const app of this.openApps()) await app.close();
    await this.#system.close();
  }
}

/** The folder of an app's journal. */
export function journalFolder(dataFolder: string, appId: AppId): string {
  return path.join(dataFolder, "apps", appId, "journal");
}

async function openOne(
  options: ServiceOptions,
  app: { readonly appId: AppId; readonly slot: number; readonly unmounted: boolean },
  diskSpace: () => DiskSpace,
): Promise<OpenApp> {
  const folder = journalFolder(options.folder, app.appId);
  const { kv, clock, log, backend, journalLimits, reserve, onNoSpace, refusal, makeRoom } = options;
  const archive = await options.archiveOf?.(app);
  return OpenApp.open({
    ...app,
    folder,
    kv,
    clock,
    log: log.child({ appId: app.appId }),
    diskSpace,
    ...(archive === undefined ? {} : { archive }),
    ...(backend === undefined ? {} : { backend: (store: RowStore) => backend({ ...app, folder, store }) }),
    ...(journalLimits === undefined ? {} : { journalLimits }),
    ...(reserve === undefined ? {} : { reserve }),
    ...(onNoSpace === undefined ? {} : { onNoSpace }),
    ...(refusal === undefined ? {} : { refusal: () => refusal(app.appId) }),
    ...(makeRoom === undefined ? {} : { makeRoom }),
  });
}
