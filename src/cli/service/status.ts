import type { Timestamp } from "../../base/clock.ts";
import { PAGE_ITEMS_MAX } from "../../domain/admin-call.ts";
import type { AppInfo, CatalogueApi } from "../../domain/admin-catalogue.ts";
import type { AppStatus, ServiceStatus, StatusApi, SupervisorStatus } from "../../domain/admin-status.ts";
import type { AppId } from "../../domain/ids.ts";
import { formatAppRef } from "../../domain/share-path.ts";
import type { OpenApp } from "../../meta/open-app.ts";
import type { MetadataService } from "../../meta/service.ts";
import type { AlarmLog } from "./alarms.ts";

export type StatusParts = {
  readonly service: MetadataService;
  readonly catalogue: CatalogueApi;
  readonly alarms: AlarmLog;
  readonly version: string;
  readonly dataFolder: string;
  readonly startedAt: Timestamp;
  readonly supervisor: () => SupervisorStatus;
  /** What is missing for mounts; empty when nothing is. */
  readonly mountsMessage: string;
  readonly reserveBytes: () => bigint;
  readonly historyBytesMax: () => bigint;
  readonly space: (app: OpenApp) => {
    readonly liveBytes: bigint;
    readonly historyBytes: bigint;
    readonly reclaimableBytes: bigint;
    readonly oldest?: AppStatus["oldest"];
  };
  /** Where nodes reach the service. */
  readonly listening: () => readonly string[];
  readonly archive: (id: AppId) => AppStatus["archive"];
};

/** What `tidemark status` shows, from counters that are there anyway: it reads nothing and walks nothing. */
export class Status implements StatusApi {
  readonly #parts: StatusParts;

  constructor(parts: StatusParts) {
    this.#parts = parts;
  }

  async serviceStatus(): Promise<ServiceStatus> {
    const {
      service,
      alarms,
      version,
      dataFolder,
      startedAt,
      supervisor,
      mountsMessage,
      reserveBytes,
      historyBytesMax,
      listening,
    } = this.#parts;
    return {
      version,
      pid: process.pid,
      dataFolder,
      startedAt,
      supervisor: supervisor(),
      canMount: mountsMessage === "",
      mountsMessage,
      disk: { ...service.diskSpace(), reserveBytes: reserveBytes() },
      historyBytesMax: historyBytesMax(),
      memoryBytes: BigInt(process.memoryUsage.rss()),
      alarms: alarms.alarms.map((alarm) => ({ ...alarm, app: this.#appName(alarm.app) })),
      listening: listening(),
    };
  }

  async *appStatus(request: { withDeleted: boolean }): AsyncGenerator<readonly AppStatus[]> {
    const { catalogue, service } = this.#parts;
    let page: AppStatus[] = [];
    for await (const apps of catalogue.listApps({ deleted: request.withDeleted ? "with" : "without" })) {
      for (const info of apps) {
        const app = service.get(info.id);
        if (app !== undefined) page.push(this.#app(info, app));
        if (page.length === PAGE_ITEMS_MAX) {
          yield page;
          page = [];
        }
      }
    }
    if (page.length > 0) yield page;
  }

  /** What the app of an alarm is called now; the system's own has no name. */
  #appName(id: string): string {
    const row = this.#parts.service.catalogue.app(id as AppId);
    return row === undefined ? id : formatAppRef({ namespace: row.namespace, name: row.name });
  }

  #app(info: AppInfo, app: OpenApp): AppStatus {
    const { core, journal, store, engine } = app;
    const segments = journal.segments();
    const { oldest, ...space } = this.#parts.space(app);
    const archive = this.#parts.archive(app.id);
    return {
      app: info,
      lastLsn: core.lastLsn,
      durableLsn: journal.durableLsn,
      appliedLsn: store.appliedLsn,
      ...(oldest === undefined ? {} : { oldest }),
      journalBytes: segments.reduce((sum, segment) => sum + BigInt(segment.bytes), 0n),
      segmentCount: segments.length,
      ...space,
      inodeCount: core.counters.inodeCount,
      snapshotCount: app.snapshotCount(),
      stallCount: engine.stallCount,
      stallMs: Math.round(engine.stallMs),
      journalState: journal.failed ? "failed" : "open",
      ...(archive === undefined ? {} : { archive }),
    };
  }
}
