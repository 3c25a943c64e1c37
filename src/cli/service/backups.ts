import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Timers } from "../../base/timers.ts";
import {
  BACKUP_EVERY_MS_MAX,
  BACKUP_EVERY_MS_MIN,
  type BacklogPolicy,
  type BackupApi,
  type BackupProgress,
  type BackupStatus,
  type RepositoryInfo,
  type RepositoryLocation,
  type StoreCredentials,
} from "../../domain/admin-backup.ts";
import { type CallOptions, PAGE_ITEMS_MAX, type Pages } from "../../domain/admin-call.ts";
import type { BackupRepair } from "../../domain/admin-repair.ts";
import { type FsError, TidemarkError } from "../../domain/errors.ts";
import { type AppId, lsn as asLsn, LIVE, type Lsn } from "../../domain/ids.ts";
import { checkObjectName } from "../../domain/names.ts";
import type { AppRef } from "../../domain/share-path.ts";
import { formatAppRef } from "../../domain/share-path.ts";
import { contextOf } from "../../meta/catalogue-api.ts";
import type { BackupRow } from "../../meta/catalogue-rows.ts";
import type { DiskSpace, OpenApp } from "../../meta/open-app.ts";
import { newestOrder } from "../../meta/purge/write-order.ts";
import { timeOfLsn } from "../../meta/reading/time.ts";
import type { MetadataService } from "../../meta/service.ts";
import { type KnownRepositories, type KnownRepository, REPOSITORIES_MAX } from "../repository/known-repositories.ts";
import { storeFailure } from "../repository/store-failure.ts";
import type { AppShipper, Shippers } from "./app-shipper.ts";
import { repairOf } from "./backup-repairs.ts";
import { BackupRunner } from "./backup-runner.ts";
import { latestOf } from "./latest-of.ts";

/** How long enabling waits for a backup to have begun; a far store may need longer, and `status` tells. */
const BEGIN_MS_MAX = 3000;
const BEGIN_STEP_MS = 50;

export type BackupsParts = {
  readonly service: MetadataService;
  readonly known: KnownRepositories;
  readonly shippers: Shippers;
  readonly diskSpace: () => DiskSpace & { readonly reserveBytes: bigint };
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
};

/**
 * Which apps are shipped where. What is wanted is in the catalogue, so a restart goes on with it; what that takes (places, keys) is in `KnownRepositories`. One runner for each app that is backed up.
 */
export class Backups implements BackupApi {
  readonly #parts: BackupsParts;
  readonly #runners = new Map<AppId, BackupRunner>();
  /** Changes of what is wanted, one after the other. Never rejects. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(parts: BackupsParts) {
    this.#parts = parts;
  }

  /** Goes on with everything that is backed up. */
  start(): void {
    const { service, log } = this.#parts;
    for (const row of service.catalogue.backups()) {
      const app = service.get(row.appId);
      if (app !== undefined) this.#runner(app, row).start();
      else log.error("an app that is backed up is not there", { appId: row.appId });
    }
  }

  async stop(): Promise<void> {
    await this.#turn;
    await Promise.all([...this.#runners.values()].map((runner) => runner.stop()));
    this.#runners.clear();
    await this.#parts.shippers.close();
  }

  /** SpaceKeeper's bound: local history that is not protected yet stays. */
  floorOf(app: OpenApp): Lsn {
    return this.#runners.get(app.id)?.floor ?? LIVE;
  }

  /** An app is called otherwise now, or was deleted or undeleted. */
  renamed(appId: AppId): void {
    this.#runners.get(appId)?.renamed();
  }

  /** What a writer gets while its app may not fall behind further. */
  refusalOf(appId: AppId): FsError | undefined {
    return this.#runners.get(appId)?.refusal();
  }

  async addRepository(request: {
    name: string;
    location: RepositoryLocation;
    keyFile: Buffer;
    credentials?: StoreCredentials;
  }): Promise<RepositoryInfo> {
    const { known, shippers, clock } = this.#parts;
    const { name: wanted, location, keyFile, credentials } = request;
    const name = checkObjectName("repository", wanted);
    const draft = {
      name,
      location,
      secret: { kind: "key-file", text: keyFile.toString("utf8") } as const,
      ...(credentials === undefined ? {} : { credentials }),
    };
    return this.#inTurn(async () => {
      const before = await known.get(name);
      if (before === undefined && (await known.all()).length >= REPOSITORIES_MAX)
        throw new TidemarkError("FAILED_PRECONDITION", `a service knows at most ${REPOSITORIES_MAX} repositories`);
      const id = await shippers.check(draft);
      if (before !== undefined && before.id !== id)
        throw new TidemarkError(
          "ALREADY_EXISTS",
          `"${name}" is another repository (${before.location.url}): choose another name`,
        );
      const repository = { ...draft, id, addedAt: before?.addedAt ?? clock.now() };
      await known.put(repository);
      shippers.forget(name);
      for (const runner of [...this.#runners.values()].filter(({ row }) => row.repository === name))
        await this.#restart(runner.app, runner.row);
      return this.#repositoryInfo(repository);
    });
  }

  async removeRepository(request: { name: string }): Promise<RepositoryInfo> {
    const { known, shippers } = this.#parts;
    return this.#inTurn(async () => {
      const repository = await this.#repository(request.name);
      const info = this.#repositoryInfo(repository);
      if (info.appCount > 0) {
        const [first] = this.#rows().filter((row) => row.repository === repository.name);
        const app = first === undefined ? "" : formatAppRef(this.#parts.service.nameOf(first.appId));
        const message = `"${repository.name}" is in use, by ${info.appCount} of the apps: first \`tidemark backup disable ${app}\``;
        throw new TidemarkError("FAILED_PRECONDITION", message);
      }
      await known.delete(repository.name);
      shippers.forget(repository.name);
      return info;
    });
  }

  async *listRepositories(): Pages<RepositoryInfo> {
    const all = await this.#parts.known.all();
    if (all.length > 0) yield all.map((repository) => this.#repositoryInfo(repository));
  }

  async enableBackup(
    request: { app: AppRef; repository: string; everyMs: number; onBacklog: BacklogPolicy },
    options?: CallOptions,
  ): Promise<BackupStatus> {
    const { service, shippers } = this.#parts;
    const { everyMs, onBacklog } = request;
    checkEvery(everyMs);
    return this.#inTurn(async () => {
      const app = service.find(request.app);
      const repository = await this.#repository(request.repository);
      const before = service.catalogue.backups().find((row) => row.appId === app.id);
      if (before !== undefined && before.repositoryId !== repository.id) {
        const message = `it is backed up to "${before.repository}": first \`tidemark backup disable ${formatAppRef(request.app)}\``;
        throw new TidemarkError("FAILED_PRECONDITION", message);
      }
      // Opened before it is promised: what is wrong with it is said now, not in a log at night.
      await this.#runners.get(app.id)?.stop();
      const { shipper, tag } = await failing(shippers.open(app, { repository, everyMs, onBacklog }));
      const { name, id } = repository;
      const draft = { appId: app.id, repository: name, repositoryId: id, tag, everyMs, onBacklog };
      const row = service.catalogue.setBackup(draft, contextOf(options));
      await service.syncCatalogue();
      const runner = this.#runner(app, row);
      runner.start(shipper);
      // What its first look at the repository finds is worth a moment: it may be that another service ships the app.
      for (let waitedMs = 0; waitedMs < BEGIN_MS_MAX && runner.status().state === "starting"; waitedMs += BEGIN_STEP_MS)
        await this.#parts.timers.wait(BEGIN_STEP_MS);
      return await this.#status(runner);
    }, request.app);
  }

  async disableBackup(request: { app: AppRef }, options?: CallOptions): Promise<BackupStatus> {
    const { service } = this.#parts;
    return this.#inTurn(async () => {
      const runner = this.#find(request.app);
      const status = await this.#status(runner);
      service.catalogue.clearBackup(runner.app.id, contextOf(options));
      await service.syncCatalogue();
      this.#runners.delete(runner.app.id);
      await runner.stop();
      return status;
    });
  }

  async *backupNow(request: { app: AppRef }, options: CallOptions = {}): AsyncGenerator<BackupProgress> {
    const { timers } = this.#parts;
    const { signal } = options;
    const { shipper, runner } = await this.#shipperToUse(request.app);
    const { core, journal } = runner.app;
    await journal.sync(core.lastLsn);
    const progress = latestOf<BackupProgress>(timers, (tell) =>
      failing(
        shipper.now({
          ...(signal === undefined ? {} : { signal }),
          onProgress: ({ protectedLsn, targetLsn, bytesUnprotected }) =>
            tell({ kind: "progress", protectedLsn, targetLsn, unprotectedBytes: bytesUnprotected }),
        }),
      ),
    );
    yield* progress;
    yield { kind: "done", status: await this.#status(runner) };
  }

  async repairBackup(request: { app: AppRef; readPart: number; dryRun: boolean }): Promise<BackupRepair> {
    const { app: ref, readPart, dryRun } = request;
    if (!(readPart >= 0 && readPart <= 1))
      throw new TidemarkError("INVALID_ARGUMENT", `a part of ${readPart} of the data: expected 0 to 1`);
    const { app, shipper } = await this.#shipperToUse(ref);
    const report = await failing(shipper.repair({ readPart, isPlan: dryRun }));
    return repairOf(report, { app: { id: app.id, ...this.#parts.service.nameOf(app.id) }, core: app.core });
  }

  async *backupStatus(request: { app?: AppRef }): Pages<BackupStatus> {
    const runners = request.app === undefined ? [...this.#runners.values()] : [this.#find(request.app)];
    const all = (await Promise.all(runners.map((runner) => this.#status(runner)))).sort(byName);
    for (let at = 0; at < all.length; at += PAGE_ITEMS_MAX) yield all.slice(at, at + PAGE_ITEMS_MAX);
  }

  async #shipperToUse(ref: AppRef): Promise<{ app: OpenApp; runner: BackupRunner; shipper: AppShipper }> {
    const runner = this.#find(ref);
    const shipper = await failing(runner.shipper());
    const { state, message } = shipper.status();
    // Trying again would take the app over, and `now` is what scripts say on both sides.
    if (state === "fenced") throw new TidemarkError("FAILED_PRECONDITION", message ?? "another service backs it up");
    return { app: runner.app, runner, shipper };
  }

  /** A change of what is wanted, after those before it. A failure of `app` leaves its backup as it was. */
  #inTurn<T>(change: () => Promise<T>, app?: AppRef): Promise<T> {
    const mine = this.#turn.then(change).catch(async (error: unknown) => {
      if (app !== undefined) await this.#resume(app);
      throw storeFailure(error);
    });
    this.#turn = mine.catch(() => {});
    return mine;
  }

  /** Begins again with what was wanted before. */
  async #resume(ref: AppRef): Promise<void> {
    const { service } = this.#parts;
    const row = this.#rows().find((each) => each.appId === this.#idOf(ref));
    const app = row === undefined ? undefined : service.get(row.appId);
    if (row !== undefined && app !== undefined && this.#runners.get(app.id)?.stopped === true)
      await this.#restart(app, row);
  }

  async #restart(app: OpenApp, row: BackupRow): Promise<void> {
    await this.#runners.get(app.id)?.stop();
    this.#runner(app, row).start();
  }

  #runner(app: OpenApp, row: BackupRow): BackupRunner {
    const { known, shippers, diskSpace, clock, timers, log } = this.#parts;
    const open = async () => {
      const repository = await known.get(row.repository);
      if (repository === undefined)
        throw new TidemarkError("NOT_FOUND", `the repository "${row.repository}" is not known: \`tidemark repo add\``);
      const { everyMs, onBacklog } = row;
      return (await failing(shippers.open(app, { repository, everyMs, onBacklog }))).shipper;
    };
    const protectedLsn = () => shippers.protectedLsn(row.tag);
    const runner = new BackupRunner({ app, row, open, protectedLsn, diskSpace, clock, timers, log });
    this.#runners.set(app.id, runner);
    return runner;
  }

  #rows(): BackupRow[] {
    return this.#parts.service.catalogue.backups();
  }

  #idOf(ref: AppRef): AppId | undefined {
    try {
      return this.#parts.service.find(ref).id;
    } catch {
      return undefined;
    }
  }

  #find(ref: AppRef): BackupRunner {
    const app = this.#parts.service.find(ref);
    const runner = this.#runners.get(app.id);
    if (runner !== undefined) return runner;
    const name = formatAppRef(ref);
    throw new TidemarkError(
      "FAILED_PRECONDITION",
      `app "${name}" is not backed up: \`tidemark backup enable ${name}\``,
    );
  }

  async #repository(name: string): Promise<KnownRepository> {
    const repository = await this.#parts.known.get(checkObjectName("repository", name));
    if (repository !== undefined) return repository;
    const names = (await this.#parts.known.all()).map((each) => each.name);
    const hint = names.length === 0 ? "make one with `tidemark repo init`" : `it knows ${names.join(", ")}`;
    throw new TidemarkError("NOT_FOUND", `the service knows no repository "${name}": ${hint}`);
  }

  #repositoryInfo({ name, id, location, addedAt }: KnownRepository): RepositoryInfo {
    const appCount = this.#rows().filter((row) => row.repository === name).length;
    return { name, id, location, addedAt, appCount };
  }

  async #status(runner: BackupRunner): Promise<BackupStatus> {
    const { app, row } = runner;
    const { bytesUnprotected, sentBytes, state, message, protected: reached, lagMs } = runner.status();
    const { lastLsn } = app.core;
    const order = newestOrder(app.core);
    // A shipper may still be tidying up when all is protected.
    const isDone = reached !== undefined && reached.lsn >= lastLsn;
    return {
      app: { id: app.id, ...this.#parts.service.nameOf(app.id) },
      repository: row.repository,
      everyMs: row.everyMs,
      onBacklog: row.onBacklog,
      state: isDone && state === "shipping" ? "idle" : state,
      ...(message === undefined ? {} : { message }),
      ...(reached === undefined ? {} : { protected: reached }),
      lastLsn,
      lagMs: isDone ? 0 : Math.round(Math.max(0, lagMs, await this.#ageOfOldest(runner))),
      unprotectedBytes: isDone ? 0n : bytesUnprotected,
      sentBytes,
      ...(order === undefined || order <= (reached?.lsn ?? 0) ? {} : { waitingOrder: order }),
    };
  }

  /** Age in milliseconds of the first change after what is protected, by its record: a shipper knows how long something waits from its own start on, and there is none while the repository is away. */
  async #ageOfOldest({ app, reachedLsn }: BackupRunner): Promise<number> {
    if (reachedLsn >= app.core.lastLsn) return 0;
    const time = await timeOfLsn(app.core, asLsn(reachedLsn + 1));
    if (time === undefined) return 0;
    const now = this.#parts.clock.now();
    return (now.sec - time.sec) * 1000 + (now.nsec - time.nsec) / 1e6;
  }
}

/** The failures of a store and a repository as the API has them. */
async function failing<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    throw storeFailure(error);
  }
}

function checkEvery(everyMs: number): void {
  if (Number.isSafeInteger(everyMs) && everyMs >= BACKUP_EVERY_MS_MIN && everyMs <= BACKUP_EVERY_MS_MAX) return;
  const message = `an interval of ${everyMs} ms: expected ${BACKUP_EVERY_MS_MIN} ms to ${BACKUP_EVERY_MS_MAX / 1000} s`;
  throw new TidemarkError("INVALID_ARGUMENT", message);
}

function byName({ app: left }: BackupStatus, { app: right }: BackupStatus): number {
  if (left.namespace !== right.namespace) return left.namespace < right.namespace ? -1 : 1;
  return left.name < right.name ? -1 : 1;
}
