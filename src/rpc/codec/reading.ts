import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ExportItem, FileStat, ListEntry, ReadRequestAt, ResolvedPath } from "../../domain/admin-reading.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { inodeId } from "../../domain/ids.ts";
import type * as common from "../gen/tidemark/v1/common_pb.ts";
import type * as pb from "../gen/tidemark/v1/reading_pb.ts";
import {
  fromAppId,
  fromAttributes,
  fromIno,
  fromMoment,
  fromResolvedMoment,
  fromShareId,
  fromSharePath,
  fromXattr,
  toAttributes,
  toMoment,
  toResolvedMoment,
  toSharePath,
} from "./common.ts";
import { buffer, defined, maybe, wide } from "./values.ts";

/** What reading.proto has, both ways. */

export function fromReadAt(message: {
  path?: common.SharePath | undefined;
  at?: common.Moment | undefined;
}): ReadRequestAt {
  return { path: fromSharePath(message.path), at: fromMoment(message.at) };
}

/** The part that all requests of the service begin with. */
export function toReadAt(request: ReadRequestAt) {
  return { path: toSharePath(request.path), at: toMoment(request.at) };
}

export function fromExportRequest(message: pb.ExportTreeRequest): ReadRequestAt & {
  content: boolean;
  ranges: boolean;
} {
  return { ...fromReadAt(message), content: message.content, ranges: message.ranges };
}

export function fromResolvedPath(message: pb.ResolveResponse): ResolvedPath {
  return {
    appId: fromAppId(message.appId),
    shareId: fromShareId(message.shareId),
    ino: inodeId(fromIno(message.ino, "ino")),
    at: fromResolvedMoment(message.at),
  };
}

export function toResolvedPath(path: ResolvedPath): MessageInitShape<typeof pb.ResolveResponseSchema> {
  return { appId: path.appId, shareId: path.shareId, ino: wide(path.ino), at: toResolvedMoment(path.at) };
}

export function fromStat(message: pb.StatResponse): FileStat {
  return {
    at: fromResolvedMoment(message.at),
    attributes: fromAttributes(message.attributes),
    target: buffer(message.target),
    xattrs: message.xattrs.map(fromXattr),
  };
}

export function toStat(stat: FileStat): MessageInitShape<typeof pb.StatResponseSchema> {
  return {
    at: toResolvedMoment(stat.at),
    attributes: toAttributes(stat.attributes),
    target: stat.target,
    xattrs: [...stat.xattrs],
  };
}

export function fromListEntry(message: pb.ListEntry): ListEntry {
  return { name: buffer(message.name), attributes: fromAttributes(message.attributes), target: buffer(message.target) };
}

export function toListEntry(entry: ListEntry): MessageInitShape<typeof pb.ListEntrySchema> {
  return { name: entry.name, attributes: toAttributes(entry.attributes), target: entry.target };
}

export function fromExportItem({ item }: pb.ExportItem): ExportItem {
  switch (item.case) {
    case "entry": {
      const { path, attributes, target, xattrs, contentFollows, linkedTo } = item.value;
      return defined({
        kind: "entry" as const,
        path: buffer(path),
        attributes: fromAttributes(attributes),
        target: buffer(target),
        xattrs: xattrs.map(fromXattr),
        contentFollows,
        linkedTo: maybe(linkedTo, buffer),
      });
    }
    case "data":
      return { kind: "data", offset: item.value.offset, bytes: buffer(item.value.content) };
    case "ranges":
      return { kind: "ranges", ranges: item.value.ranges.map(({ offset, length }) => ({ offset, length })) };
    case "end":
      return defined({ kind: "end" as const, complete: item.value.complete, message: item.value.message });
    case undefined:
      throw new TidemarkError("INVALID_ARGUMENT", "an item of the exported tree is empty");
  }
}

export function toExportItem(item: ExportItem): MessageInitShape<typeof pb.ExportItemSchema> {
  switch (item.kind) {
    case "entry": {
      const { path, attributes, target, xattrs, contentFollows, linkedTo } = item;
      const value = {
        path,
        attributes: toAttributes(attributes),
        target,
        xattrs: [...xattrs],
        contentFollows,
        linkedTo,
      };
      return { item: { case: "entry", value } };
    }
    case "data":
      return { item: { case: "data", value: { offset: item.offset, content: item.bytes } } };
    case "ranges":
      return { item: { case: "ranges", value: { ranges: [...item.ranges] } } };
    case "end":
      return { item: { case: "end", value: { complete: item.complete, message: item.message } } };
  }
}
