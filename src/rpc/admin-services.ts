import type { DescService } from "@bufbuild/protobuf";
import type { ServiceDefinition, UntypedServiceImplementation } from "@grpc/grpc-js";
import type { AdminApi } from "../domain/admin-api.ts";
import {
  backupHandlers,
  catalogueHandlers,
  changesHandlers,
  historyHandlers,
  mountHandlers,
  nodeAdminHandlers,
  purgeHandlers,
  readingHandlers,
  restoreHandlers,
  retentionHandlers,
  snapshotHandlers,
  statusHandlers,
} from "./admin-handlers.ts";
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
import { AuditService, TokenService } from "./gen/tidemark/v1/token_pb.ts";
import { type DefectListener, grpcDefinition, grpcImplementation, type ServiceHandlers } from "./grpc-service.ts";
import { auditHandlers, tokenHandlers } from "./token-handlers.ts";

/** A service as grpc-js takes it. */
export type ServedService = {
  readonly definition: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
};

/** Every role of the admin API as a gRPC service. `onDefect` hears of failures that are ours. */
export function adminServices(api: AdminApi, onDefect: DefectListener): ServedService[] {
  const serve = <S extends DescService>(service: S, handlers: ServiceHandlers<S>): ServedService => ({
    definition: grpcDefinition(service),
    implementation: grpcImplementation(service, handlers, onDefect),
  });
  return [
    serve(CatalogueService, catalogueHandlers(api)),
    serve(SnapshotService, snapshotHandlers(api)),
    serve(MountService, mountHandlers(api)),
    serve(ReadingService, readingHandlers(api)),
    serve(HistoryService, historyHandlers(api)),
    serve(ChangesService, changesHandlers(api)),
    serve(RestoreService, restoreHandlers(api)),
    serve(BackupService, backupHandlers(api)),
    serve(RetentionService, retentionHandlers(api)),
    serve(PurgeService, purgeHandlers(api)),
    serve(NodeAdminService, nodeAdminHandlers(api)),
    serve(TokenService, tokenHandlers(api)),
    serve(AuditService, auditHandlers(api)),
    serve(StatusService, statusHandlers(api)),
  ];
}
