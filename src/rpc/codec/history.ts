import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  DiffChange,
  DiffEntry,
  FileVersion,
  FoundName,
  LogRecord,
  LogRequest,
} from "../../domain/admin-reading.ts";
import { inodeId } from "../../domain/ids.ts";
import * as pb from "../gen/tidemark/v1/history_pb.ts";
import {
  fromActor,
  fromAttributes,
  fromDataValue,
  fromIno,
  fromLsn,
  fromMoment,
  fromPosition,
  fromShareName,
  fromSharePath,
  fromTime,
  toAttributes,
  toDataValue,
  toMoment,
  toPosition,
  toSharePath,
  toTime,
} from "./common.ts";
import { buffer, defined, maybe, oneOf, WordCodec, wide } from "./values.ts";

/** What history.proto has, both ways. */

const logOrders = new WordCodec("order", {
  "oldest-first": pb.LogOrder.OLDEST_FIRST,
  "newest-first": pb.LogOrder.NEWEST_FIRST,
});

const diffKinds = new WordCodec("kind of difference", {
  added: pb.DiffKind.ADDED,
  removed: pb.DiffKind.REMOVED,
  changed: pb.DiffKind.CHANGED,
  moved: pb.DiffKind.MOVED,
});

const DIFF_CHANGES: readonly DiffChange[] = [
  "type",
  "content",
  "mode",
  "owner",
  "times",
  "xattrs",
  "target",
  "device",
  "links",
];

export function fromLogRequest(message: pb.LogRequest): LogRequest {
  return defined({
    path: fromSharePath(message.path),
    from: maybe(message.from, fromMoment),
    to: maybe(message.to, fromMoment),
    order: logOrders.from(message.order),
    countMax: message.countMax,
    follow: message.follow,
  });
}

export function toLogRequest(request: LogRequest): MessageInitShape<typeof pb.LogRequestSchema> {
  return {
    path: toSharePath(request.path),
    from: maybe(request.from, toMoment),
    to: maybe(request.to, toMoment),
    order: logOrders.to(request.order),
    countMax: request.countMax,
    follow: request.follow,
  };
}

export function fromLogRecord(message: pb.LogRecord): LogRecord {
  return defined({
    lsn: fromLsn(message.lsn, "lsn"),
    time: fromTime(message.time, "time"),
    op: message.op,
    share: maybe(message.share, fromShareName),
    path: buffer(message.path),
    newPath: maybe(message.newPath, buffer),
    ino: fromIno(message.ino, "ino"),
    actor: fromActor(message.actor),
    details: message.details.map(({ name, value }) => ({ name, value: fromDataValue(value) })),
  });
}

export function toLogRecord(record: LogRecord): MessageInitShape<typeof pb.LogRecordSchema> {
  const { lsn, time, ino, details, ...same } = record;
  return {
    ...same,
    lsn: wide(lsn),
    time: toTime(time),
    ino: wide(ino),
    details: details.map(({ name, value }) => ({ name, value: toDataValue(value) })),
  };
}

export function fromVersion(message: pb.FileVersion): FileVersion {
  return defined({
    since: fromPosition(message.since),
    until: maybe(message.until, fromPosition),
    op: message.op,
    recordCount: message.recordCount,
    ino: inodeId(fromIno(message.ino, "ino")),
    path: buffer(message.path),
    attributes: fromAttributes(message.attributes),
    actor: fromActor(message.actor),
    absent: message.absent,
  });
}

export function toVersion(version: FileVersion): MessageInitShape<typeof pb.FileVersionSchema> {
  const { since, until, ino, attributes, ...same } = version;
  return {
    ...same,
    since: toPosition(since),
    until: maybe(until, toPosition),
    ino: wide(ino),
    attributes: toAttributes(attributes),
  };
}

export function fromDiffEntry(message: pb.DiffEntry): DiffEntry {
  return defined({
    kind: diffKinds.from(message.kind),
    share: fromShareName(message.share),
    path: buffer(message.path),
    pathBefore: maybe(message.pathBefore, buffer),
    before: maybe(message.before, fromAttributes),
    after: maybe(message.after, fromAttributes),
    changes: message.changes.map((text) => oneOf(DIFF_CHANGES, text, "change")),
  });
}

export function toDiffEntry(entry: DiffEntry): MessageInitShape<typeof pb.DiffEntrySchema> {
  const { kind, before, after, changes, ...same } = entry;
  return {
    ...same,
    kind: diffKinds.to(kind),
    before: maybe(before, toAttributes),
    after: maybe(after, toAttributes),
    changes: [...changes],
  };
}

export function fromFoundName(message: pb.FoundName): FoundName {
  return defined({
    share: fromShareName(message.share),
    path: buffer(message.path),
    attributes: fromAttributes(message.attributes),
    since: fromPosition(message.since),
    until: maybe(message.until, fromPosition),
  });
}

export function toFoundName(found: FoundName): MessageInitShape<typeof pb.FoundNameSchema> {
  const { attributes, since, until, ...same } = found;
  return { ...same, attributes: toAttributes(attributes), since: toPosition(since), until: maybe(until, toPosition) };
}
