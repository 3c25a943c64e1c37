import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Timestamp } from "../../base/clock.ts";
import type { Actor } from "../../domain/actor.ts";
import type { FileAttributes, Xattr } from "../../domain/admin-reading.ts";
import { TidemarkError } from "../../domain/errors.ts";
import {
  type AppId,
  type InodeId,
  inodeId,
  isHexId,
  type Lsn,
  lsn,
  type MountId,
  type ShareId,
} from "../../domain/ids.ts";
import type { MomentRef, ResolvedMoment } from "../../domain/moment.ts";
import { type AppRef, ID_PREFIX, type SharePath, type ShareRef } from "../../domain/share-path.ts";
import type * as pb from "../gen/tidemark/v1/common_pb.ts";
import { buffer, defined, maybe, need, safeNumber, wide } from "./values.ts";

/** What common.proto has, both ways: `toX` makes the message, `fromX` checks and reads it (INVALID_ARGUMENT). */

export function fromTime(message: pb.Time | undefined, field: string): Timestamp {
  const { seconds, nanos } = need(message, field);
  if (nanos > 999_999_999)
    throw new TidemarkError("INVALID_ARGUMENT", `${field} has ${nanos} nanoseconds: expected less than a second`);
  return { sec: safeNumber(seconds, field), nsec: nanos };
}

export function toTime(time: Timestamp): MessageInitShape<typeof pb.TimeSchema> {
  return { seconds: wide(time.sec), nanos: time.nsec };
}

export function fromLsn(value: bigint, field: string): Lsn {
  return lsn(safeNumber(value, field));
}

/** 0 stands for none. */
export function fromIno(value: bigint, field: string): InodeId | 0 {
  const number = safeNumber(value, field);
  if (number === 0) return 0;
  if (number >= 2 ** 40) throw new TidemarkError("INVALID_ARGUMENT", `${field} is out of range: ${value}`);
  return inodeId(number);
}

function fromHexId(text: string, field: string): string {
  if (!isHexId(text))
    throw new TidemarkError("INVALID_ARGUMENT", `${field} "${text}" is not an id: expected 32 hex digits`);
  return text;
}

export const fromAppId = (text: string): AppId => fromHexId(text, "app id") as AppId;
export const fromShareId = (text: string): ShareId => fromHexId(text, "share id") as ShareId;

export function fromAppRef(message: pb.AppRef | undefined): AppRef {
  const { namespace, name, id } = need(message, "app");
  return defined({ namespace, name, id: maybe(id, checkIdPart) });
}

export function fromShareRef(message: pb.ShareRef | undefined): ShareRef {
  const { name, id } = need(message, "share");
  return defined({ name, id: maybe(id, checkIdPart) });
}

/** An id, or the beginning of one: an empty one would mean any. */
function checkIdPart(id: string): string {
  if (ID_PREFIX.test(id)) return id;
  throw new TidemarkError("INVALID_ARGUMENT", `"${id}" is no id: expected 6 to 32 lower-case hex digits`);
}

export function fromSharePath(message: pb.SharePath | undefined): SharePath {
  const { app, share, path } = need(message, "path");
  return defined({ app: fromAppRef(app), share: maybe(share, fromShareRef), path: buffer(path) });
}

export function toSharePath(path: SharePath): MessageInitShape<typeof pb.SharePathSchema> {
  return { app: path.app, share: path.share, path: path.path };
}

export function fromAppName(message: pb.AppName | undefined): { id: AppId; namespace: string; name: string } {
  const { id, namespace, name } = need(message, "app");
  return { id: fromAppId(id), namespace, name };
}

export function fromShareName(message: pb.ShareName | undefined): { id: ShareId; name: string } {
  const { id, name } = need(message, "share");
  return { id: fromShareId(id), name };
}

export function fromMoment(message: pb.Moment | undefined): MomentRef {
  const { moment } = need(message, "moment");
  switch (moment.case) {
    case "now":
      return { kind: "now" };
    case "time":
      return { kind: "time", time: fromTime(moment.value, "moment.time") };
    case "lsn":
      return { kind: "lsn", lsn: fromLsn(moment.value, "moment.lsn") };
    case "snapshot":
      return { kind: "snapshot", name: moment.value };
    case undefined:
      throw new TidemarkError("INVALID_ARGUMENT", "the moment is empty: expected now, a time, an LSN or a snapshot");
  }
}

export function toMoment(moment: MomentRef): MessageInitShape<typeof pb.MomentSchema> {
  switch (moment.kind) {
    case "now":
      return { moment: { case: "now", value: {} } };
    case "time":
      return { moment: { case: "time", value: toTime(moment.time) } };
    case "lsn":
      return { moment: { case: "lsn", value: wide(moment.lsn) } };
    case "snapshot":
      return { moment: { case: "snapshot", value: moment.name } };
  }
}

export function fromResolvedMoment(message: pb.ResolvedMoment | undefined): ResolvedMoment {
  const { lsn: position, time, ambiguous } = need(message, "resolved moment");
  return defined({ lsn: fromLsn(position, "lsn"), time: maybe(time, (value) => fromTime(value, "time")), ambiguous });
}

export function toResolvedMoment(moment: ResolvedMoment): MessageInitShape<typeof pb.ResolvedMomentSchema> {
  return { lsn: wide(moment.lsn), time: maybe(moment.time, toTime), ambiguous: moment.ambiguous };
}

export function fromPosition(message: pb.RecordPosition | undefined): { lsn: Lsn; time: Timestamp } {
  const { lsn: position, time } = need(message, "position");
  return { lsn: fromLsn(position, "position.lsn"), time: fromTime(time, "position.time") };
}

export function toPosition(position: { lsn: Lsn; time: Timestamp }): MessageInitShape<typeof pb.RecordPositionSchema> {
  return { lsn: wide(position.lsn), time: toTime(position.time) };
}

export function fromActor(message: pb.Actor | undefined): Actor {
  const { mountId, uid, gid, pid, label } = need(message, "actor");
  return { mountId: mountId as MountId, uid, gid, pid, label };
}

export function fromAttributes(message: pb.FileAttributes | undefined): FileAttributes {
  const m = need(message, "attributes");
  return {
    ino: inodeId(fromIno(m.ino, "ino")),
    mode: m.mode,
    uid: m.uid,
    gid: m.gid,
    nlink: m.nlink,
    rdev: m.rdev,
    size: m.size,
    allocatedBytes: m.allocatedBytes,
    atime: fromTime(m.atime, "atime"),
    mtime: fromTime(m.mtime, "mtime"),
    ctime: fromTime(m.ctime, "ctime"),
    btime: fromTime(m.btime, "btime"),
  };
}

export function toAttributes(attributes: FileAttributes): MessageInitShape<typeof pb.FileAttributesSchema> {
  const { ino, atime, mtime, ctime, btime, ...same } = attributes;
  return {
    ...same,
    ino: wide(ino),
    atime: toTime(atime),
    mtime: toTime(mtime),
    ctime: toTime(ctime),
    btime: toTime(btime),
  };
}

export function fromXattr(message: pb.Xattr): Xattr {
  return { name: buffer(message.name), value: buffer(message.value) };
}

export type PlainValue = string | number | bigint | boolean;

export function fromDataValue(message: pb.DataValue | undefined): PlainValue {
  const { value } = need(message, "value");
  if (value.case === undefined) throw new TidemarkError("INVALID_ARGUMENT", "a value is empty");
  return value.value;
}

export function toDataValue(value: PlainValue): MessageInitShape<typeof pb.DataValueSchema> {
  switch (typeof value) {
    case "string":
      return { value: { case: "text", value } };
    case "number":
      return { value: { case: "number", value } };
    case "bigint":
      return { value: { case: "integer", value } };
    case "boolean":
      return { value: { case: "truth", value } };
  }
}
