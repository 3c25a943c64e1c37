import { ByteReader } from "../../base/bytes.ts";
import type { LogDetail } from "../../domain/admin-reading.ts";
import { textFromBytes } from "../../domain/byte-text.ts";
import type { InodeId } from "../../domain/ids.ts";
import { isSymlink } from "../../domain/inode.ts";
import { FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE } from "../../domain/metadata-api.ts";
import { formatUtcTime } from "../../domain/moment.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import type { JournalRecord } from "../../journal/record.ts";
import {
  readCountDetail,
  readFallocateDetail,
  readRangeDetail,
  readRenameDetail,
  readRestoreDetail,
  readSetattrDetail,
  readXattrDetail,
} from "../detail.ts";
import { inodeKey } from "../keys.ts";
import { decodeInode, type InodeRow } from "../rows.ts";

/** Values of a record's JSON shown in the log: the rest is for machines. */
const JSON_SHOWN_MAX = 16;

/** What an operation was, beside its path: its own words and numbers, in a stable order. */
export function logDetails(record: JournalRecord): LogDetail[] {
  const { op, detail } = record;
  switch (op) {
    case RECORD_OP.CREATE:
    case RECORD_OP.MKNOD:
    case RECORD_OP.MKDIR:
    case RECORD_OP.TMPFILE:
    case RECORD_OP.SYMLINK:
      return madeDetails(rowOf(record, new ByteReader(detail).u40()));
    case RECORD_OP.RENAME:
      return renameDetails(detail);
    case RECORD_OP.WRITE:
      return rangeDetails(detail);
    case RECORD_OP.SETATTR:
      return setattrDetails(record);
    case RECORD_OP.FALLOCATE:
      return fallocateDetails(detail);
    case RECORD_OP.COPY_RANGE:
      return copyDetails(detail);
    case RECORD_OP.SETXATTR:
    case RECORD_OP.REMOVEXATTR:
      return [{ name: "xattr", value: textFromBytes(readXattrDetail(detail).name) }];
    case RECORD_OP.RESTORE_ENTRY:
      return [{ name: "action", value: readRestoreDetail(detail).kind }];
    case RECORD_OP.RESTORE_CONTENT:
      return rangeDetails(detail);
    case RECORD_OP.RESTORE_REAP:
      return [{ name: "count", value: readCountDetail(detail) }];
    case RECORD_OP.SHARE_CREATE:
    case RECORD_OP.SHARE_UPDATE:
    case RECORD_OP.SHARE_DELETE:
    case RECORD_OP.SHARE_UNDELETE:
      return [{ name: "name", value: textFromBytes(shareOfDetail(detail).name) }];
    case RECORD_OP.SNAPSHOT_CREATE:
    case RECORD_OP.SNAPSHOT_DELETE:
    case RECORD_OP.RESTORE_BEGIN:
    case RECORD_OP.RESTORE_END:
    case RECORD_OP.SPACE:
    case RECORD_OP.PURGE:
      return jsonDetails(detail);
    default:
      return [];
  }
}

/** (share id, name) of a share's record. */
export function shareOfDetail(detail: Buffer): { readonly id: string; readonly name: Buffer } {
  const reader = new ByteReader(detail);
  const id = reader.bytes(16).toString("hex");
  return { id, name: reader.bytes(reader.u8()) };
}

/** The row of `ino` that the record wrote. */
function rowOf(record: JournalRecord, ino: number): InodeRow | undefined {
  const key = inodeKey(ino);
  const value = record.rows.find((row) => row.key.equals(key))?.value;
  return value === undefined || value === null ? undefined : decodeInode(ino as InodeId, value);
}

function madeDetails(row: InodeRow | undefined): LogDetail[] {
  if (row === undefined) return [];
  if (isSymlink(row.mode)) return [{ name: "target", value: textFromBytes(row.target) }];
  const details: LogDetail[] = [{ name: "mode", value: modeText(row.mode) }];
  return row.rdev === 0 ? details : [...details, { name: "rdev", value: row.rdev }];
}

function modeText(mode: number): string {
  return (mode & 0o7777).toString(8).padStart(4, "0");
}

function renameDetails(detail: Buffer): LogDetail[] {
  const { replaced, flags } = readRenameDetail(detail);
  const details: LogDetail[] = [];
  if (replaced !== 0) details.push({ name: "replaced", value: replaced });
  if (flags !== 0) details.push({ name: "flags", value: flags });
  return details;
}

function rangeDetails(detail: Buffer): LogDetail[] {
  const { offset, length } = readRangeDetail(detail);
  return [
    { name: "offset", value: offset },
    { name: "length", value: length },
  ];
}

function copyDetails(detail: Buffer): LogDetail[] {
  const reader = new ByteReader(detail, 5 + 8 + 8);
  return [
    ...rangeDetails(detail),
    { name: "source", value: reader.u40() },
    { name: "sourceOffset", value: reader.big64() },
  ];
}

function fallocateDetails(detail: Buffer): LogDetail[] {
  const { mode, offset, length } = readFallocateDetail(detail);
  const action = (mode & FALLOC_PUNCH_HOLE) !== 0 ? "punch" : (mode & FALLOC_ZERO_RANGE) !== 0 ? "zero" : "allocate";
  return [
    { name: "action", value: action },
    { name: "offset", value: offset },
    { name: "length", value: length },
  ];
}

/** What was set, with its new value: the mask's bits are in src/domain/record-op.ts. */
function setattrDetails(record: JournalRecord): LogDetail[] {
  const { ino, mask, size } = readSetattrDetail(record.detail);
  const row = rowOf(record, ino);
  if (row === undefined) return [];
  const values: readonly [number, LogDetail][] = [
    [1, { name: "mode", value: modeText(row.mode) }],
    [2, { name: "uid", value: row.uid }],
    [4, { name: "gid", value: row.gid }],
    [8, { name: "size", value: size }],
    [16, { name: "atime", value: formatUtcTime(row.atime) }],
    [32, { name: "mtime", value: formatUtcTime(row.mtime) }],
    [64, { name: "ctime", value: formatUtcTime(row.ctime) }],
  ];
  return values.filter(([bit]) => (mask & bit) !== 0).map(([, detail]) => detail);
}

function jsonDetails(detail: Buffer): LogDetail[] {
  const details: LogDetail[] = [];
  for (const [name, value] of Object.entries(parse(detail)).slice(0, JSON_SHOWN_MAX)) {
    if (typeof value === "string" || typeof value === "number" || typeof value === "boolean")
      details.push({ name, value });
  }
  return details;
}

function parse(detail: Buffer): object {
  try {
    const value: unknown = JSON.parse(detail.toString("utf8"));
    return typeof value === "object" && value !== null ? value : {};
  } catch {
    // A newer version may write something else there; the record itself was verified.
    return {};
  }
}
