import type { Timestamp } from "../../base/clock.ts";
import type { FileAttributes, Xattr } from "../../domain/admin-reading.ts";
import { inodeId } from "../../domain/ids.ts";
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG } from "../../domain/inode.ts";
import { ACL_ACCESS, ACL_DEFAULT } from "../../meta/acl.ts";
import { aclFromText, type IdLookup } from "./acl-text.ts";
import type { ExtendedHeader } from "./extended-header.ts";
import type { HeaderBlock } from "./header-block.ts";
import { decodePaxTime } from "./pax.ts";
import { TarError } from "./tar-error.ts";

/** What a member is. `other` can't be made. */
export type MemberKind = "file" | "directory" | "symlink" | "link" | "device" | "fifo" | "other";

const KINDS: Readonly<Record<string, MemberKind>> = {
  "0": "file",
  "\0": "file",
  "7": "file",
  S: "file",
  "1": "link",
  "2": "symlink",
  "3": "device",
  "4": "device",
  "5": "directory",
  "6": "fifo",
  // GNU's incremental archives: a directory, with its names as content.
  D: "directory",
};

/** What the type of a header stands for. In old archives a directory is a file whose name ends in a slash. */
export function kindOf(type: string, name: Buffer): MemberKind {
  const kind = KINDS[type] ?? "other";
  return kind === "file" && type !== "S" && name.at(-1) === 0x2f ? "directory" : kind;
}

/** (uid_t)-1 means "leave it" to chown, so nobody has it. */
const OWNER_MAX = 0xffff_fffen;

/** The attributes of a member of `size` bytes. `shown` names it. Throws TAR_DAMAGED. */
export function attributesOf(
  { header, extended, kind }: { header: HeaderBlock; extended: ExtendedHeader; kind: MemberKind },
  { size, shown }: { size: bigint; shown: string },
): FileAttributes {
  const damaged = (what: string, value: unknown): TarError =>
    new TarError("TAR_DAMAGED", `${shown} is damaged: its ${what} is ${value}`);
  const owner = (key: "uid" | "gid"): number => {
    const text = extended.value(key)?.toString("latin1");
    const value = text === undefined ? header[key] : /^\d{1,10}$/.test(text) ? BigInt(text) : -1n;
    if (value < 0n || value > OWNER_MAX) throw damaged(key, text?.slice(0, 40) ?? value);
    return Number(value);
  };
  const time = (key: "mtime" | "atime" | "ctime"): Timestamp | undefined => {
    const text = extended.value(key)?.toString("latin1");
    if (text === undefined) return undefined;
    const value = decodePaxTime(text);
    if (value === undefined) throw damaged(key, JSON.stringify(text.slice(0, 40)));
    return value;
  };
  const sec = Number(header.mtimeSec);
  if (!Number.isSafeInteger(sec)) throw damaged("mtime", header.mtimeSec);
  const mtime = time("mtime") ?? { sec, nsec: 0 };
  return {
    // Numbers and counts of inodes are those of where it is unpacked.
    ino: inodeId(1),
    nlink: 1,
    mode: (header.mode & 0o7777) | typeBits(kind, header.type),
    uid: owner("uid"),
    gid: owner("gid"),
    rdev: kind === "device" ? deviceNumber(header, shown) : 0,
    size,
    allocatedBytes: size,
    mtime,
    atime: time("atime") ?? mtime,
    ctime: time("ctime") ?? mtime,
    btime: mtime,
  };
}

function typeBits(kind: MemberKind, type: string): number {
  switch (kind) {
    case "directory":
      return S_IFDIR;
    case "symlink":
      return S_IFLNK;
    case "fifo":
      return S_IFIFO;
    case "device":
      return type === "3" ? S_IFCHR : S_IFBLK;
    case "file":
    case "link":
    case "other":
      return S_IFREG;
  }
}

/** Linux's new_encode_dev: 12 bits major, 20 bits minor. */
function deviceNumber({ major, minor }: HeaderBlock, shown: string): number {
  if (major > 0xfff || minor > 0xf_ffff) {
    throw new TarError("TAR_UNSUPPORTED", `${shown} is device ${major}:${minor}, which Linux can't have`);
  }
  return ((minor & 0xff) | (major << 8) | ((minor & 0xf_ff00) << 12)) >>> 0;
}

const SCHILY = "SCHILY.xattr.";
const LIBARCHIVE = "LIBARCHIVE.xattr.";
const LISTS = [
  { key: "SCHILY.acl.access", name: ACL_ACCESS },
  { key: "SCHILY.acl.default", name: ACL_DEFAULT },
] as const;

/**
 * The extended attributes of a member: star's and GNU tar's SCHILY.xattr.NAME (bytes; "=" and "%" of the name as %3D and %25), libarchive's (name percent-encoded, value in base64), and access lists
 * as text. What can't be understood is told to `note`.
 */
export function xattrsOf(
  extended: ExtendedHeader,
  { lookup, note }: { readonly lookup: IdLookup; readonly note: (reason: string) => void },
): Xattr[] {
  const found = new Map<string, Buffer>();
  for (const [key, value] of extended.own) {
    if (key.startsWith(SCHILY)) found.set(percentDecoded(key.slice(SCHILY.length), /%(3D|25)/gi), value);
  }
  for (const [key, value] of extended.own) {
    if (!key.startsWith(LIBARCHIVE)) continue;
    const name = percentDecoded(key.slice(LIBARCHIVE.length), /%([0-9a-f]{2})/gi);
    if (!found.has(name)) found.set(name, Buffer.from(value.toString("latin1"), "base64"));
  }
  for (const { key, name } of LISTS) {
    const text = extended.own.get(key);
    if (text === undefined || text.length === 0 || found.has(name.toString("latin1"))) continue;
    const list = aclFromText(text.toString("utf8"), lookup);
    if (typeof list === "string") note(`access list left out: ${list}`);
    else found.set(name.toString("latin1"), list);
  }
  if (extended.own.has("SCHILY.acl.ace")) note("an NFSv4 access list, which Linux has not, is left out");
  return [...found].map(([name, value]) => ({ name: Buffer.from(name, "latin1"), value }));
}

function percentDecoded(text: string, pattern: RegExp): string {
  return text.replace(pattern, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}
