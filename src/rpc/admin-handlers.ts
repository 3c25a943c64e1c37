import type { AdminApi } from "../domain/admin-api.ts";
import type { Pages } from "../domain/admin-call.ts";
import type { ReadRequestAt } from "../domain/admin-reading.ts";
import {
  backlogPolicies,
  fromCredentials,
  fromLocation,
  toBackup,
  toBackupProgress,
  toRepository,
} from "./codec/backup.ts";
import {
  deletedFilters,
  fromMountRequest,
  toApp,
  toMount,
  toShare,
  toSnapshot,
  viewsOptions,
} from "./codec/catalogue.ts";
import { fromChangesRequest, fromShareDeltaRequest, toChangesPage, toShareDeltaPage } from "./codec/changes.ts";
import { fromAppRef, fromMoment, fromSharePath, fromShareRef, toResolvedMoment } from "./codec/common.ts";
import { fromLogRequest, toDiffEntry, toFoundName, toLogRecord, toVersion } from "./codec/history.ts";
import { toInvite, toNode } from "./codec/nodes.ts";
import { fromOrder, toPlan, toPurged } from "./codec/purge.ts";
import { fromExportRequest, fromReadAt, toExportItem, toListEntry, toResolvedPath, toStat } from "./codec/reading.ts";
import { toRepair } from "./codec/repair.ts";
import { fromTask, toPlanItem, toProgress, toRestoreInfo } from "./codec/restore.ts";
import { fromPolicy, toForecast, toRetention } from "./codec/retention.ts";
import { toAppStatus, toServiceStatus } from "./codec/status.ts";
import { buffer, defined, maybe, safeNumber } from "./codec/values.ts";
import type { BackupService } from "./gen/tidemark/v1/backup_pb.ts";
import type { CatalogueService, MountService, SnapshotService } from "./gen/tidemark/v1/catalogue_pb.ts";
import type { ChangesService } from "./gen/tidemark/v1/changes_pb.ts";
import type { HistoryService } from "./gen/tidemark/v1/history_pb.ts";
import type { NodeAdminService } from "./gen/tidemark/v1/node_pb.ts";
import type { PurgeService } from "./gen/tidemark/v1/purge_pb.ts";
import type { ReadingService } from "./gen/tidemark/v1/reading_pb.ts";
import type { RestoreService } from "./gen/tidemark/v1/restore_pb.ts";
import type { RetentionService } from "./gen/tidemark/v1/retention_pb.ts";
import type { StatusService } from "./gen/tidemark/v1/status_pb.ts";
import type { ServiceHandlers } from "./grpc-service.ts";

/** One function for each gRPC service: its methods, carried out by a role of AdminApi. Requests are checked on the way in. */

export function catalogueHandlers({ catalogue }: AdminApi): ServiceHandlers<typeof CatalogueService> {
  return {
    createApp: async ({ namespace, name, labels }, options) => ({
      app: toApp(await catalogue.createApp({ namespace, name, labels }, options)),
    }),
    listApps: ({ namespace, labels, deleted }, options) =>
      mapPages(
        () => catalogue.listApps(defined({ namespace, labels, deleted: deletedFilters.from(deleted) }), options),
        (apps) => ({ apps: apps.map(toApp) }),
      ),
    updateApp: async ({ app, name, labels }, options) => ({
      app: toApp(await catalogue.updateApp(defined({ app: fromAppRef(app), name, labels: labels?.labels }), options)),
    }),
    deleteApp: async ({ app }, options) => ({
      app: toApp(await catalogue.deleteApp({ app: fromAppRef(app) }, options)),
    }),
    undeleteApp: async ({ app, name }, options) => ({
      app: toApp(await catalogue.undeleteApp(defined({ app: fromAppRef(app), name }), options)),
    }),
    createShare: async ({ app, name, views }, options) => ({
      share: toShare(
        await catalogue.createShare({ app: fromAppRef(app), name, views: viewsOptions.from(views) }, options),
      ),
    }),
    listShares: ({ app, deleted }, options) =>
      mapPages(
        () =>
          catalogue.listShares(
            defined({ app: maybe(app, fromAppRef), deleted: deletedFilters.from(deleted) }),
            options,
          ),
        (shares) => ({ shares: shares.map(toShare) }),
      ),
    updateShare: async ({ app, share, name, views }, options) => {
      const changes = { name, views: maybe(views, (number) => viewsOptions.from(number)) };
      const request = defined({ app: fromAppRef(app), share: fromShareRef(share), ...changes });
      return { share: toShare(await catalogue.updateShare(request, options)) };
    },
    deleteShare: async ({ app, share }, options) => ({
      share: toShare(await catalogue.deleteShare({ app: fromAppRef(app), share: fromShareRef(share) }, options)),
    }),
    undeleteShare: async ({ app, share, name }, options) => {
      const request = defined({ app: fromAppRef(app), share: fromShareRef(share), name });
      return { share: toShare(await catalogue.undeleteShare(request, options)) };
    },
  };
}

export function snapshotHandlers({ snapshots }: AdminApi): ServiceHandlers<typeof SnapshotService> {
  return {
    createSnapshot: async ({ app, name, syncMounts }, options) => ({
      snapshot: toSnapshot(await snapshots.createSnapshot({ app: fromAppRef(app), name, syncMounts }, options)),
    }),
    listSnapshots: ({ app }, options) =>
      mapPages(
        () => snapshots.listSnapshots({ app: fromAppRef(app) }, options),
        (page) => ({ snapshots: page.map(toSnapshot) }),
      ),
    deleteSnapshot: async ({ app, name }, options) => ({
      snapshot: toSnapshot(await snapshots.deleteSnapshot({ app: fromAppRef(app), name }, options)),
    }),
  };
}

export function mountHandlers({ mounts }: AdminApi): ServiceHandlers<typeof MountService> {
  return {
    mount: async (request, options) => ({ mount: toMount(await mounts.mount(fromMountRequest(request), options)) }),
    umount: async ({ target, lazy }, options) => ({ mount: toMount(await mounts.umount({ target, lazy }, options)) }),
    listMounts: (_, options) =>
      mapPages(
        () => mounts.listMounts(options),
        (page) => ({ mounts: page.map(toMount) }),
      ),
  };
}

export function readingHandlers({ reading }: AdminApi): ServiceHandlers<typeof ReadingService> {
  return {
    resolveMoment: async ({ app, at }, options) => ({
      at: toResolvedMoment(await reading.resolveMoment({ app: fromAppRef(app), at: fromMoment(at) }, options)),
    }),
    resolve: async (request, options) => toResolvedPath(await reading.resolve(fromReadAt(request), options)),
    stat: async (request, options) => toStat(await reading.stat(fromReadAt(request), options)),
    list: (request, options) =>
      mapPages(
        () => reading.list(fromReadAt(request), options),
        (entries) => ({ entries: entries.map(toListEntry) }),
      ),
    read: (request, options) => {
      const read = (): AsyncIterable<Buffer> => {
        const where: ReadRequestAt = fromReadAt(request);
        return reading.read(defined({ ...where, offset: request.offset, length: request.length }), options);
      };
      return mapStream(read, (content) => ({ content }));
    },
    exportTree: (request, options) =>
      mapPages(
        () => reading.exportTree(fromExportRequest(request), options),
        (items) => ({ items: items.map(toExportItem) }),
      ),
  };
}

export function historyHandlers({ history }: AdminApi): ServiceHandlers<typeof HistoryService> {
  return {
    log: (request, options) =>
      mapPages(
        () => history.log(fromLogRequest(request), options),
        (records) => ({ records: records.map(toLogRecord) }),
      ),
    history: ({ path, from, to, countMax }, options) => {
      const request = () =>
        defined({ path: fromSharePath(path), from: maybe(from, fromMoment), to: maybe(to, fromMoment), countMax });
      return mapPages(
        () => history.history(request(), options),
        (versions) => ({ versions: versions.map(toVersion) }),
      );
    },
    diff: ({ path, from, to }, options) =>
      mapPages(
        () => history.diff({ path: fromSharePath(path), from: fromMoment(from), to: fromMoment(to) }, options),
        (entries) => ({ entries: entries.map(toDiffEntry) }),
      ),
    find: ({ path, pattern, deletedOnly }, options) =>
      mapPages(
        () => history.find({ path: fromSharePath(path), pattern: buffer(pattern), deletedOnly }, options),
        (names) => ({ names: names.map(toFoundName) }),
      ),
  };
}

/** Also for the network: there `changes` is one behind a guard. */
export function changesHandlers({ changes }: Pick<AdminApi, "changes">): ServiceHandlers<typeof ChangesService> {
  return {
    changes: (request, options) =>
      mapStream(() => changes.changes(fromChangesRequest(request), options), toChangesPage),
    shareDelta: (request, options) =>
      mapStream(() => changes.shareDelta(fromShareDeltaRequest(request), options), toShareDeltaPage),
  };
}

export function restoreHandlers({ restores }: AdminApi): ServiceHandlers<typeof RestoreService> {
  return {
    plan: ({ task }, options) => mapStream(() => restores.plan(fromTask(task), options), toPlanItem),
    execute: ({ task }, options) => mapStream(() => restores.execute(fromTask(task), options), toProgress),
    listRestores: async ({ app, countMax }, options) => ({
      restores: (await restores.listRestores({ app: fromAppRef(app), countMax }, options)).map(toRestoreInfo),
    }),
  };
}

export function backupHandlers({ backups }: AdminApi): ServiceHandlers<typeof BackupService> {
  return {
    addRepository: async ({ name, location, keyFile, credentials }, options) => {
      const secrets = { keyFile: buffer(keyFile), credentials: maybe(credentials, fromCredentials) };
      const request = defined({ name, location: fromLocation(location), ...secrets });
      return { repository: toRepository(await backups.addRepository(request, options)) };
    },
    removeRepository: async ({ name }, options) => ({
      repository: toRepository(await backups.removeRepository({ name }, options)),
    }),
    listRepositories: (_, options) =>
      mapPages(
        () => backups.listRepositories(options),
        (page) => ({ repositories: page.map(toRepository) }),
      ),
    enableBackup: async ({ app, repository, everyMs, onBacklog }, options) => {
      const request = { app: fromAppRef(app), repository, everyMs, onBacklog: backlogPolicies.from(onBacklog) };
      return { backup: toBackup(await backups.enableBackup(request, options)) };
    },
    disableBackup: async ({ app }, options) => ({
      backup: toBackup(await backups.disableBackup({ app: fromAppRef(app) }, options)),
    }),
    backupNow: ({ app }, options) =>
      mapStream(() => backups.backupNow({ app: fromAppRef(app) }, options), toBackupProgress),
    repairBackup: async ({ app, readPart, dryRun }, options) =>
      toRepair(await backups.repairBackup({ app: fromAppRef(app), readPart, dryRun }, options)),
    backupStatus: ({ app }, options) =>
      mapPages(
        () => backups.backupStatus(defined({ app: maybe(app, fromAppRef) }), options),
        (page) => ({ backups: page.map(toBackup) }),
      ),
  };
}

export function purgeHandlers({ purges }: AdminApi): ServiceHandlers<typeof PurgeService> {
  return {
    planPurge: async function* ({ order }, options) {
      yield { plan: toPlan(await purges.planPurge(fromOrder(order), options)) };
    },
    purge: async function* ({ order, reason }, options) {
      yield toPurged(await purges.purge({ ...fromOrder(order), reason }, options));
    },
  };
}

export function retentionHandlers({ retention }: AdminApi): ServiceHandlers<typeof RetentionService> {
  return {
    setRetention: async ({ app, policy }, options) => {
      const request = { app: fromAppRef(app), policy: fromPolicy(policy) };
      return { retention: toRetention(await retention.setRetention(request, options)) };
    },
    clearRetention: async ({ app }, options) => ({
      retention: toRetention(await retention.clearRetention({ app: fromAppRef(app) }, options)),
    }),
    planRetention: async ({ app, policy }, options) => {
      const wanted = policy === undefined ? {} : { policy: fromPolicy(policy) };
      return toForecast(await retention.planRetention({ app: fromAppRef(app), ...wanted }, options));
    },
    listRetention: ({ app }, options) =>
      mapPages(
        () => retention.listRetention(defined({ app: maybe(app, fromAppRef) }), options),
        (page) => ({ retentions: page.map(toRetention) }),
      ),
  };
}

export function nodeAdminHandlers({ nodes }: AdminApi): ServiceHandlers<typeof NodeAdminService> {
  return {
    inviteNode: async ({ name, expiresMs }, options) =>
      toInvite(await nodes.inviteNode({ name, expiresMs: safeNumber(expiresMs, "expires_ms") }, options)),
    listNodes: (_, options) =>
      mapPages(
        () => nodes.listNodes(options),
        (page) => ({ nodes: page.map(toNode) }),
      ),
    removeNode: async ({ name }, options) => ({ node: toNode(await nodes.removeNode({ name }, options)) }),
    allowNode: async ({ name, oldCertificates }, options) => ({
      node: toNode(await nodes.allowNode({ name, oldCertificates }, options)),
    }),
  };
}

export function statusHandlers({ status }: AdminApi): ServiceHandlers<typeof StatusService> {
  return {
    serviceStatus: async (_, options) => toServiceStatus(await status.serviceStatus(options)),
    appStatus: ({ withDeleted }, options) =>
      mapPages(
        () => status.appStatus({ withDeleted }, options),
        (apps) => ({ apps: apps.map(toAppStatus) }),
      ),
  };
}

/** `open` is called at the first step, so that a malformed request fails the stream like anything else. */
async function* mapStream<A, B>(
  open: () => AsyncIterable<A>,
  convert: (item: A) => B,
): AsyncGenerator<B, void, undefined> {
  for await (const item of open()) yield convert(item);
}

function mapPages<A, B>(open: () => Pages<A>, convert: (page: readonly A[]) => B): AsyncGenerator<B, void, undefined> {
  return mapStream<readonly A[], B>(open, convert);
}
