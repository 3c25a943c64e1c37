import type { RequestFrame, RequestHeader } from "./frame.ts";

/** Requests about names. `header.ino` is the directory, except for readlink. Bodies: linux/fuse.h, fuse_mknod_in and following. */
export type LookupRequest = { readonly header: RequestHeader; readonly name: Buffer };
export type RemoveRequest = { readonly header: RequestHeader; readonly name: Buffer };
export type SymlinkRequest = {
  readonly header: RequestHeader;
  readonly name: Buffer;
  readonly target: Buffer;
  readonly supplementaryGids: readonly number[];
};
export type MknodRequest = {
  readonly header: RequestHeader;
  readonly name: Buffer;
  /** Type and permission bits, umask not yet applied (FUSE_DONT_MASK). */
  readonly mode: number;
  readonly umask: number;
  readonly rdev: number;
  readonly supplementaryGids: readonly number[];
};
export type MkdirRequest = {
  readonly header: RequestHeader;
  readonly name: Buffer;
  readonly mode: number;
  readonly umask: number;
  readonly supplementaryGids: readonly number[];
};
export type RenameRequest = {
  readonly header: RequestHeader;
  readonly name: Buffer;
  readonly newSlot: number;
  readonly newParentIno: number;
  readonly newName: Buffer;
  /** renameat2 flags; 0 for a plain rename. */
  readonly flags: number;
};
/** `header.ino` is the directory that gets the name. */
export type LinkRequest = {
  readonly header: RequestHeader;
  readonly sourceSlot: number;
  readonly sourceIno: number;
  readonly name: Buffer;
};
/** CREATE and TMPFILE. */
export type CreateRequest = {
  readonly header: RequestHeader;
  /** Of a temporary file: the kernel's placeholder, to be ignored. */
  readonly name: Buffer;
  /** open(2) flags, Linux's values. */
  readonly flags: number;
  readonly mode: number;
  readonly umask: number;
  /** Clear set-user-id and set-group-id if this truncates (FUSE_OPEN_KILL_SUIDGID). */
  readonly killPrivileges: boolean;
  readonly supplementaryGids: readonly number[];
};

export function decodeLookup(frame: RequestFrame): LookupRequest {
  return { header: frame.header, name: frame.name(0) };
}

export function decodeSymlink(frame: RequestFrame): SymlinkRequest {
  const name = frame.name(0);
  return {
    header: frame.header,
    name,
    target: frame.name(name.length + 1),
    supplementaryGids: frame.supplementaryGids(),
  };
}

export function decodeMknod(frame: RequestFrame): MknodRequest {
  return {
    header: frame.header,
    name: frame.name(16),
    mode: frame.u32(0),
    umask: frame.u32(8),
    rdev: frame.u32(4),
    supplementaryGids: frame.supplementaryGids(),
  };
}

export function decodeMkdir(frame: RequestFrame): MkdirRequest {
  return {
    header: frame.header,
    name: frame.name(8),
    mode: frame.u32(0),
    umask: frame.u32(4),
    supplementaryGids: frame.supplementaryGids(),
  };
}

/** FUSE_RENAME: fuse_rename_in has no flags. */
export function decodeRename(frame: RequestFrame): RenameRequest {
  return renameRequest(frame, 8, 0);
}

/** FUSE_RENAME2. */
export function decodeRename2(frame: RequestFrame): RenameRequest {
  return renameRequest(frame, 16, frame.u32(8));
}

function renameRequest(frame: RequestFrame, namesAt: number, flags: number): RenameRequest {
  const name = frame.name(namesAt);
  return {
    header: frame.header,
    name,
    newSlot: frame.nodeSlot(0),
    newParentIno: frame.nodeIno(0),
    newName: frame.name(namesAt + name.length + 1),
    flags,
  };
}

export function decodeLink(frame: RequestFrame): LinkRequest {
  return { header: frame.header, sourceSlot: frame.nodeSlot(0), sourceIno: frame.nodeIno(0), name: frame.name(8) };
}

const OPEN_KILL_SUIDGID = 1;

export function decodeCreate(frame: RequestFrame): CreateRequest {
  return {
    header: frame.header,
    name: frame.name(16),
    flags: frame.u32(0),
    mode: frame.u32(4),
    umask: frame.u32(8),
    killPrivileges: (frame.u32(12) & OPEN_KILL_SUIDGID) !== 0,
    supplementaryGids: frame.supplementaryGids(),
  };
}
