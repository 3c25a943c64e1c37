import { FsError } from "../domain/errors.ts";

/**
 * POSIX.1e access control lists in Linux's xattr form, version 2: u32 LE version, then entries of tag u16, permissions u16, id u32, all little
 * endian (include/uapi/linux/posix_acl_xattr.h). The kernel checks access by them; we keep mode and list in step as POSIX.1e section 23.1 has it.
 */

export const ACL_ACCESS = Buffer.from("system.posix_acl_access");
export const ACL_DEFAULT = Buffer.from("system.posix_acl_default");

const VERSION = 2;
const USER_OBJ = 0x01;
const USER = 0x02;
const GROUP_OBJ = 0x04;
const GROUP = 0x08;
const MASK = 0x10;
const OTHER = 0x20;

export type AclEntry = { readonly tag: number; readonly permissions: number; readonly id: number };

/** Decodes and checks a list. Throws EINVAL (malformed) or EOPNOTSUPP (another version). */
export function decodeAcl(value: Buffer): AclEntry[] {
  if (value.length < 4) throw FsError.of("EINVAL");
  if (value.readUInt32LE(0) !== VERSION) throw FsError.of("EOPNOTSUPP");
  if ((value.length - 4) % 8 !== 0) throw FsError.of("EINVAL");
  const entries: AclEntry[] = [];
  for (let at = 4; at < value.length; at += 8) {
    entries.push({
      tag: value.readUInt16LE(at),
      permissions: value.readUInt16LE(at + 2),
      id: value.readUInt32LE(at + 4),
    });
  }
  if (entries.length > 0) checkAcl(entries);
  return entries;
}

export function encodeAcl(entries: readonly AclEntry[]): Buffer {
  const value = Buffer.alloc(4 + entries.length * 8);
  value.writeUInt32LE(VERSION, 0);
  entries.forEach((entry, index) => {
    value.writeUInt16LE(entry.tag, 4 + index * 8);
    value.writeUInt16LE(entry.permissions, 6 + index * 8);
    value.writeUInt32LE(entry.id, 8 + index * 8);
  });
  return value;
}

/** One of each base entry, a mask when there are named ones, known tags, permissions of three bits. */
function checkAcl(entries: readonly AclEntry[]): void {
  const count = (tag: number): number => entries.filter((entry) => entry.tag === tag).length;
  const named = count(USER) + count(GROUP);
  const known = count(USER_OBJ) + count(GROUP_OBJ) + count(OTHER) + count(MASK) + named;
  const valid =
    count(USER_OBJ) === 1 &&
    count(GROUP_OBJ) === 1 &&
    count(OTHER) === 1 &&
    count(MASK) <= 1 &&
    (named === 0 || count(MASK) === 1) &&
    known === entries.length &&
    entries.every((entry) => entry.permissions <= 7) &&
    // posix_acl_valid() of Linux wants them in this order.
    entries.every((entry, index) => index === 0 || (entries[index - 1]?.tag ?? 0) <= entry.tag);
  if (!valid) throw FsError.of("EINVAL");
}

/** Permission bits that an access list stands for, and whether it says more than they do. */
export function modeOfAcl(entries: readonly AclEntry[]): { readonly bits: number; readonly minimal: boolean } {
  let user = 0;
  let group = 0;
  let other = 0;
  let mask: number | undefined;
  for (const entry of entries) {
    if (entry.tag === USER_OBJ) user = entry.permissions;
    else if (entry.tag === GROUP_OBJ) group = entry.permissions;
    else if (entry.tag === OTHER) other = entry.permissions;
    else if (entry.tag === MASK) mask = entry.permissions;
  }
  return { bits: (user << 6) | ((mask ?? group) << 3) | other, minimal: entries.length === 3 };
}

/** Who asks for access: a user with all of his groups. */
export type Caller = { readonly uid: number; readonly gids: readonly number[] };

/** Whether a file with this owner, mode and access list (undefined: none) gives `caller` all `wanted` permissions (bits of 4 2 1). POSIX.1e section 23.1.5; root is the caller's business. */
export function grants(
  file: { readonly uid: number; readonly gid: number; readonly mode: number },
  entries: readonly AclEntry[] | undefined,
  { uid, gids }: Caller,
  wanted: number,
): boolean {
  const allows = (permissions: number): boolean => (permissions & wanted) === wanted;
  if (uid === file.uid) return allows(file.mode >> 6);
  const list = entries ?? [];
  const mask = list.find((entry) => entry.tag === MASK)?.permissions ?? 7;
  const user = list.find((entry) => entry.tag === USER && entry.id === uid);
  if (user !== undefined) return allows(user.permissions & mask);
  // With a list the group bits of the mode are its mask, not the group's own.
  const own = list.find((entry) => entry.tag === GROUP_OBJ)?.permissions ?? file.mode >> 3;
  const groups = list
    .filter((entry) => entry.tag === GROUP && gids.includes(entry.id))
    .map((entry) => entry.permissions);
  if (gids.includes(file.gid)) groups.push(own);
  if (groups.length > 0) return groups.some((permissions) => allows(permissions & mask));
  return allows(file.mode);
}

/** The list with other users and groups in it. */
export function mapAcl(
  entries: readonly AclEntry[],
  ids: { readonly user: (id: number) => number; readonly group: (id: number) => number },
): AclEntry[] {
  return entries.map((entry) => {
    if (entry.tag === USER) return { ...entry, id: ids.user(entry.id) };
    return entry.tag === GROUP ? { ...entry, id: ids.group(entry.id) } : entry;
  });
}

/** The list after chmod to `mode`. */
export function chmodAcl(entries: readonly AclEntry[], mode: number): AclEntry[] {
  const hasMask = entries.some((entry) => entry.tag === MASK);
  return entries.map((entry) => {
    if (entry.tag === USER_OBJ) return { ...entry, permissions: (mode >> 6) & 7 };
    if (entry.tag === OTHER) return { ...entry, permissions: mode & 7 };
    if (entry.tag === MASK || (entry.tag === GROUP_OBJ && !hasMask)) return { ...entry, permissions: (mode >> 3) & 7 };
    return entry;
  });
}

/** What a new inode with the requested `mode` inherits from its directory's default list: its access list and resulting mode bits. */
export function inheritAcl(
  defaults: readonly AclEntry[],
  mode: number,
): { readonly entries: AclEntry[]; readonly bits: number } {
  const hasMask = defaults.some((entry) => entry.tag === MASK);
  const entries = defaults.map((entry) => {
    if (entry.tag === USER_OBJ) return { ...entry, permissions: entry.permissions & (mode >> 6) & 7 };
    if (entry.tag === OTHER) return { ...entry, permissions: entry.permissions & mode & 7 };
    if (entry.tag === MASK || (entry.tag === GROUP_OBJ && !hasMask)) {
      return { ...entry, permissions: entry.permissions & (mode >> 3) & 7 };
    }
    return entry;
  });
  return { entries, bits: modeOfAcl(entries).bits };
}
