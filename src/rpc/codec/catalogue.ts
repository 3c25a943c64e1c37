import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  AppInfo,
  LocksOption,
  MountInfo,
  MountRequest,
  ShareInfo,
  SnapshotInfo,
} from "../../domain/admin-catalogue.ts";
import type { MountId } from "../../domain/ids.ts";
import * as pb from "../gen/tidemark/v1/catalogue_pb.ts";
import {
  fromAppId,
  fromAppName,
  fromAppRef,
  fromLsn,
  fromMoment,
  fromResolvedMoment,
  fromShareId,
  fromShareName,
  fromShareRef,
  fromTime,
  toMoment,
  toResolvedMoment,
  toTime,
} from "./common.ts";
import { defined, maybe, need, WordCodec, wide } from "./values.ts";

/** What catalogue.proto has, both ways. */

export const viewsOptions = new WordCodec("views option", {
  off: pb.ViewsOption.OFF,
  root: pb.ViewsOption.ROOT,
  users: pb.ViewsOption.USERS,
});

export const deletedFilters = new WordCodec("filter", {
  without: pb.DeletedFilter.WITHOUT,
  with: pb.DeletedFilter.WITH,
  only: pb.DeletedFilter.ONLY,
});

const mountStates = new WordCodec("mount state", {
  active: pb.MountState.ACTIVE,
  starting: pb.MountState.STARTING,
  stopping: pb.MountState.STOPPING,
  down: pb.MountState.DOWN,
});

export function fromApp(message: pb.App | undefined): AppInfo {
  const { id, namespace, name, labels, createdAt, deletedAt, shareCount } = need(message, "app");
  return defined({
    id: fromAppId(id),
    namespace,
    name,
    labels,
    createdAt: fromTime(createdAt, "created_at"),
    deletedAt: maybe(deletedAt, (time) => fromTime(time, "deleted_at")),
    shareCount,
  });
}

export function toApp(app: AppInfo): MessageInitShape<typeof pb.AppSchema> {
  const { createdAt, deletedAt, labels, ...same } = app;
  return { ...same, labels: { ...labels }, createdAt: toTime(createdAt), deletedAt: maybe(deletedAt, toTime) };
}

export function fromShare(message: pb.Share | undefined): ShareInfo {
  const { id, name, app, views, createdAt, deletedAt } = need(message, "share");
  return defined({
    id: fromShareId(id),
    name,
    app: fromAppName(app),
    views: viewsOptions.from(views),
    createdAt: fromTime(createdAt, "created_at"),
    deletedAt: maybe(deletedAt, (time) => fromTime(time, "deleted_at")),
  });
}

export function toShare(share: ShareInfo): MessageInitShape<typeof pb.ShareSchema> {
  const { views, createdAt, deletedAt, ...same } = share;
  return { ...same, views: viewsOptions.to(views), createdAt: toTime(createdAt), deletedAt: maybe(deletedAt, toTime) };
}

export function fromSnapshot(message: pb.Snapshot | undefined): SnapshotInfo {
  const { name, lsn, time, automatic } = need(message, "snapshot");
  return { name, lsn: fromLsn(lsn, "lsn"), time: fromTime(time, "time"), automatic };
}

export function toSnapshot(snapshot: SnapshotInfo): MessageInitShape<typeof pb.SnapshotSchema> {
  const { name, lsn, time, automatic } = snapshot;
  return { name, lsn: wide(lsn), time: toTime(time), automatic };
}

export function fromMount(message: pb.MountInfo | undefined): MountInfo {
  const {
    id,
    share,
    app,
    target,
    at,
    readOnly,
    persist,
    state,
    message: words,
    node,
    tokenId,
    since,
  } = need(message, "mount");
  const locks: LocksOption = message?.sharedLocks === true ? "shared" : "kernel";
  return defined({
    id: id as MountId,
    share: { ...fromShareName(share), app: fromAppName(app) },
    target,
    at: maybe(at, fromResolvedMoment),
    readOnly,
    persist,
    locks,
    tokenId,
    node,
    state: mountStates.from(state),
    message: words,
    since: fromTime(since, "since"),
  });
}

export function toMount(mount: MountInfo): MessageInitShape<typeof pb.MountInfoSchema> {
  const { share, at, state, since, locks, ...same } = mount;
  return {
    ...same,
    sharedLocks: locks === "shared",
    share: { id: share.id, name: share.name },
    app: share.app,
    at: maybe(at, toResolvedMoment),
    state: mountStates.to(state),
    since: toTime(since),
  };
}

export function fromMountRequest(message: pb.MountRequest): MountRequest {
  const { app, share, target, at, readOnly, persist, allowSuid, allowDevices, token } = message;
  const locks: LocksOption = message.sharedLocks ? "shared" : "kernel";
  return defined({
    app: fromAppRef(app),
    share: fromShareRef(share),
    target,
    at: fromMoment(at),
    readOnly,
    persist,
    allowSuid,
    allowDevices,
    locks,
    token,
  });
}

export function toMountRequest(request: MountRequest): MessageInitShape<typeof pb.MountRequestSchema> {
  const { locks, ...same } = request;
  return { ...same, at: toMoment(request.at), sharedLocks: locks === "shared" };
}
