import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  BackupProgress,
  BackupStatus,
  RepositoryInfo,
  RepositoryLocation,
  StoreCredentials,
} from "../../domain/admin-backup.ts";
import { TidemarkError } from "../../domain/errors.ts";
import * as pb from "../gen/tidemark/v1/backup_pb.ts";
import { fromAppName, fromLsn, fromPosition, fromTime, toPosition, toTime } from "./common.ts";
import { defined, maybe, need, safeNumber, WordCodec, wide } from "./values.ts";

/** What backup.proto has, both ways. */

export const backlogPolicies = new WordCodec("backlog policy", {
  serve: pb.BacklogPolicy.SERVE,
  stop: pb.BacklogPolicy.STOP,
});

const backupStates = new WordCodec("state of a backup", {
  starting: pb.BackupState.STARTING,
  idle: pb.BackupState.IDLE,
  shipping: pb.BackupState.SHIPPING,
  retrying: pb.BackupState.RETRYING,
  stopped: pb.BackupState.STOPPED,
  fenced: pb.BackupState.FENCED,
  failed: pb.BackupState.FAILED,
});

export function fromLocation(message: pb.RepositoryLocation | undefined): RepositoryLocation {
  const { url, endpoint, region } = need(message, "location");
  return defined({ url, endpoint, region });
}

export function fromCredentials({ accessKeyId, secretAccessKey, sessionToken }: pb.StoreCredentials): StoreCredentials {
  return defined({ accessKeyId, secretAccessKey, sessionToken });
}

export function fromRepository(message: pb.RepositoryInfo | undefined): RepositoryInfo {
  const { name, id, location, addedAt, appCount } = need(message, "repository");
  return { name, id, location: fromLocation(location), addedAt: fromTime(addedAt, "added_at"), appCount };
}

export function toRepository(info: RepositoryInfo): MessageInitShape<typeof pb.RepositoryInfoSchema> {
  return { ...info, addedAt: toTime(info.addedAt) };
}

export function fromBackup(message: pb.AppBackup | undefined): BackupStatus {
  const backup = need(message, "backup");
  return defined({
    app: fromAppName(backup.app),
    repository: backup.repository,
    everyMs: backup.everyMs,
    onBacklog: backlogPolicies.from(backup.onBacklog),
    state: backupStates.from(backup.state),
    message: backup.message,
    protected: maybe(backup.protected, fromPosition),
    lastLsn: fromLsn(backup.lastLsn, "last_lsn"),
    lagMs: safeNumber(backup.lagMs, "lag_ms"),
    unprotectedBytes: backup.unprotectedBytes,
    sentBytes: backup.sentBytes,
    waitingOrder: maybe(backup.waitingOrder, (order) => fromLsn(order, "waiting_order")),
  });
}

export function toBackup(status: BackupStatus): MessageInitShape<typeof pb.AppBackupSchema> {
  const { onBacklog, state, protected: reached, lastLsn, lagMs, waitingOrder, ...same } = status;
  return {
    ...same,
    ...defined({ waitingOrder: maybe(waitingOrder, wide) }),
    onBacklog: backlogPolicies.to(onBacklog),
    state: backupStates.to(state),
    protected: maybe(reached, toPosition),
    lastLsn: wide(lastLsn),
    lagMs: wide(lagMs),
  };
}

export function fromBackupProgress({ event }: pb.BackupNowResponse): BackupProgress {
  switch (event.case) {
    case "progress": {
      const { protectedLsn, targetLsn, unprotectedBytes } = event.value;
      return {
        kind: "progress",
        protectedLsn: fromLsn(protectedLsn, "protected_lsn"),
        targetLsn: fromLsn(targetLsn, "target_lsn"),
        unprotectedBytes,
      };
    }
    case "done":
      return { kind: "done", status: fromBackup(event.value) };
    case undefined:
      throw new TidemarkError("INVALID_ARGUMENT", "the progress is empty");
  }
}

export function toBackupProgress(progress: BackupProgress): MessageInitShape<typeof pb.BackupNowResponseSchema> {
  if (progress.kind === "done") return { event: { case: "done", value: toBackup(progress.status) } };
  const { protectedLsn, targetLsn, unprotectedBytes } = progress;
  const value = { protectedLsn: wide(protectedLsn), targetLsn: wide(targetLsn), unprotectedBytes };
  return { event: { case: "progress", value } };
}
