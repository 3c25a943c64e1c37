import { ByteReader } from "../../base/bytes.ts";
import type { ChangeRecord } from "../../domain/admin-changes.ts";
import type { InodeId } from "../../domain/ids.ts";
import { FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE } from "../../domain/metadata-api.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import type { JournalRecord } from "../../journal/record.ts";
import { readFallocateDetail, readRangeDetail, readSetattrDetail, readXattrDetail } from "../detail.ts";

/** What only some operations have. */
type Operation = Pick<ChangeRecord, "range" | "allocation" | "source" | "set" | "xattr">;

/** Bits of the mask of a SETATTR (src/domain/record-op.ts). */
const SET_WORDS: readonly (readonly [number, string])[] = [
  [1, "mode"],
  [2, "uid"],
  [4, "gid"],
  [8, "size"],
  [16, "atime"],
  [32, "mtime"],
  [64, "ctime"],
];

/** The particulars of a record's operation. */
export function operationOf({ op, detail }: JournalRecord): Operation {
  switch (op) {
    case RECORD_OP.WRITE:
      return { range: rangeOf(readRangeDetail(detail)), set: NONE };
    case RECORD_OP.FALLOCATE: {
      const { mode, ...range } = readFallocateDetail(detail);
      return { range: rangeOf(range), allocation: allocationOf(mode), set: NONE };
    }
    case RECORD_OP.COPY_RANGE: {
      const reader = new ByteReader(detail, 5 + 8 + 8);
      const source = { ino: reader.u40() as InodeId, offset: reader.big64() };
      return { range: rangeOf(readRangeDetail(detail)), source, set: NONE };
    }
    case RECORD_OP.SETATTR: {
      const { mask } = readSetattrDetail(detail);
      return { set: SET_WORDS.filter(([bit]) => (mask & bit) !== 0).map(([, word]) => word) };
    }
    case RECORD_OP.SETXATTR:
    case RECORD_OP.REMOVEXATTR:
      return { xattr: Buffer.from(readXattrDetail(detail).name), set: NONE };
    default:
      return { set: NONE };
  }
}

function rangeOf({ offset, length }: { readonly offset: bigint; readonly length: bigint }): {
  offset: bigint;
  length: bigint;
} {
  return { offset, length };
}

function allocationOf(mode: number): "allocate" | "punch" | "zero" {
  if ((mode & FALLOC_PUNCH_HOLE) !== 0) return "punch";
  return (mode & FALLOC_ZERO_RANGE) !== 0 ? "zero" : "allocate";
}

const NONE: readonly never[] = [];
