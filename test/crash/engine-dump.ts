import { createHash } from "node:crypto";
import type { InodeId, Lsn } from "../../src/domain/ids.ts";
import { type Inode, isDirectory, isRegular, S_IFLNK, S_IFMT } from "../../src/domain/inode.ts";
import type { MetadataApi } from "../../src/domain/metadata-api.ts";
import { SERVICE_CONTEXT } from "../../src/meta/open-app.ts";

/** Bytes of a file that are read; files may end near 2^63. */
const READ_BYTES = 1024 * 1024;
const EXTENTS_MAX = 10_000;

/** Everything that can be seen of a tree as of a moment: one line for each name, with attributes, xattrs, and what the file holds. */
export async function dumpTree(api: MetadataApi, root: InodeId, at: Lsn): Promise<string[]> {
  const lines: string[] = [];
  const waiting: { ino: InodeId; path: string }[] = [{ ino: root, path: "" }];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const inode = await api.execute({ op: "getattr", ino: next.ino, at }, SERVICE_CONTEXT);
    lines.push(`${next.path} ${await describe(api, inode, at)}`);
    if (isDirectory(inode.mode))
      for (const entry of await names(api, next.ino, at))
        waiting.push({ ino: entry.ino, path: `${next.path}/${entry.name}` });
  }
  return lines.sort();
}

async function names(api: MetadataApi, ino: InodeId, at: Lsn): Promise<{ name: string; ino: InodeId }[]> {
  const found: { name: string; ino: InodeId }[] = [];
  let cookie = 0n;
  for (;;) {
    const page = await api.execute({ op: "readdir", ino, cookie, entriesMax: 100, plus: false, at }, SERVICE_CONTEXT);
    for (const entry of page.entries) {
      found.push({ name: entry.name.toString("latin1"), ino: entry.ino });
      cookie = entry.cookie;
    }
    if (page.end) return found;
  }
}

async function describe(api: MetadataApi, inode: Inode, at: Lsn): Promise<string> {
  const { ino } = inode;
  const facts = [attributes(inode)];
  const xattrs = await api.execute({ op: "listxattr", ino, at }, SERVICE_CONTEXT);
  for (const name of xattrs) {
    const value = await api.execute({ op: "getxattr", ino, name, at }, SERVICE_CONTEXT);
    facts.push(`${name.toString("latin1")}=${value.toString("hex")}`);
  }
  if ((inode.mode & S_IFMT) === S_IFLNK)
    facts.push((await api.execute({ op: "readlink", ino, at }, SERVICE_CONTEXT)).toString("hex"));
  if (isRegular(inode.mode)) facts.push(await content(api, inode, at));
  return facts.join(" ");
}

/** All attributes, in an order that doesn't depend on how the object was made. */
function attributes(inode: Inode): string {
  const pairs = Object.entries(inode).sort(([left], [right]) => (left < right ? -1 : 1));
  return JSON.stringify(pairs, (_key, value: unknown) => (typeof value === "bigint" ? `${value}` : value));
}

/** The runs of data, with their checksum; holes are what lies between. */
async function content(api: MetadataApi, inode: Inode, at: Lsn): Promise<string> {
  const hash = createHash("sha256");
  let offset = 0n;
  for (let extents = 0; extents < EXTENTS_MAX && offset < inode.size; extents++) {
    const from = await seek(api, { ino: inode.ino, offset, whence: "data", at });
    if (from === undefined) break;
    const to = (await seek(api, { ino: inode.ino, offset: from, whence: "hole", at })) ?? inode.size;
    hash.update(`${from}-${to}:`);
    for (let position = from; position < to; position += BigInt(READ_BYTES)) {
      const length = to - position < BigInt(READ_BYTES) ? Number(to - position) : READ_BYTES;
      for (const piece of await api.execute(
        { op: "read", ino: inode.ino, offset: position, length, at },
        SERVICE_CONTEXT,
      ))
        hash.update(piece);
    }
    offset = to;
  }
  return hash.digest("hex");
}

async function seek(
  api: MetadataApi,
  place: { ino: InodeId; offset: bigint; whence: "data" | "hole"; at: Lsn },
): Promise<bigint | undefined> {
  try {
    return await api.execute({ op: "lseek", ...place }, SERVICE_CONTEXT);
  } catch (error) {
    if ((error as { code?: string }).code === "ENXIO") return undefined;
    throw error;
  }
}
