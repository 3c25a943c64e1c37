import type { MessageInitShape } from "@bufbuild/protobuf";
import type { PurgeFile, PurgePlan, PurgeRequest, PurgeResult } from "../../domain/admin-purge.ts";
import { inodeId } from "../../domain/ids.ts";
import type * as pb from "../gen/tidemark/v1/purge_pb.ts";
import { fromAppName, fromIno, fromLsn, fromSharePath, fromTime, toSharePath, toTime } from "./common.ts";
import { buffer, defined, maybe, need, safeNumber, wide } from "./values.ts";

/** What purge.proto has, both ways. */

export function fromOrder(message: pb.PurgeOrder | undefined): PurgeRequest {
  const { path, shared, liveToo } = need(message, "order");
  return { path: fromSharePath(path), shared, liveToo };
}

export function toOrder({ path, shared, liveToo }: PurgeRequest): MessageInitShape<typeof pb.PurgeOrderSchema> {
  return { path: toSharePath(path), shared, liveToo };
}

function fromFile({ ino, path }: pb.PurgeFile): PurgeFile {
  return { ino: inodeId(fromIno(ino, "ino")), path: buffer(path) };
}

function toFile({ ino, path }: PurgeFile): MessageInitShape<typeof pb.PurgeFileSchema> {
  return { ino: wide(ino), path };
}

export function fromPlan(message: pb.PurgePlan | undefined): PurgePlan {
  const plan = need(message, "plan");
  return {
    app: fromAppName(plan.app),
    fileCount: safeNumber(plan.fileCount, "file_count"),
    files: plan.files.map(fromFile),
    versionCount: safeNumber(plan.versionCount, "version_count"),
    recordCount: safeNumber(plan.recordCount, "record_count"),
    bytes: plan.bytes,
    liveCount: safeNumber(plan.liveCount, "live_count"),
    live: plan.live.map(fromFile),
    sharedCount: safeNumber(plan.sharedCount, "shared_count"),
    shared: plan.shared.map((file) => ({ ...fromFile(file), bytes: file.sharedBytes })),
    snapshotCount: safeNumber(plan.snapshotCount, "snapshot_count"),
    snapshots: plan.snapshots,
    ...defined({ repository: maybe(plan.repository, ({ name, hasIt }) => ({ name, hasIt })) }),
  };
}

export function toPlan(plan: PurgePlan): MessageInitShape<typeof pb.PurgePlanSchema> {
  return {
    app: plan.app,
    fileCount: wide(plan.fileCount),
    files: plan.files.map(toFile),
    versionCount: wide(plan.versionCount),
    recordCount: wide(plan.recordCount),
    bytes: plan.bytes,
    liveCount: wide(plan.liveCount),
    live: plan.live.map(toFile),
    sharedCount: wide(plan.sharedCount),
    shared: plan.shared.map((file) => ({ ...toFile(file), sharedBytes: file.bytes })),
    snapshotCount: wide(plan.snapshotCount),
    snapshots: [...plan.snapshots],
    ...defined({ repository: plan.repository }),
  };
}

export function fromPurged({ plan, lsn, time, openCount }: pb.PurgeResponse): PurgeResult {
  const record = {
    lsn: maybe(lsn, (value) => fromLsn(value, "lsn")),
    time: maybe(time, (value) => fromTime(value, "time")),
  };
  return { plan: fromPlan(plan), ...defined(record), openCount: safeNumber(openCount, "open_count") };
}

export function toPurged({ plan, lsn, time, openCount }: PurgeResult): MessageInitShape<typeof pb.PurgeResponseSchema> {
  return {
    plan: toPlan(plan),
    ...defined({ lsn: maybe(lsn, wide), time: maybe(time, toTime) }),
    openCount: wide(openCount),
  };
}
