import type { RequestFrame, RequestHeader } from "./frame.ts";

/** `sizeBytes` 0 asks for the length only: answer with `reply.xattrSize`. Larger values than it are ERANGE. */
export type GetxattrRequest = { readonly header: RequestHeader; readonly name: Buffer; readonly sizeBytes: number };
export type ListxattrRequest = { readonly header: RequestHeader; readonly sizeBytes: number };
export type RemovexattrRequest = { readonly header: RequestHeader; readonly name: Buffer };
export type SetxattrRequest = {
  readonly header: RequestHeader;
  readonly name: Buffer;
  readonly value: Buffer;
  /** XATTR_CREATE 1, XATTR_REPLACE 2. */
  readonly flags: number;
  /** Clear set-group-id with this access ACL (FUSE_SETXATTR_ACL_KILL_SGID). */
  readonly killSgid: boolean;
};

const ACL_KILL_SGID = 1;

export function decodeGetxattr(frame: RequestFrame): GetxattrRequest {
  return { header: frame.header, name: frame.name(8), sizeBytes: frame.u32(0) };
}

export function decodeListxattr(frame: RequestFrame): ListxattrRequest {
  return { header: frame.header, sizeBytes: frame.u32(0) };
}

/** With FUSE_SETXATTR_EXT the fixed part has 16 bytes; without (kernels before 5.12) 8. */
export function decodeSetxattr(frame: RequestFrame, extended: boolean): SetxattrRequest {
  const nameAt = extended ? 16 : 8;
  if (extended) frame.requireBody(16);
  const name = frame.name(nameAt);
  return {
    header: frame.header,
    name,
    value: frame.bytes(nameAt + name.length + 1, frame.u32(0)),
    flags: frame.u32(4),
    killSgid: extended && (frame.u32(8) & ACL_KILL_SGID) !== 0,
  };
}
