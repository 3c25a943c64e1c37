import { assert } from "../base/assert.ts";

/** Inode number, unique in its app for ever: allocated upward, never reused, 1 ≤ id < 2^40. */
export type InodeId = number & { readonly brand: "InodeId" };

/** Position in an app's journal: dense, from 1. 0 stands for "before everything". A safe integer: at a million changes a second it lasts 285 years. */
export type Lsn = number & { readonly brand: "Lsn" };

/** 128-bit random id as 32 lower-case hex digits. */
export type AppId = string & { readonly brand: "AppId" };
export type ShareId = string & { readonly brand: "ShareId" };

/** Identifies one run of a file's content; the LSN that created it. Truncation to zero takes a new one. 0: no content yet. */
export type ContentId = number & { readonly brand: "ContentId" };

/** Number of a mount, unique in a data folder for ever. 0: not through a mount. */
export type MountId = number & { readonly brand: "MountId" };

/** A file name inside a directory: 1..255 bytes, no "/" and no NUL. */
export type FileName = Buffer & { readonly brand: "FileName" };

/** The moment that means "now" in requests. Larger than any LSN, so that `since <= at` needs no special case. */
export const LIVE = Number.MAX_SAFE_INTEGER as Lsn;

export const INODE_ID_MAX = 2 ** 40 - 1;
export const NAME_BYTES_MAX = 255;

/** Checks and brands an inode number. */
export function inodeId(value: number): InodeId {
  assert(Number.isSafeInteger(value) && value >= 1 && value <= INODE_ID_MAX, `inode number out of range: ${value}`);
  return value as InodeId;
}

/** Checks and brands an LSN (0 allowed). */
export function lsn(value: number): Lsn {
  assert(Number.isSafeInteger(value) && value >= 0, `LSN out of range: ${value}`);
  return value as Lsn;
}

const HEX_128 = /^[0-9a-f]{32}$/;

/** Whether `text` is a 128-bit id in its written form. */
export function isHexId(text: string): boolean {
  return HEX_128.test(text);
}
