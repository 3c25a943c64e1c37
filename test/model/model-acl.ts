import { FsError } from "../../src/domain/errors.ts";

/** Names under which Linux passes POSIX.1e access control lists. */
export const ACL_ACCESS = "system.posix_acl_access";
export const ACL_DEFAULT = "system.posix_acl_default";

// Tags of linux/posix_acl.h; the binary form is linux/posix_acl_xattr.h, version 2, little endian.
const USER_OBJ = 0x01;
const USER = 0x02;
const GROUP_OBJ = 0x04;
const GROUP = 0x08;
const MASK = 0x10;
const OTHER = 0x20;
/** The order in which posix_acl_valid() wants the tags; USER and GROUP may repeat. */
const TAG_ORDER = [USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER];
const UNDEFINED_ID = 0xffffffff;

export type AclEntry = { readonly tag: number; readonly permissions: number; readonly id: number };
export type Acl = readonly AclEntry[];

/** Reads and checks an ACL xattr as posix_acl_from_xattr() and posix_acl_valid() do. Empty: no ACL. Throws EINVAL, EOPNOTSUPP. */
export function decodeAcl(value: Buffer): Acl {
  if (value.length === 0) return [];
  if (value.length < 4) throw FsError.of("EINVAL");
  if (value.readUInt32LE(0) !== 2) throw FsError.of("EOPNOTSUPP");
  if ((value.length - 4) % 8 !== 0) throw FsError.of("EINVAL");
  const acl: AclEntry[] = [];
  for (let at = 4; at < value.length; at += 8) {
    const tag = value.readUInt16LE(at);
    const named = tag === USER || tag === GROUP;
    acl.push({ tag, permissions: value.readUInt16LE(at + 2), id: named ? value.readUInt32LE(at + 4) : UNDEFINED_ID });
  }
  if (acl.length > 0) validate(acl);
  return acl;
}

function validate(acl: Acl): void {
  let last = -1;
  for (const entry of acl) {
    const place = TAG_ORDER.indexOf(entry.tag);
    const repeatable = entry.tag === USER || entry.tag === GROUP;
    if (place < 0 || place < last || (place === last && !repeatable)) throw FsError.of("EINVAL");
    if ((entry.permissions & ~7) !== 0) throw FsError.of("EINVAL");
    last = place;
  }
  const has = (tag: number): boolean => acl.some((entry) => entry.tag === tag);
  if (!has(USER_OBJ) || !has(GROUP_OBJ) || !has(OTHER)) throw FsError.of("EINVAL");
  if ((has(USER) || has(GROUP)) && !has(MASK)) throw FsError.of("EINVAL");
}

export function encodeAcl(acl: Acl): Buffer {
  const value = Buffer.alloc(4 + acl.length * 8);
  value.writeUInt32LE(2, 0);
  for (const [index, entry] of acl.entries()) {
    value.writeUInt16LE(entry.tag, 4 + index * 8);
    value.writeUInt16LE(entry.permissions, 6 + index * 8);
    value.writeUInt32LE(entry.id, 8 + index * 8);
  }
  return value;
}

/** Whether the ACL says no more than nine mode bits can: then only the mode keeps it (posix_acl_equiv_mode). */
export const isMinimal = (acl: Acl): boolean =>
  acl.every((entry) => entry.tag === USER_OBJ || entry.tag === GROUP_OBJ || entry.tag === OTHER);

const groupClass = (acl: Acl): number => (acl.some((entry) => entry.tag === MASK) ? MASK : GROUP_OBJ);

const permissionsOf = (acl: Acl, tag: number): number => acl.find((entry) => entry.tag === tag)?.permissions ?? 0;

/** The nine permission bits that an access ACL stands for: the mask is the group class. */
export function modeOfAcl(acl: Acl): number {
  return (permissionsOf(acl, USER_OBJ) << 6) | (permissionsOf(acl, groupClass(acl)) << 3) | permissionsOf(acl, OTHER);
}

/** chmod of a file with an access ACL: POSIX.1e 23.1.2; the group bits go to the mask. */
export function chmodAcl(acl: Acl, mode: number): Acl {
  return mapClasses(acl, (shift) => (mode >> shift) & 7);
}

/** The access ACL that a default ACL gives to a new object: each class cut down to the creating mode (POSIX.1e 23.1.4). */
export function inheritAcl(acl: Acl, mode: number): Acl {
  return mapClasses(acl, (shift, permissions) => permissions & (mode >> shift) & 7);
}

function mapClasses(acl: Acl, change: (shift: number, permissions: number) => number): Acl {
  const group = groupClass(acl);
  return acl.map((entry) => {
    const shift = entry.tag === USER_OBJ ? 6 : entry.tag === group ? 3 : entry.tag === OTHER ? 0 : -1;
    return shift < 0 ? entry : { ...entry, permissions: change(shift, entry.permissions) };
  });
}
