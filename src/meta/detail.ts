import { ByteReader, ByteWriter } from "../base/bytes.ts";

/**
 * The `detail` of each journal record: what an operation was, for the log, and what its reply is rebuilt from when the kernel sends the
 * request again. Encodings are in src/domain/record-op.ts.
 */

const scratch = new ByteWriter(600);

function start(): ByteWriter {
  scratch.reset();
  return scratch;
}

function putName(writer: ByteWriter, name: Uint8Array): ByteWriter {
  return writer.u8(name.length).bytes(name);
}

export function inodeDetail(ino: number): Buffer {
  return start().u40(ino).finish();
}

export function nameDetail(ino: number, parent: number, name: Uint8Array): Buffer {
  return putName(start().u40(ino).u40(parent), name).finish();
}

export type RenameDetail = {
  readonly ino: number;
  readonly parent: number;
  readonly name: Buffer;
  readonly newParent: number;
  readonly newName: Buffer;
  /** The inode that lost the new name; 0: none. */
  readonly replaced: number;
  readonly flags: number;
};

export function renameDetail(detail: RenameDetail): Buffer {
  const writer = start().u40(detail.ino).u40(detail.parent);
  putName(writer, detail.name).u40(detail.newParent);
  return putName(writer, detail.newName).u40(detail.replaced).u8(detail.flags).finish();
}

export function rangeDetail(ino: number, offset: bigint, length: bigint): Buffer {
  return start().u40(ino).big64(offset).big64(length).finish();
}

export function setattrDetail(ino: number, mask: number, size: bigint): Buffer {
  return start().u40(ino).u16(mask).big64(size).finish();
}

export function fallocateDetail(ino: number, mode: number, offset: bigint, length: bigint): Buffer {
  return start().u40(ino).u32(mode).big64(offset).big64(length).finish();
}

export function copyDetail(ino: number, offset: bigint, length: bigint, source: number, sourceOffset: bigint): Buffer {
  return start().u40(ino).big64(offset).big64(length).u40(source).big64(sourceOffset).finish();
}

export function xattrDetail(ino: number, name: Uint8Array): Buffer {
  return putName(start().u40(ino), name).finish();
}

/** The inode a detail is about: every file operation's detail begins with it. */
export function inodeOfDetail(detail: Buffer): number {
  return new ByteReader(detail).u40();
}

/** (ino, parent, name) of a name detail. */
export function readNameDetail(detail: Buffer): { ino: number; parent: number; name: Buffer } {
  const reader = new ByteReader(detail);
  return { ino: reader.u40(), parent: reader.u40(), name: reader.bytes(reader.u8()) };
}

export function readRenameDetail(detail: Buffer): RenameDetail {
  const reader = new ByteReader(detail);
  const ino = reader.u40();
  const parent = reader.u40();
  const name = reader.bytes(reader.u8());
  const newParent = reader.u40();
  const newName = reader.bytes(reader.u8());
  return { ino, parent, name, newParent, newName, replaced: reader.u40(), flags: reader.u8() };
}

/** (ino, offset, length) of a WRITE or COPY_RANGE detail. */
export function readRangeDetail(detail: Buffer): { ino: number; offset: bigint; length: bigint } {
  const reader = new ByteReader(detail);
  return { ino: reader.u40(), offset: reader.big64(), length: reader.big64() };
}

export function readSetattrDetail(detail: Buffer): { ino: number; mask: number; size: bigint } {
  const reader = new ByteReader(detail);
  return { ino: reader.u40(), mask: reader.u16(), size: reader.big64() };
}

export function readFallocateDetail(detail: Buffer): { ino: number; mode: number; offset: bigint; length: bigint } {
  const reader = new ByteReader(detail);
  return { ino: reader.u40(), mode: reader.u32(), offset: reader.big64(), length: reader.big64() };
}

export function readXattrDetail(detail: Buffer): { ino: number; name: Buffer } {
  const reader = new ByteReader(detail);
  return { ino: reader.u40(), name: reader.bytes(reader.u8()) };
}

/** What an action of a restore did; the numbers are on disk. */
export const RESTORE_KIND = { create: 1, link: 2, change: 3, delete: 4, replace: 5, share: 6 } as const;
export type RestoreKind = keyof typeof RESTORE_KIND;

const RESTORE_KINDS = Object.keys(RESTORE_KIND) as RestoreKind[];

export type RestoreDetail = {
  readonly ino: number;
  readonly parent: number;
  readonly name: Buffer;
  readonly kind: RestoreKind;
};

export function restoreDetail(detail: RestoreDetail): Buffer {
  return putName(start().u40(detail.ino).u40(detail.parent), detail.name).u8(RESTORE_KIND[detail.kind]).finish();
}

export function readRestoreDetail(detail: Buffer): RestoreDetail {
  const reader = new ByteReader(detail);
  const ino = reader.u40();
  const parent = reader.u40();
  const name = reader.bytes(reader.u8());
  const number = reader.u8();
  return { ino, parent, name, kind: RESTORE_KINDS.find((kind) => RESTORE_KIND[kind] === number) ?? "change" };
}

export function countDetail(count: number): Buffer {
  return start().u32(count).finish();
}

export function readCountDetail(detail: Buffer): number {
  return new ByteReader(detail).u32();
}
