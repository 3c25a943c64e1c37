import { isUtf8 } from "node:buffer";
import type { Header } from "tar-stream";
import type { ExportItem } from "../../domain/admin-reading.ts";
import { isDirectory, isRegular, S_IFBLK, S_IFCHR, S_IFIFO, S_IFLNK, S_IFMT } from "../../domain/inode.ts";
import { ACL_ACCESS, ACL_DEFAULT } from "../../meta/acl.ts";
import { aclToText } from "./acl-text.ts";
import { ownHeader, paddingOf } from "./blocks.ts";
import { encodePaxRecord, encodePaxTime } from "./pax.ts";

export type ExportEntry = Extract<ExportItem, { kind: "entry" }>;

/** What tar-stream makes a ustar header of. */
export type MainHeader = Partial<Header> & { readonly name: string };

/** What stands before a member's content. */
export type MemberHeader = {
  /** The extended header with its own ustar header, filled up to a block. */
  readonly extended: Buffer;
  /** The ustar header for tar-stream, or ready made where that can't say it. */
  readonly main:
    | { readonly by: "tar-stream"; readonly header: MainHeader }
    | { readonly by: "us"; readonly block: Buffer };
};

/** What tar-stream writes in a ustar header: six octal digits for owners, and signed 32-bit seconds. */
const OWNER_MAX = 0o777777;
const SECONDS_MAX = 0x7fff_ffff;

/** A name field of a ustar header. */
const NAME_BYTES_MAX = 100;

/** tar-stream takes a mode of 0 for "none given"; a bit that it cuts off keeps the 0. */
const MODE_GIVEN = 0o10000;

/**
 * The header of an entry as the member `name` of `contentBytes` in the archive. `linkName` is the target of a symbolic link, or the first name's member. With `sparseSize` the content is in
 * GNU's sparse format 1.0 and that is the size of the file.
 *
 * The extended headers are our own work, as tar-stream's `pax` field takes strings and writes them as UTF-8: names and values of other bytes would
 * become U+FFFD. Device nodes too, as it has six digits for minor numbers of 20 bits. (It also ends the archive silently at a header it can't encode: nothing
 * that we give it goes beyond its fields.)
 */
export function memberHeader(
  entry: ExportEntry,
  member: {
    readonly name: Buffer;
    readonly linkName?: Buffer;
    readonly contentBytes: number;
    readonly sparseSize?: bigint;
  },
): MemberHeader {
  const { attributes, linkedTo } = entry;
  const records = paxRecords(entry, member);
  const body = Buffer.concat(records);
  const plain = asciiName(member.name);
  const own = ownHeader({ name: `PaxHeaders/${plain}`.slice(0, NAME_BYTES_MAX), type: "x", size: body.length });
  const extended = Buffer.concat([own, body, Buffer.alloc(paddingOf(BigInt(body.length)))]);
  const common = {
    name: member.sparseSize === undefined ? plain : sparseName(plain),
    mode: attributes.mode & 0o7777,
    uid: Math.min(attributes.uid, OWNER_MAX),
    gid: Math.min(attributes.gid, OWNER_MAX),
  };
  const mtimeSec = Math.max(0, Math.min(attributes.mtime.sec, SECONDS_MAX));
  const type = linkedTo === undefined ? typeOf(attributes.mode) : "link";
  if (type === "character-device" || type === "block-device") {
    const device = { ...common, ...deviceNumbers(attributes.rdev), mtimeSec };
    const block = ownHeader({ ...device, type: type === "character-device" ? "3" : "4" });
    return { extended, main: { by: "us", block } };
  }
  const header: MainHeader = {
    ...common,
    mode: common.mode | MODE_GIVEN,
    type,
    size: member.contentBytes,
    mtime: new Date(mtimeSec * 1000),
    ...(member.linkName === undefined ? {} : { linkname: asciiName(member.linkName) }),
  };
  return { extended, main: { by: "tar-stream", header } };
}

function paxRecords(
  { attributes, xattrs, linkedTo }: ExportEntry,
  {
    name,
    linkName,
    contentBytes,
    sparseSize,
  }: { name: Buffer; linkName?: Buffer; contentBytes: number; sparseSize?: bigint },
): Buffer[] {
  const { uid, gid, mtime, atime, ctime } = attributes;
  const records: Buffer[] = [];
  const add = (key: string, value: Buffer | string): number => records.push(encodePaxRecord(key, value));
  // Before the names it is about.
  if (!isUtf8(name) || (linkName !== undefined && !isUtf8(linkName))) add("hdrcharset", "BINARY");
  if (sparseSize !== undefined) {
    add("GNU.sparse.major", "1");
    add("GNU.sparse.minor", "0");
    add("GNU.sparse.name", name);
    add("GNU.sparse.realsize", String(sparseSize));
  } else if (!isPlain(name)) add("path", name);
  if (linkName !== undefined && !isPlain(linkName)) add("linkpath", linkName);
  if (contentBytes >= 8 ** 11) add("size", String(contentBytes));
  if (uid > OWNER_MAX) add("uid", String(uid));
  if (gid > OWNER_MAX) add("gid", String(gid));
  if (mtime.nsec !== 0 || mtime.sec < 0 || mtime.sec > SECONDS_MAX) add("mtime", encodePaxTime(mtime));
  add("atime", encodePaxTime(atime));
  add("ctime", encodePaxTime(ctime));
  // A further name is the same inode: it has them from the first one.
  if (linkedTo !== undefined) return records;
  const sorted = [...xattrs].sort((left, right) => left.name.compare(right.name));
  for (const xattr of sorted) records.push(xattrRecord(xattr));
  return records;
}

/** Access lists as text, for which the readers have a way of their own; everything else as it is. GNU tar writes "=" and "%" of an attribute's name as %3D and %25. */
function xattrRecord({ name, value }: { readonly name: Buffer; readonly value: Buffer }): Buffer {
  const list = name.equals(ACL_ACCESS) ? "access" : name.equals(ACL_DEFAULT) ? "default" : undefined;
  const text = list === undefined ? undefined : aclToText(value);
  if (text !== undefined) return encodePaxRecord(`SCHILY.acl.${list}`, text);
  const escaped = name.toString("latin1").replaceAll("%", "%25").replaceAll("=", "%3D");
  return encodePaxRecord(`SCHILY.xattr.${escaped}`, value);
}

function typeOf(mode: number): Header["type"] {
  if (isDirectory(mode)) return "directory";
  if (isRegular(mode)) return "file";
  switch (mode & S_IFMT) {
    case S_IFLNK:
      return "symlink";
    case S_IFCHR:
      return "character-device";
    case S_IFBLK:
      return "block-device";
    case S_IFIFO:
      return "fifo";
    default:
      throw new Error(`no member of tar has the type of mode ${mode.toString(8)}`);
  }
}

/** Linux's new_encode_dev: 12 bits major, 20 bits minor. */
function deviceNumbers(rdev: number): { major: number; minor: number } {
  return { major: (rdev >>> 8) & 0xfff, minor: (rdev & 0xff) | ((rdev >>> 12) & 0xfff00) };
}

/** Whether a ustar header has it as it is. */
function isPlain(name: Buffer): boolean {
  return name.length <= NAME_BYTES_MAX && /^[\x20-\x7e]+$/.test(name.toString("latin1"));
}

/** For readers that know no extended headers: the end of the name, in ASCII. Never empty. */
function asciiName(name: Buffer): string {
  if (isPlain(name)) return name.toString("latin1");
  return name
    .subarray(-NAME_BYTES_MAX)
    .toString("latin1")
    .replace(/[^\x20-\x7e]/g, "_");
}

/** As GNU tar names it, for those who don't know the format: a content that begins with a map is not the file. */
function sparseName(name: string): string {
  return `./GNUSparseFile.0/${name.replace(/^.*\//s, "")}`.slice(0, NAME_BYTES_MAX);
}
