import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type ChangeCursor,
  type ChangeRecord,
  type ChangesPage,
  type ChangesRequest,
  DELTA_CHANGES,
  type DeltaEntry,
  type DeltaExtent,
  type DeltaName,
  type ShareDeltaPage,
  type ShareDeltaRequest,
} from "../../domain/admin-changes.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { type InodeId, inodeId } from "../../domain/ids.ts";
import * as pb from "../gen/tidemark/v1/changes_pb.ts";
import {
  fromActor,
  fromAppId,
  fromAttributes,
  fromDataValue,
  fromIno,
  fromLsn,
  fromMoment,
  fromResolvedMoment,
  fromShareName,
  fromSharePath,
  fromTime,
  toAttributes,
  toDataValue,
  toMoment,
  toResolvedMoment,
  toSharePath,
  toTime,
} from "./common.ts";
import { buffer, defined, maybe, need, oneOf, WordCodec, wide } from "./values.ts";

/** What changes.proto has, both ways. `within` is never on the wire: a guard sets it. */

const crossings = new WordCodec("crossing", { entered: pb.Crossing.ENTERED, left: pb.Crossing.LEFT });

const allocations = new WordCodec("allocation", {
  allocate: pb.Allocation.ALLOCATE,
  punch: pb.Allocation.PUNCH,
  zero: pb.Allocation.ZERO,
});

const sources = new WordCodec("way of finding", { journal: pb.FoundIn.JOURNAL, rows: pb.FoundIn.ROWS });

const kinds = new WordCodec("kind of entry", {
  created: pb.DeltaKind.CREATED,
  deleted: pb.DeltaKind.DELETED,
  changed: pb.DeltaKind.CHANGED,
});

const states = new WordCodec("state of a name", {
  kept: pb.NameState.KEPT,
  added: pb.NameState.ADDED,
  removed: pb.NameState.REMOVED,
});

const nows = new WordCodec("what is there now", {
  nothing: pb.NameNow.NOTHING,
  other: pb.NameNow.OTHER,
  "no-directory": pb.NameNow.NO_DIRECTORY,
});

export function fromChangesRequest(message: pb.ChangesRequest): ChangesRequest {
  return defined({
    path: fromSharePath(message.path),
    from: maybe(message.from, fromMoment),
    fromTime: maybe(message.fromTime, (time) => fromTime(time, "from_time")),
    to: maybe(message.to, fromMoment),
    operations: message.operations,
    follow: message.follow,
    heartbeatMs: message.heartbeatMs,
  });
}

export function toChangesRequest(request: ChangesRequest): MessageInitShape<typeof pb.ChangesRequestSchema> {
  return {
    path: toSharePath(request.path),
    from: maybe(request.from, toMoment),
    fromTime: maybe(request.fromTime, toTime),
    to: maybe(request.to, toMoment),
    operations: [...request.operations],
    follow: request.follow,
    heartbeatMs: request.heartbeatMs,
  };
}

export function toChangesPage(page: ChangesPage): MessageInitShape<typeof pb.ChangesResponseSchema> {
  return {
    appId: page.appId,
    records: page.records.map(toChangeRecord),
    cursor: { lsn: wide(page.cursor.lsn), time: maybe(page.cursor.time, toTime) },
    durableLsn: wide(page.durableLsn),
  };
}

export function fromChangesPage(message: pb.ChangesResponse): ChangesPage {
  return {
    appId: fromAppId(message.appId),
    records: message.records.map(fromChangeRecord),
    cursor: fromCursor(message.cursor),
    durableLsn: fromLsn(message.durableLsn, "durable_lsn"),
  };
}

function fromCursor(message: pb.ChangeCursor | undefined): ChangeCursor {
  const { lsn, time } = need(message, "cursor");
  return defined({ lsn: fromLsn(lsn, "cursor.lsn"), time: maybe(time, (value) => fromTime(value, "cursor.time")) });
}

function toChangeRecord(record: ChangeRecord): MessageInitShape<typeof pb.ChangeRecordSchema> {
  const { paths, crossing, others, allocation, source, set, attributes, details, ...same } = record;
  return {
    ...same,
    lsn: wide(record.lsn),
    time: toTime(record.time),
    ino: wide(record.ino),
    paths: [...paths],
    crossing: maybe(crossing, (word) => crossings.to(word)) ?? pb.Crossing.UNSPECIFIED,
    others: others.map(({ ino, path, change }) => ({ ino: wide(ino), path, gained: change === "gained" })),
    allocation: maybe(allocation, (word) => allocations.to(word)) ?? pb.Allocation.UNSPECIFIED,
    source: maybe(source, ({ ino, offset }) => ({ ino: wide(ino), offset })),
    set: [...set],
    attributes: maybe(attributes, toAttributes),
    details: details.map(({ name, value }) => ({ name, value: toDataValue(value) })),
  };
}

function fromChangeRecord(message: pb.ChangeRecord): ChangeRecord {
  return defined({
    lsn: fromLsn(message.lsn, "lsn"),
    time: fromTime(message.time, "time"),
    op: message.op,
    share: maybe(message.share, fromShareName),
    ino: fromIno(message.ino, "ino"),
    paths: message.paths.map(buffer),
    newPath: maybe(message.newPath, buffer),
    crossing: message.crossing === pb.Crossing.UNSPECIFIED ? undefined : crossings.from(message.crossing),
    others: message.others.map(({ ino, path, gained }) => ({
      ino: inodeOf(ino, "others.ino"),
      path: buffer(path),
      change: gained ? ("gained" as const) : ("lost" as const),
    })),
    range: maybe(message.range, ({ offset, length }) => ({ offset, length })),
    allocation: message.allocation === pb.Allocation.UNSPECIFIED ? undefined : allocations.from(message.allocation),
    source: maybe(message.source, ({ ino, offset }) => ({ ino: inodeOf(ino, "source.ino"), offset })),
    set: message.set,
    xattr: maybe(message.xattr, buffer),
    target: maybe(message.target, buffer),
    attributes: maybe(message.attributes, fromAttributes),
    sizeBefore: message.sizeBefore,
    contentReplaced: message.contentReplaced,
    actor: fromActor(message.actor),
    details: message.details.map(({ name, value }) => ({ name, value: fromDataValue(value) })),
  });
}

function inodeOf(value: bigint, field: string): InodeId {
  const ino = fromIno(value, field);
  if (ino === 0) throw new TidemarkError("INVALID_ARGUMENT", `${field} is 0: expected an inode number`);
  return ino;
}

export function fromShareDeltaRequest({ path, from, to, byPath }: pb.ShareDeltaRequest): ShareDeltaRequest {
  return { path: fromSharePath(path), from: fromMoment(from), to: fromMoment(to), byPath };
}

export function toShareDeltaRequest(request: ShareDeltaRequest): MessageInitShape<typeof pb.ShareDeltaRequestSchema> {
  const { path, from, to, byPath } = request;
  return { path: toSharePath(path), from: toMoment(from), to: toMoment(to), byPath };
}

export function toShareDeltaPage(page: ShareDeltaPage): MessageInitShape<typeof pb.ShareDeltaResponseSchema> {
  const { appId, from, to, foundIn, entries } = page;
  return {
    appId,
    from: toResolvedMoment(from),
    to: toResolvedMoment(to),
    foundIn: sources.to(foundIn),
    entries: entries.map(toDeltaEntry),
  };
}

export function fromShareDeltaPage(message: pb.ShareDeltaResponse): ShareDeltaPage {
  return {
    appId: fromAppId(message.appId),
    from: fromResolvedMoment(message.from),
    to: fromResolvedMoment(message.to),
    foundIn: sources.from(message.foundIn),
    entries: message.entries.map(fromDeltaEntry),
  };
}

function toDeltaEntry(entry: DeltaEntry): MessageInitShape<typeof pb.DeltaEntrySchema> {
  return {
    ino: wide(entry.ino),
    kind: kinds.to(entry.kind),
    continues: entry.continues,
    names: entry.names.map(toDeltaName),
    changes: [...entry.changes],
    before: maybe(entry.before, toAttributes),
    after: maybe(entry.after, toAttributes),
    target: entry.target,
    extents: entry.extents.map(({ kind, offset, length }) => ({ offset, length, hole: kind === "hole" })),
  };
}

function fromDeltaEntry(message: pb.DeltaEntry): DeltaEntry {
  return defined({
    ino: inodeId(inodeOf(message.ino, "ino")),
    kind: kinds.from(message.kind),
    continues: message.continues,
    names: message.names.map(fromDeltaName),
    changes: message.changes.map((text) => oneOf(DELTA_CHANGES, text, "change")),
    before: maybe(message.before, fromAttributes),
    after: maybe(message.after, fromAttributes),
    target: buffer(message.target),
    extents: message.extents.map(fromDeltaExtent),
  });
}

function fromDeltaExtent({ offset, length, hole }: pb.DeltaExtent): DeltaExtent {
  return { kind: hole ? "hole" : "data", offset, length };
}

function toDeltaName(name: DeltaName): MessageInitShape<typeof pb.DeltaNameSchema> {
  const { state, path, parent } = name;
  const same = { state: states.to(state), path, parent: wide(parent) };
  if (name.state === "removed") return { ...same, now: nows.to(name.now) };
  return { ...same, pathBefore: name.pathBefore };
}

function fromDeltaName(message: pb.DeltaName): DeltaName {
  const state = states.from(message.state);
  const same = { parent: fromIno(message.parent, "parent"), path: buffer(message.path) };
  if (state === "removed") return { ...same, state, now: nows.from(message.now) };
  return defined({ ...same, state, pathBefore: maybe(message.pathBefore, buffer) });
}
