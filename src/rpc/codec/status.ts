import type { MessageInitShape } from "@bufbuild/protobuf";
import type { AppStatus, ArchiveStatus, ServiceStatus } from "../../domain/admin-status.ts";
import * as pb from "../gen/tidemark/v1/status_pb.ts";
import { fromApp, toApp } from "./catalogue.ts";
import { fromLsn, fromPosition, fromTime, toPosition, toTime } from "./common.ts";
import { defined, maybe, need, safeNumber, WordCodec, wide } from "./values.ts";

/** What status.proto has, both ways. */

const supervisorStates = new WordCodec("state of the supervisor", {
  running: pb.SupervisorState.RUNNING,
  lost: pb.SupervisorState.LOST,
  none: pb.SupervisorState.NONE,
});

const journalStates = new WordCodec("state of a journal", {
  open: pb.JournalState.OPEN,
  failed: pb.JournalState.FAILED,
  closed: pb.JournalState.CLOSED,
});

export function fromServiceStatus(message: pb.ServiceStatusResponse): ServiceStatus {
  const supervisor = need(message.supervisor, "supervisor");
  const { totalBytes, freeBytes, reserveBytes } = need(message.disk, "disk");
  return {
    version: message.version,
    pid: message.pid,
    dataFolder: message.dataFolder,
    startedAt: fromTime(message.startedAt, "started_at"),
    supervisor: {
      state: supervisorStates.from(supervisor.state),
      pid: supervisor.pid,
      restartCount: supervisor.restartCount,
      kernelResends: supervisor.kernelResends,
    },
    canMount: message.canMount,
    mountsMessage: message.mountsMessage,
    disk: { totalBytes, freeBytes, reserveBytes },
    historyBytesMax: message.historyBytesMax,
    memoryBytes: message.memoryBytes,
    alarms: message.alarms.map((alarm) => ({
      time: fromTime(alarm.time, "alarm.time"),
      code: alarm.code,
      app: alarm.app,
      message: alarm.message,
    })),
    listening: message.listening,
  };
}

export function toServiceStatus(status: ServiceStatus): MessageInitShape<typeof pb.ServiceStatusResponseSchema> {
  const { startedAt, supervisor, alarms, listening, ...same } = status;
  return {
    ...same,
    startedAt: toTime(startedAt),
    supervisor: { ...supervisor, state: supervisorStates.to(supervisor.state) },
    alarms: alarms.map((alarm) => ({ ...alarm, time: toTime(alarm.time) })),
    listening: [...listening],
  };
}

export function fromAppStatus(message: pb.AppStatus): AppStatus {
  return defined({
    app: fromApp(message.app),
    lastLsn: fromLsn(message.lastLsn, "last_lsn"),
    durableLsn: fromLsn(message.durableLsn, "durable_lsn"),
    appliedLsn: fromLsn(message.appliedLsn, "applied_lsn"),
    oldest: maybe(message.oldest, fromPosition),
    journalBytes: message.journalBytes,
    segmentCount: message.segmentCount,
    liveBytes: message.liveBytes,
    historyBytes: message.historyBytes,
    reclaimableBytes: message.reclaimableBytes,
    inodeCount: safeNumber(message.inodeCount, "inode_count"),
    snapshotCount: message.snapshotCount,
    stallCount: safeNumber(message.stallCount, "stall_count"),
    stallMs: safeNumber(message.stallMs, "stall_ms"),
    journalState: journalStates.from(message.journalState),
    archive: maybe(message.archive, fromArchive),
  });
}

function fromArchive(message: pb.ArchiveStatus): ArchiveStatus {
  const { description, hydrated, bytesDone, damagedBytes, waitsFor } = message;
  const lastLsn = fromLsn(message.lastLsn, "archive.last_lsn");
  return defined({ description, lastLsn, isHydrated: hydrated, bytesDone, damagedBytes, waitsFor });
}

export function toAppStatus(status: AppStatus): MessageInitShape<typeof pb.AppStatusSchema> {
  const { app, lastLsn, durableLsn, appliedLsn, oldest, inodeCount, stallCount, stallMs, journalState, ...rest } =
    status;
  const { archive, ...same } = rest;
  return {
    ...same,
    app: toApp(app),
    lastLsn: wide(lastLsn),
    durableLsn: wide(durableLsn),
    appliedLsn: wide(appliedLsn),
    oldest: maybe(oldest, toPosition),
    inodeCount: wide(inodeCount),
    stallCount: wide(stallCount),
    stallMs: wide(Math.round(stallMs)),
    journalState: journalStates.to(journalState),
    archive: maybe(archive, ({ lastLsn: last, isHydrated, ...fields }) => ({
      ...fields,
      lastLsn: wide(last),
      hydrated: isHydrated,
    })),
  };
}
