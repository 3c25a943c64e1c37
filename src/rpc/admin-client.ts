import type { AdminApi } from "../domain/admin-api.ts";
import type { BackupApi } from "../domain/admin-backup.ts";
import type { CatalogueApi, MountApi, SnapshotApi } from "../domain/admin-catalogue.ts";
import type { ChangesApi } from "../domain/admin-changes.ts";
import type { NodesApi } from "../domain/admin-nodes.ts";
import type { PurgeApi } from "../domain/admin-purge.ts";
import type { HistoryApi, ReadingApi } from "../domain/admin-reading.ts";
import type { RestoreApi } from "../domain/admin-restore.ts";
import type { RetentionApi } from "../domain/admin-retention.ts";
import type { StatusApi } from "../domain/admin-status.ts";
import type { AuditApi, TokenApi } from "../domain/admin-token.ts";
import { TidemarkError } from "../domain/errors.ts";
import { backlogPolicies, fromBackup, fromBackupProgress, fromRepository } from "./codec/backup.ts";
import {
  deletedFilters,
  fromApp,
  fromMount,
  fromShare,
  fromSnapshot,
  toMountRequest,
  viewsOptions,
} from "./codec/catalogue.ts";
import { fromChangesPage, fromShareDeltaPage, toChangesRequest, toShareDeltaRequest } from "./codec/changes.ts";
import { fromResolvedMoment, toMoment, toSharePath } from "./codec/common.ts";
import { fromDiffEntry, fromFoundName, fromLogRecord, fromVersion, toLogRequest } from "./codec/history.ts";
import { fromInvite, fromNode } from "./codec/nodes.ts";
import { fromPlan, fromPurged, toOrder } from "./codec/purge.ts";
import { fromExportItem, fromListEntry, fromResolvedPath, fromStat, toReadAt } from "./codec/reading.ts";
import { fromRepair } from "./codec/repair.ts";
import { fromPlanItem, fromProgress, fromRestoreInfo, toTask } from "./codec/restore.ts";
import { fromForecast, fromRetention, toPolicy } from "./codec/retention.ts";
import { fromAppStatus, fromServiceStatus } from "./codec/status.ts";
import { buffer, maybe, wide } from "./codec/values.ts";
import { BackupService } from "./gen/tidemark/v1/backup_pb.ts";
import { CatalogueService, MountService, SnapshotService } from "./gen/tidemark/v1/catalogue_pb.ts";
import { ChangesService } from "./gen/tidemark/v1/changes_pb.ts";
import { HistoryService } from "./gen/tidemark/v1/history_pb.ts";
import { NodeAdminService } from "./gen/tidemark/v1/node_pb.ts";
import { PurgeService } from "./gen/tidemark/v1/purge_pb.ts";
import { ReadingService } from "./gen/tidemark/v1/reading_pb.ts";
import { RestoreService } from "./gen/tidemark/v1/restore_pb.ts";
import { RetentionService } from "./gen/tidemark/v1/retention_pb.ts";
import { StatusService } from "./gen/tidemark/v1/status_pb.ts";
import { GrpcCaller } from "./grpc-caller.ts";
import { auditClient, tokenClient } from "./token-client.ts";

/** AdminApi of a service that listens on a Unix socket, the other end of AdminServer; or of one elsewhere, which holds each call to the token that is sent with it. */
export class AdminClient implements AdminApi {
  readonly catalogue: CatalogueApi;
  readonly snapshots: SnapshotApi;
  readonly mounts: MountApi;
  readonly reading: ReadingApi;
  readonly history: HistoryApi;
  readonly changes: ChangesApi;
  readonly restores: RestoreApi;
  readonly backups: BackupApi;
  readonly retention: RetentionApi;
  readonly purges: PurgeApi;
  readonly nodes: NodesApi;
  readonly tokens: TokenApi;
  readonly audit: AuditApi;
  readonly status: StatusApi;
  readonly #caller: GrpcCaller;

  /** Connects at the first call. UNAVAILABLE, then or now, when no service listens at `socketPath`. */
  constructor(options: ConstructorParameters<typeof GrpcCaller>[0]) {
    const caller = new GrpcCaller(options);
    this.#caller = caller;
    this.catalogue = catalogueClient(caller);
    this.snapshots = snapshotClient(caller);
    this.mounts = mountClient(caller);
    this.reading = readingClient(caller);
    this.history = historyClient(caller);
    this.changes = changesClient(caller);
    this.restores = restoreClient(caller);
    this.backups = backupClient(caller);
    this.retention = retentionClient(caller);
    this.purges = purgeClient(caller);
    this.nodes = nodesClient(caller);
    this.tokens = tokenClient(caller);
    this.audit = auditClient(caller);
    this.status = statusClient(caller);
  }

  /** Ends the connection; calls that run fail. */
  close(): void {
    this.#caller.close();
  }
}

function catalogueClient(caller: GrpcCaller): CatalogueApi {
  const { method } = CatalogueService;
  return {
    createApp: async ({ labels, ...request }, options) =>
      fromApp((await caller.unary(method.createApp, { ...request, labels: { ...labels } }, options)).app),
    listApps: ({ namespace, labels, deleted }, options) => {
      const request = { namespace, labels: { ...labels }, deleted: deletedFilters.to(deleted) };
      return map(caller.stream(method.listApps, request, options), (page) => page.apps.map(fromApp));
    },
    updateApp: async ({ app, name, labels }, options) => {
      const request = { app, name, labels: maybe(labels, (all) => ({ labels: { ...all } })) };
      return fromApp((await caller.unary(method.updateApp, request, options)).app);
    },
    deleteApp: async (request, options) => fromApp((await caller.unary(method.deleteApp, request, options)).app),
    undeleteApp: async (request, options) => fromApp((await caller.unary(method.undeleteApp, request, options)).app),
    createShare: async ({ views, ...request }, options) =>
      fromShare((await caller.unary(method.createShare, { ...request, views: viewsOptions.to(views) }, options)).share),
    listShares: ({ app, deleted }, options) => {
      const request = { app, deleted: deletedFilters.to(deleted) };
      return map(caller.stream(method.listShares, request, options), (page) => page.shares.map(fromShare));
    },
    updateShare: async ({ views, ...request }, options) => {
      const message = { ...request, views: maybe(views, (word) => viewsOptions.to(word)) };
      return fromShare((await caller.unary(method.updateShare, message, options)).share);
    },
    deleteShare: async (request, options) =>
      fromShare((await caller.unary(method.deleteShare, request, options)).share),
    undeleteShare: async (request, options) =>
      fromShare((await caller.unary(method.undeleteShare, request, options)).share),
  };
}

function snapshotClient(caller: GrpcCaller): SnapshotApi {
  const { method } = SnapshotService;
  return {
    createSnapshot: async (request, options) =>
      fromSnapshot((await caller.unary(method.createSnapshot, request, options)).snapshot),
    listSnapshots: (request, options) =>
      map(caller.stream(method.listSnapshots, request, options), (page) => page.snapshots.map(fromSnapshot)),
    deleteSnapshot: async (request, options) =>
      fromSnapshot((await caller.unary(method.deleteSnapshot, request, options)).snapshot),
  };
}

function mountClient(caller: GrpcCaller): MountApi {
  const { method } = MountService;
  return {
    mount: async (request, options) =>
      fromMount((await caller.unary(method.mount, toMountRequest(request), options)).mount),
    umount: async (request, options) => fromMount((await caller.unary(method.umount, request, options)).mount),
    listMounts: (options) => map(caller.stream(method.listMounts, {}, options), (page) => page.mounts.map(fromMount)),
  };
}

function readingClient(caller: GrpcCaller): ReadingApi {
  const { method } = ReadingService;
  return {
    resolveMoment: async ({ app, at }, options) =>
      fromResolvedMoment((await caller.unary(method.resolveMoment, { app, at: toMoment(at) }, options)).at),
    resolve: async (request, options) =>
      fromResolvedPath(await caller.unary(method.resolve, toReadAt(request), options)),
    stat: async (request, options) => fromStat(await caller.unary(method.stat, toReadAt(request), options)),
    list: (request, options) =>
      map(caller.stream(method.list, toReadAt(request), options), (page) => page.entries.map(fromListEntry)),
    read: (request, options) => {
      const message = { ...toReadAt(request), offset: request.offset, length: request.length };
      return map(caller.stream(method.read, message, options), (piece) => buffer(piece.content));
    },
    exportTree: ({ content, ranges = false, ...where }, options) => {
      const message = { ...toReadAt(where), content, ranges };
      return map(caller.stream(method.exportTree, message, options), (page) => page.items.map(fromExportItem));
    },
  };
}

function historyClient(caller: GrpcCaller): HistoryApi {
  const { method } = HistoryService;
  return {
    log: (request, options) =>
      map(caller.stream(method.log, toLogRequest(request), options), (page) => page.records.map(fromLogRecord)),
    history: ({ path, from, to, countMax }, options) => {
      const request = { path: toSharePath(path), from: maybe(from, toMoment), to: maybe(to, toMoment), countMax };
      return map(caller.stream(method.history, request, options), (page) => page.versions.map(fromVersion));
    },
    diff: ({ path, from, to }, options) => {
      const request = { path: toSharePath(path), from: toMoment(from), to: toMoment(to) };
      return map(caller.stream(method.diff, request, options), (page) => page.entries.map(fromDiffEntry));
    },
    find: ({ path, pattern, deletedOnly }, options) => {
      const request = { path: toSharePath(path), pattern, deletedOnly };
      return map(caller.stream(method.find, request, options), (page) => page.names.map(fromFoundName));
    },
  };
}

function changesClient(caller: GrpcCaller): ChangesApi {
  const { method } = ChangesService;
  return {
    changes: (request, options) =>
      map(caller.stream(method.changes, toChangesRequest(request), options), fromChangesPage),
    shareDelta: (request, options) =>
      map(caller.stream(method.shareDelta, toShareDeltaRequest(request), options), fromShareDeltaPage),
  };
}

function restoreClient(caller: GrpcCaller): RestoreApi {
  const { method } = RestoreService;
  return {
    plan: (request, options) => map(caller.stream(method.plan, { task: toTask(request) }, options), fromPlanItem),
    execute: (request, options) => map(caller.stream(method.execute, { task: toTask(request) }, options), fromProgress),
    listRestores: async (request, options) =>
      (await caller.unary(method.listRestores, request, options)).restores.map(fromRestoreInfo),
  };
}

function backupClient(caller: GrpcCaller): BackupApi {
  const { method } = BackupService;
  return {
    addRepository: async (request, options) =>
      fromRepository((await caller.unary(method.addRepository, request, options)).repository),
    removeRepository: async (request, options) =>
      fromRepository((await caller.unary(method.removeRepository, request, options)).repository),
    listRepositories: (options) =>
      map(caller.stream(method.listRepositories, {}, options), (page) => page.repositories.map(fromRepository)),
    enableBackup: async ({ onBacklog, ...request }, options) => {
      const message = { ...request, onBacklog: backlogPolicies.to(onBacklog) };
      return fromBackup((await caller.unary(method.enableBackup, message, options)).backup);
    },
    disableBackup: async (request, options) =>
      fromBackup((await caller.unary(method.disableBackup, request, options)).backup),
    backupNow: (request, options) => map(caller.stream(method.backupNow, request, options), fromBackupProgress),
    repairBackup: async (request, options) => fromRepair(await caller.unary(method.repairBackup, request, options)),
    backupStatus: (request, options) =>
      map(caller.stream(method.backupStatus, request, options), (page) => page.backups.map(fromBackup)),
  };
}

function purgeClient(caller: GrpcCaller): PurgeApi {
  const { method } = PurgeService;
  return {
    planPurge: async (request, options) =>
      fromPlan((await only(caller.stream(method.planPurge, { order: toOrder(request) }, options))).plan),
    purge: async ({ reason, ...request }, options) =>
      fromPurged(await only(caller.stream(method.purge, { order: toOrder(request), reason }, options))),
  };
}

function retentionClient(caller: GrpcCaller): RetentionApi {
  const { method } = RetentionService;
  return {
    setRetention: async ({ app, policy }, options) => {
      const request = { app, policy: toPolicy(policy) };
      return fromRetention((await caller.unary(method.setRetention, request, options)).retention);
    },
    clearRetention: async (request, options) =>
      fromRetention((await caller.unary(method.clearRetention, request, options)).retention),
    planRetention: async ({ app, policy }, options) => {
      const wanted = policy === undefined ? {} : { policy: toPolicy(policy) };
      return fromForecast(await caller.unary(method.planRetention, { app, ...wanted }, options));
    },
    listRetention: (request, options) =>
      map(caller.stream(method.listRetention, request, options), (page) => page.retentions.map(fromRetention)),
  };
}

function nodesClient(caller: GrpcCaller): NodesApi {
  const { method } = NodeAdminService;
  return {
    inviteNode: async ({ name, expiresMs }, options) =>
      fromInvite(await caller.unary(method.inviteNode, { name, expiresMs: wide(expiresMs) }, options)),
    listNodes: (options) => map(caller.stream(method.listNodes, {}, options), (page) => page.nodes.map(fromNode)),
    removeNode: async (request, options) => fromNode((await caller.unary(method.removeNode, request, options)).node),
    allowNode: async (request, options) => fromNode((await caller.unary(method.allowNode, request, options)).node),
  };
}

function statusClient(caller: GrpcCaller): StatusApi {
  const { method } = StatusService;
  return {
    serviceStatus: async (options) => fromServiceStatus(await caller.unary(method.serviceStatus, {}, options)),
    appStatus: (request, options) =>
      map(caller.stream(method.appStatus, request, options), (page) => page.apps.map(fromAppStatus)),
  };
}

/** The one message of a stream. */
async function only<T>(messages: AsyncIterable<T>): Promise<T> {
  for await (const message of messages) return message;
  throw new TidemarkError("INTERNAL", "the service answered nothing");
}

async function* map<A, B>(items: AsyncIterable<A>, convert: (item: A) => B): AsyncGenerator<B, void, undefined> {
  for await (const item of items) yield convert(item);
}
