import { FsError } from "../../src/domain/errors.ts";
import { LIVE } from "../../src/domain/ids.ts";
import { isDirectory, isRegular, SIZE_BYTES_MAX } from "../../src/domain/inode.ts";
import {
  FALLOC_KEEP_SIZE,
  FALLOC_PUNCH_HOLE,
  FALLOC_ZERO_RANGE,
  type WriteRequest,
} from "../../src/domain/metadata-api.ts";
import { withoutCapability, withoutPrivileges } from "./model-attributes.ts";
import { clipped, larger, punched, replaced, smaller } from "./model-content.ts";
import type { Change, ModelNode, ModelState } from "./model-state.ts";

type Of<Op extends WriteRequest["op"]> = Extract<WriteRequest, { op: Op }>;

/** The inode, which must be a regular file. */
export function fileNode(state: ModelState, ino: ModelNode["ino"]): ModelNode {
  const node = state.node(ino);
  if (isDirectory(node.mode)) throw FsError.of("EISDIR");
  if (!isRegular(node.mode)) throw FsError.of("EINVAL");
  return node;
}

function checkEnd(end: bigint): void {
  if (end > SIZE_BYTES_MAX) throw FsError.of("EFBIG");
}

export function write(state: ModelState, request: Of<"write">, change: Change): number {
  const node = fileNode(state, request.ino);
  const bytes = Buffer.from(request.data);
  if (bytes.length === 0) return 0;
  const offset = request.append === true ? node.size : request.offset;
  const end = offset + BigInt(bytes.length);
  checkEnd(end);
  const content = replaced(node.content, { from: offset, to: end, by: [{ offset, bytes }] });
  const patch = { content, size: larger(node.size, end), mtime: change.now, ctime: change.now };
  const privileges = request.killPrivileges ? withoutPrivileges(node) : withoutCapability(node);
  state.update(node.ino, { ...patch, ...privileges }, change.lsn);
  return bytes.length;
}

/** Modes of fallocate that the engine knows; every other is EOPNOTSUPP. */
const MODES = [
  0,
  FALLOC_KEEP_SIZE,
  FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE,
  FALLOC_ZERO_RANGE,
  FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE,
];

/** Answers whether anything but times may have changed: allocating what is inside the file already may be no change. */
export function fallocate(state: ModelState, request: Of<"fallocate">, change: Change): boolean {
  const node = fileNode(state, request.ino);
  if (!MODES.includes(request.mode)) throw FsError.of("EOPNOTSUPP");
  if (request.length === 0n) throw FsError.of("EINVAL");
  const end = request.offset + request.length;
  checkEnd(end);
  const erases = (request.mode & (FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE)) !== 0;
  const size = (request.mode & FALLOC_KEEP_SIZE) !== 0 ? node.size : larger(node.size, end);
  const content = erases ? punched(node.content, request.offset, end) : node.content;
  const patch = { size, content, mtime: change.now, ctime: change.now, ...withoutPrivileges(node) };
  state.update(node.ino, patch, change.lsn);
  return size !== node.size || (erases && request.offset < node.size);
}

/** The range that would be copied: cut at the end of the source, as generic_copy_file_checks() does before it looks for overlaps. */
export function copyRange(state: ModelState, request: Of<"copyRange">, change: Change): bigint {
  const target = fileNode(state, request.target);
  const past = request.sourceAt === LIVE ? state : change.past(request.sourceAt);
  const source = fileNode(past, request.source);
  const available = larger(source.size - request.sourceOffset, 0n);
  const wanted = smaller(request.length, available);
  if (wanted === 0n) return 0n;
  checkEnd(request.targetOffset + wanted);
  if (request.sourceAt === LIVE && source.ino === target.ino && overlaps(request, wanted)) throw FsError.of("EINVAL");
  const length = smaller(wanted, change.copiedBytes ?? wanted);
  const shift = request.targetOffset - request.sourceOffset;
  const by = clipped(source.content, request.sourceOffset, request.sourceOffset + length).map((piece) => ({
    offset: piece.offset + shift,
    bytes: piece.bytes,
  }));
  const end = request.targetOffset + length;
  const content = replaced(target.content, { from: request.targetOffset, to: end, by });
  const times = { mtime: change.now, ctime: change.now };
  const patch = { content, size: larger(target.size, end), ...times, ...withoutPrivileges(target) };
  state.update(target.ino, patch, change.lsn);
  return length;
}

/** Whether source and target ranges of `length` share a byte. */
export function overlaps(request: Pick<Of<"copyRange">, "sourceOffset" | "targetOffset">, length: bigint): boolean {
  return request.targetOffset + length > request.sourceOffset && request.targetOffset < request.sourceOffset + length;
}
