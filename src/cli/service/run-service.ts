import { randomBytes } from "node:crypto";
import { existsSync, statfsSync } from "node:fs";
import path from "node:path";
import type { Hydrations } from "../../backup/hydrations.ts";
import { present } from "../../base/assert.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { SystemTimers } from "../../base/timers.ts";
import type { AdminApi } from "../../domain/admin-api.ts";
import type { SupervisorStatus } from "../../domain/admin-status.ts";
import type { AppId } from "../../domain/ids.ts";
import type { AppRef } from "../../domain/share-path.ts";
import { NotificationLanes } from "../../gateway/fuse/notification-lanes.ts";
import { FuseLoop } from "../../gateway/fuse/poll-loop.ts";
import { DataFolder } from "../../journal/data-folder.ts";
import { SpaceReserve } from "../../journal/space-reserve.ts";
import { KvError } from "../../kv/kv-error.ts";
import { RocksKv } from "../../kv/rocks-kv.ts";
import { ApplyWorkerPool } from "../../meta/apply-worker-pool.ts";
import { CatalogueAdmin } from "../../meta/catalogue-api.ts";
import type { OpenApp } from "../../meta/open-app.ts";
import type { Purges } from "../../meta/purge/purges.ts";
import { Changes } from "../../meta/reading/changes.ts";
import { History } from "../../meta/reading/history.ts";
import { Reading } from "../../meta/reading/reading.ts";
import { Snapshots } from "../../meta/reading/snapshots.ts";
import { SystemTurns } from "../../meta/reading/turns.ts";
import { Restores } from "../../meta/restore/restores.ts";
import { MetadataService } from "../../meta/service.ts";
import { limitsForDisk } from "../../meta/space/disk-limits.ts";
import { SpaceKeeper } from "../../meta/space/space-keeper.ts";
import { heldAdmin } from "../../meta/tokens/doors.ts";
import { ADMIN_SOCKET_NAME, AdminServer } from "../../rpc/admin-server.ts";
import { adminServices } from "../../rpc/admin-services.ts";
import type { DefectListener } from "../../rpc/grpc-service.ts";
import type { NetworkServer } from "../../rpc/network-server.ts";
import { AlarmLog } from "./alarms.ts";
import { auditedAdmin } from "./audited-admin.ts";
import type { Backups } from "./backups.ts";
import { archives, composeBackups, composeHydrations } from "./compose-backups.ts";
import { composePurges, finishPurges } from "./compose-purges.ts";
import { composeSessions } from "./compose-sessions.ts";
import { type ComposedTokens, composeTokens } from "./compose-tokens.ts";
import type { ListenOptions } from "./listen-options.ts";
import type { MountHost } from "./mount-host.ts";
import { MountTokens } from "./mount-tokens.ts";
import { Mounts } from "./mounts.ts";
import { composeNetwork, type Network } from "./network.ts";
import { Retentions } from "./retentions.ts";
import { SeenRestores } from "./seen-restores.ts";
import { Status } from "./status.ts";

export type RunServiceOptions = {
  readonly dataFolder: string;
  readonly historyBytesMax: bigint | undefined;
  /** How to listen for other nodes; undefined: not at all. */
  readonly listen?: ListenOptions | undefined;
  readonly version: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Makes the host of mounts. */
  readonly host: MountHost;
  readonly supervisor: () => SupervisorStatus;
  /** Variables such as AWS_ACCESS_KEY_ID: where credentials of S3 are looked for that a repository has not. */
  readonly environment: Readonly<Record<string, string | undefined>>;
};

/** How long the process before may take to end, when the supervisor has started this one in its place. */
const LOCK_WAIT_MS = 10_000;
/** At the first start the folder is more likely in use, and a person waits to be told so. */
const LOCK_WAIT_FIRST_MS = 1_000;

/** Calls under way when the service stops get this long. */
const ADMIN_GRACE_MS = 2_000;

/** A running service, and the way to end it. */
export type RunningService = {
  /** Unmounts everything, makes everything durable, closes. Once. */
  stop(): Promise<void>;
};

/** Opens the data folder and everything in it, goes on with its mounts, and serves the admin API. Throws TidemarkError, KvError; nothing is left open then. */
export async function runService(options: RunServiceOptions): Promise<RunningService> {
  const { clock } = options;
  const log = new AlarmLog(options.log, clock);
  const closers: (() => Promise<void> | void)[] = [];
  const closeAll = async (): Promise<void> => {
    for (const close of closers.reverse()) await close();
  };
  try {
    const late: Late = {};
    const stored = await openService(options, { log, late, onClose: (close) => closers.push(close) });
    const { folder, limits, reserve, kv, service } = stored;
    const { reserveBytes } = limits;
    const timers = new SystemTimers();
    const hydrations = composeHydrations({ ...options, folder, service, log });
    closers.push(() => hydrations.stop());
    const shipping = await composeBackups({ ...options, folder, service, kv, reserveBytes, log });
    const { backups } = shipping;
    closers.push(() => shipping.stop());
    const { keeper, retentions } = spaceKeeper({ ...options, reserve, backups }, service, log);
    Object.assign(late, { keeper, backups });
    closers.push(() => keeper.stop());
    const lanes = new NotificationLanes((lane) => options.host.notificationWriter(lane));
    closers.push(() => lanes.close());
    const loop = new FuseLoop({ clock });
    const composed = await composeTokens({ service, folder, clock, timers, log });
    closers.push(() => composed.stop());
    const { tokens, audit } = composed;
    const sessions = composeSessions({ service, tokens, audit, clock, timers, log });
    // Before the mounts: then orphans end that nobody holds.
    await sessions.start();
    const { host } = options;
    const mountTokens = new MountTokens(composed);
    const dataFolder = folder.path;
    const endSession = sessions.end;
    const mounts = new Mounts({ service, loop, lanes, timers, host, log, dataFolder, tokens: mountTokens, endSession });
    closers.push(() => mounts.stop());
    await mounts.start();
    keeper.start();
    shipping.start();
    hydrations.start();
    const network = await composeNetwork({
      ...{ dataFolder, service, listen: options.listen, clock, timers, log },
      restarted: options.supervisor().restartCount > 0,
      sessionCount: (node) => sessions.sessions.countOf(node),
      audit,
    });
    const parts = { options, service, mounts, log, folder, keeper, reserve, backups, retentions, hydrations, network };
    const { api: roles, restores, purges } = adminApi(parts);
    const api = withTokens(roles, { service, composed });
    closers.push(() => restores.close());
    for (const app of service.openApps()) resume(restores, app, log);
    finishPurges(purges, service.openApps(), log);
    closers.push(() => purges.close());
    const server = await listen(api, folder, log);
    closers.push(() => server.close({ graceMs: ADMIN_GRACE_MS }));
    closers.push(() => network.stop());
    closers.push(() => sessions.stop());
    sessions.serve(network.server);
    serveCalls(network.server, heldAdmin({ api, service, tokens, audit }), log);
    await network.start();
    return { stop: closeAll };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

/** What the service needs before it is there itself. */
type Late = { keeper?: SpaceKeeper; backups?: Backups };

/** Opens the data folder, its rows and its apps. What was opened is given to `onClose` one by one, to be closed in the reverse order. */
async function openService(
  options: RunServiceOptions,
  parts: { readonly log: Log; readonly late: Late; readonly onClose: (close: () => Promise<void> | void) => void },
): Promise<{
  readonly folder: DataFolder;
  readonly limits: ReturnType<typeof limitsForDisk>;
  readonly reserve: SpaceReserve;
  readonly kv: RocksKv;
  readonly service: MetadataService;
}> {
  const { clock } = options;
  const { log, late, onClose } = parts;
  const folder = await openFolder(options, log);
  onClose(() => folder.close());
  const limits = limitsForDisk(totalBytesOf(folder.path));
  const reserve = new SpaceReserve({ folder: folder.path, bytes: limits.reserveBytes, clock, log });
  const kv = await openKv(path.join(folder.path, "kv"), reserve);
  onClose(() => kv.close());
  const pool = new ApplyWorkerPool(kv);
  onClose(() => pool.close());
  reserve.take();
  const service = await MetadataService.open({
    folder: folder.path,
    kv,
    clock,
    log,
    newId: () => randomBytes(16).toString("hex"),
    backend: (app) => pool.backend(app),
    archiveOf: archives({ ...options, folder, kv, log }),
    journalLimits: { segmentBytesMax: limits.segmentBytesMax },
    reserve,
    onNoSpace: () => late.keeper?.kick(),
    refusal: (appId) => late.backups?.refusalOf(appId),
    makeRoom: async () => (await late.keeper?.makeRoom()) ?? false,
  });
  onClose(() => service.close());
  return { folder, limits, reserve, kv, service };
}

function openFolder({ dataFolder, clock, supervisor }: RunServiceOptions, log: Log): Promise<DataFolder> {
  const lockWaitMs = supervisor().restartCount > 0 ? LOCK_WAIT_MS : LOCK_WAIT_FIRST_MS;
  return DataFolder.open({ path: dataFolder, clock, log, lockWaitMs, timers: new SystemTimers() });
}

function listen(api: AdminApi, folder: DataFolder, log: Log): Promise<AdminServer> {
  const socketPath = path.join(folder.path, ADMIN_SOCKET_NAME);
  return AdminServer.listen({ api, socketPath, onDefect: defectLogger(log) });
}

/** The same calls for the network. */
function serveCalls(server: NetworkServer | undefined, held: AdminApi, log: Log): void {
  if (server === undefined) return;
  for (const { definition, implementation } of adminServices(held, defectLogger(log)))
    server.add(definition, implementation);
}

function defectLogger(log: Log): DefectListener {
  return (defect, method) => {
    const cause = defect instanceof Error ? defect.cause : undefined;
    log.error("a call failed by a defect", { error: defect, cause, method });
  };
}

/** RocksDB writes files of its own to open: where a full disk has no room for them, the reserve is given up. */
async function openKv(directory: string, reserve: SpaceReserve): Promise<RocksKv> {
  try {
    return await RocksKv.open({ directory, missing: "create" });
  } catch (error) {
    if (!(error instanceof KvError && error.code === "KV_NO_SPACE")) throw error;
    reserve.release();
    return await RocksKv.open({ directory, missing: "create" });
  }
}

function totalBytesOf(folder: string): bigint {
  const { blocks, bsize } = statfsSync(folder, { bigint: true });
  return blocks * bsize;
}

function resume(restores: Restores, app: Parameters<Restores["resumeRestores"]>[0], log: Log): void {
  restores
    .resumeRestores(app)
    .catch((error: unknown) => log.error("a restore could not be continued", { error: String(error) }));
}

type Parts = {
  readonly options: RunServiceOptions;
  readonly service: MetadataService;
  readonly mounts: Mounts;
  readonly log: AlarmLog;
  readonly folder: DataFolder;
  readonly keeper: SpaceKeeper;
  readonly reserve: SpaceReserve;
  readonly backups: Backups;
  readonly retentions: Retentions;
  readonly hydrations: Hydrations;
  readonly network: Network;
};

function spaceKeeper(
  options: RunServiceOptions & {
    readonly reserve: SpaceReserve;
    readonly backups: Backups;
  },
  service: MetadataService,
  log: Log,
): { readonly keeper: SpaceKeeper; readonly retentions: Retentions } {
  const { historyBytesMax, clock } = options;
  const late: { keeper?: SpaceKeeper } = {};
  const retentions = new Retentions({ service, keeper: () => present(late.keeper, "the space keeper"), clock, log });
  const keeper = new SpaceKeeper({
    apps: () => service.openApps(),
    diskSpace: () => service.diskSpaceNow(),
    reserve: options.reserve,
    floorMax: (app) => options.backups.floorOf(app),
    retention: { policyOf: (app) => retentions.policyOf(app), now: () => retentions.now() },
    clock,
    timers: new SystemTimers(),
    turns: new SystemTurns(),
    log,
    ...(historyBytesMax === undefined ? {} : { historyBytesMax }),
  });
  late.keeper = keeper;
  return { keeper, retentions };
}

function adminApi({
  options,
  service,
  mounts,
  log,
  folder,
  keeper,
  reserve,
  backups,
  retentions,
  hydrations,
  network,
}: Parts): {
  readonly api: Omit<AdminApi, "tokens" | "audit">;
  readonly restores: Restores;
  readonly purges: Purges;
} {
  const { clock } = options;
  const apps = {
    find: (ref: Parameters<MetadataService["find"]>[0]) => service.find(ref),
    nameOf: (id: Parameters<MetadataService["nameOf"]>[0]) => service.nameOf(id),
  };
  const floor = (app: OpenApp) => app.core.moments.floor;
  const parts = { apps, clock, log, turns: new SystemTurns(), floor };
  const catalogue = new CatalogueAdmin(service, {
    shareMounted: (appId, shareId) => mounts.shareMounted(appId, shareId),
    appChanged: (appId) => backups.renamed(appId),
  });
  const restores = new Restores({
    ...parts,
    newId: () => service.newId(),
    mountedShares: (app) => mounts.mountedShares(app.id),
  });
  const purges = composePurges(parts, { service, mounts, backups });
  const status = new Status({
    service,
    catalogue,
    alarms: log,
    version: options.version,
    dataFolder: folder.path,
    startedAt: clock.now(),
    supervisor: options.supervisor,
    mountsMessage: mountsMessage(),
    reserveBytes: () => (reserve.held ? BigInt(limitsForDisk(service.diskSpace().totalBytes).reserveBytes) : 0n),
    historyBytesMax: () => keeper.historyBytesMax,
    space: (app) => keeper.status(app),
    listening: network.listening,
    archive: (id) => hydrations.status(id),
  });
  const api = {
    catalogue,
    snapshots: new Snapshots({ ...parts, syncMounts: (app) => mounts.writeBack(app.id) }),
    mounts,
    reading: new Reading(parts),
    history: new History(parts),
    changes: new Changes({ ...parts, timers: new SystemTimers() }),
    restores: new SeenRestores(restores, mounts),
    backups,
    retention: retentions,
    purges,
    nodes: network.admin,
    status,
  };
  return { api, restores, purges };
}

/** The whole API: every act of an administrator is in the audit log. */
function withTokens(
  roles: Omit<AdminApi, "tokens" | "audit">,
  { service, composed }: { readonly service: MetadataService; readonly composed: ComposedTokens },
): AdminApi {
  const { admin, audit } = composed;
  const appIdOf = (ref: AppRef): AppId | undefined => {
    const named = service.catalogue
      .apps()
      .filter(({ namespace, name }) => namespace === ref.namespace && name === ref.name);
    const { id } = ref;
    return named.find((app) => (id === undefined ? app.deletedAt === undefined : app.id.startsWith(id)))?.id;
  };
  return auditedAdmin({ ...roles, tokens: admin, audit: admin }, { audit, appIdOf });
}

function mountsMessage(): string {
  if (!existsSync("/dev/fuse")) return "/dev/fuse is missing: load the fuse module, or give the container the device";
  if (process.getuid?.() !== 0) return "mounting needs root";
  return "";
}
