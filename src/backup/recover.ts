import { statfsSync } from "node:fs";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Timers } from "../base/timers.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { AppId, Lsn } from "../domain/ids.ts";
import type { AppRef } from "../domain/share-path.ts";
import type { DataFolder } from "../journal/data-folder.ts";
import type { JournalLimits } from "../journal/limits.ts";
import { RocksKv } from "../kv/rocks-kv.ts";
import type { Turns } from "../meta/reading/turns.ts";
import { MetadataService } from "../meta/service.ts";
import { limitsForDisk } from "../meta/space/disk-limits.ts";
import type { Repository } from "../repository/repository.ts";
import { type ArchiveFile, type RepositoryReference, readArchiveFile, writeArchiveFile } from "./archive-file.ts";
import { ArchiveIndex } from "./archive-index.ts";
import { Hydrator } from "./hydrate.ts";
import { knownApps } from "./known-apps.ts";
import type { MaterialiseProgress } from "./materialise.ts";
import { layApp } from "./recover-app.ts";
import {
  beginRecovery,
  endRecovery,
  openRecoveryFolder,
  type RecoveryItem,
  type RecoveryPlan,
} from "./recovery-folder.ts";
import { planRecovery } from "./recovery-plan.ts";
import { RepositoryArchive } from "./repository-archive.ts";

/** What is happening. `appNumber` of `appCount`, from 1. */
export type RecoverProgress = { readonly app: RecoveryItem; readonly appNumber: number; readonly appCount: number } & (
  | ({ readonly kind: "rows" } & MaterialiseProgress)
  | { readonly kind: "data"; readonly bytesDone: number }
  | { readonly kind: "done" }
);

export type RecoverOptions = {
  readonly repository: Repository;
  /** What opens the repository again: kept in the folder, 0600, for the service. */
  readonly reference: RepositoryReference;
  /** The data folder to make: missing or empty, or one that the same recovery didn't finish. */
  readonly into: string;
  /** Which apps, live by name, deleted ones with their id; absent: all, deleted ones too. */
  readonly apps?: readonly AppRef[];
  /** Under which name, and with an id of its own: for one app. */
  readonly as?: string;
  /** Data stay in the repository until they are read or the service brings them in, in the background. */
  readonly lazy?: boolean;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly turns: Turns;
  readonly log: Log;
  /** 16 random bytes as hex. */
  readonly newId: () => string;
  readonly journalLimits?: Partial<JournalLimits>;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: RecoverProgress) => void;
};

export type RecoveredApp = RecoveryItem & {
  /** The last record: the app is as it was after it. */
  readonly lsn: Lsn;
  readonly time: ArchiveFile["lastTime"];
  readonly bytes: number;
  /** Bytes that are damaged or missing in the repository: reading them is EIO. */
  readonly damagedBytes: number;
  /** Why the app's newest seals could not be read, if so: it is as it was before them. */
  readonly cutShort?: string;
};

export type RecoverReport = {
  readonly apps: readonly RecoveredApp[];
  /** Apps that are not there now, and why: what is in the repository is damaged, or nothing is. */
  readonly failed: readonly { readonly app: RecoveryItem; readonly error: Error }[];
};

/**
 * Makes a data folder from a repository: the apps with all their history, ready for a service to open. Until it is finished, the folder is marked as such and no service opens it;
 * after a crash, or when the repository could not be reached, the same call goes on. An app whose part of the repository is damaged is left out and reported; the others come back. Throws
 * FAILED_PRECONDITION (the folder is used, or by another recovery), NOT_FOUND (no such app), CANCELLED, NO_SPACE, and BlobError when the store can't be reached.
 */
export async function recover(options: RecoverOptions): Promise<RecoverReport> {
  const { clock, timers, log, into } = options;
  const { folder, plan: begun } = await openRecoveryFolder({ path: into, clock, log, timers });
  try {
    const plan = begun ?? (await makePlan(options));
    if (begun !== undefined) checkSame(begun, options);
    await beginRecovery(folder, plan);
    return await new Recovery(options, folder, plan).run();
  } catch (error) {
    throw asNoSpace(error, folder.path);
  } finally {
    folder.close();
  }
}

async function makePlan(options: RecoverOptions): Promise<RecoveryPlan> {
  const { repository, apps, as, newId, lazy, log } = options;
  const items = planRecovery(await knownApps(repository, log), { apps, as, newId });
  return { repositoryId: repository.id, lazy: lazy ?? false, items };
}

function checkSame(plan: RecoveryPlan, { repository, into, apps, as }: RecoverOptions): void {
  const isOther = (ref: AppRef): boolean => {
    const named = plan.items.filter(({ name }) => name === (as ?? ref.name));
    return !named.some(({ namespace }) => namespace === ref.namespace);
  };
  if (plan.repositoryId === repository.id && !(apps ?? []).some(isOther)) return;
  throw new TidemarkError(
    "FAILED_PRECONDITION",
    `another recovery into ${into} is not finished: of ${plan.items.map(({ name }) => name).join(", ")} from repository ${plan.repositoryId}. Run that one again, or choose another folder`,
  );
}

class Recovery {
  readonly #options: RecoverOptions;
  readonly #folder: DataFolder;
  readonly #plan: RecoveryPlan;
  readonly #apps: RecoveredApp[] = [];
  readonly #failed: { readonly app: RecoveryItem; readonly error: Error }[] = [];

  constructor(options: RecoverOptions, folder: DataFolder, plan: RecoveryPlan) {
    this.#options = options;
    this.#folder = folder;
    this.#plan = plan;
  }

  async run(): Promise<RecoverReport> {
    const kv = await RocksKv.open({ directory: this.#folder.kvFolder, missing: "create" });
    try {
      const service = await this.#openService(kv);
      try {
        for (const [index, item] of this.#plan.items.entries()) await this.#item(item, index, { service, kv });
        await service.syncCatalogue();
      } finally {
        await service.close();
      }
      await kv.sync();
    } finally {
      await kv.close();
    }
    await endRecovery(this.#folder);
    return { apps: this.#apps, failed: this.#failed };
  }

  #openService(kv: RocksKv): Promise<MetadataService> {
    const { clock, log, newId, journalLimits } = this.#options;
    const { blocks, bsize } = statfsSync(this.#folder.path, { bigint: true });
    const { segmentBytesMax } = limitsForDisk(blocks * bsize);
    return MetadataService.open({
      folder: this.#folder.path,
      kv,
      clock,
      log,
      newId,
      archiveOf: (app) => this.#archiveOf(app, kv),
      journalLimits: { segmentBytesMax, ...journalLimits },
    });
  }

  async #archiveOf(
    { appId, slot }: { readonly appId: AppId; readonly slot: number },
    kv: RocksKv,
  ): Promise<RepositoryArchive | undefined> {
    const file = await readArchiveFile(this.#folder.path, appId);
    if (file === undefined) return undefined;
    const { repository, log, timers } = this.#options;
    const index = new ArchiveIndex(kv, slot);
    return new RepositoryArchive({ ...file, index, connect: () => repository.openApp(file.sourceApp), log, timers });
  }

  async #item(
    app: RecoveryItem,
    index: number,
    { service, kv }: { readonly service: MetadataService; readonly kv: RocksKv },
  ): Promise<void> {
    const { onProgress, log, signal } = this.#options;
    const tell = (progress: Omitted<RecoverProgress>): void =>
      onProgress?.({ ...progress, app, appNumber: index + 1, appCount: this.#plan.items.length });
    try {
      let cutShort: string | undefined;
      if (service.get(app.appId) === undefined) {
        const laid = await layApp({
          ...this.#options,
          folder: this.#folder,
          item: app,
          kv,
          service,
          onProgress: (progress) => tell({ kind: "rows", ...progress }),
          ...(signal === undefined ? {} : { signal }),
        });
        cutShort = laid.cutShort?.message;
        await service.open(laid.row);
      }
      const done = await this.#hydrate(app, service, (bytesDone) => tell({ kind: "data", bytesDone }));
      this.#apps.push({ ...app, ...done, ...(cutShort === undefined ? {} : { cutShort }) });
      tell({ kind: "done" });
    } catch (error) {
      if (!isOfTheApp(error)) throw error;
      log.alarm("an app can't be recovered: what the repository has of it is damaged", { app: app.name, cause: error });
      this.#failed.push({ app, error: error as Error });
    }
  }

  async #hydrate(
    app: RecoveryItem,
    service: MetadataService,
    onProgress: (bytesDone: number) => void,
  ): Promise<Omit<RecoveredApp, keyof RecoveryItem>> {
    const { clock, timers, turns, log, signal } = this.#options;
    const file = await readArchiveFile(this.#folder.path, app.appId);
    const open = service.get(app.appId);
    const source = open?.core.archive;
    const lsn = file?.lastLsn ?? (0 as Lsn);
    const nothing = { lsn, time: file?.lastTime, bytes: 0, damagedBytes: 0 };
    if (file === undefined || open === undefined || !(source instanceof RepositoryArchive)) return nothing;
    if (this.#plan.lazy || file.isHydrated) return nothing;
    const hydrator = new Hydrator({ app: open, source, clock, timers, turns, log, onProgress });
    const report = await hydrator.run(signal);
    const isHydrated = report.damagedBytes === 0;
    if (isHydrated) await source.hydrated();
    await writeArchiveFile(this.#folder.path, app.appId, { ...file, isHydrated });
    return { ...nothing, ...report };
  }
}

/** A disk too small says so in words that help. */
function asNoSpace(error: unknown, folder: string): unknown {
  const { code } = error as { code?: unknown };
  if (code !== "ENOSPC" && code !== "KV_NO_SPACE") return error;
  const message = `there is no room for the apps' data in ${folder}: make some and run the same again, which goes on; or recover with --lazy`;
  return new TidemarkError("NO_SPACE", message, { cause: error });
}

type Omitted<T> = T extends unknown ? Omit<T, "app" | "appNumber" | "appCount"> : never;

/** Damage in what the repository has of one app: the others can be recovered all the same. */
function isOfTheApp(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  return typeof code === "string" && APP_ERRORS.has(code);
}

const APP_ERRORS: ReadonlySet<string> = new Set([
  "DATA_DAMAGED",
  "NOT_FOUND",
  "REPOSITORY_DAMAGED",
  "REPOSITORY_NEWER",
]);
