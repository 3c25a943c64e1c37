import type { BackupApi } from "./admin-backup.ts";
import type { CatalogueApi, MountApi, SnapshotApi } from "./admin-catalogue.ts";
import type { ChangesApi } from "./admin-changes.ts";
import type { NodesApi } from "./admin-nodes.ts";
import type { PurgeApi } from "./admin-purge.ts";
import type { HistoryApi, ReadingApi } from "./admin-reading.ts";
import type { RestoreApi } from "./admin-restore.ts";
import type { RetentionApi } from "./admin-retention.ts";
import type { StatusApi } from "./admin-status.ts";
import type { AuditApi, TokenApi } from "./admin-token.ts";

/**
 * The administration of a service: everything the CLI (and later CSI, Docker and web) asks for. The service implements it; over the socket
 * `src/rpc` carries it, one gRPC service for each role (proto/tidemark/v1/admin.proto), and offers the same port to clients.
 *
 * For all methods: failures are TidemarkError. Requests are plain values and are not changed or kept. A request whose names come from outside may be
 * malformed: implementations check it and throw INVALID_ARGUMENT. Methods that change nothing may be called again; a mutation
 * whose answer was lost may have happened.
 */
export interface AdminApi {
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
}
