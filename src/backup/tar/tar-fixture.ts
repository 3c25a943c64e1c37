import type { ExportItem, FileAttributes, Xattr } from "../../domain/admin-reading.ts";
import { inodeId } from "../../domain/ids.ts";
import { S_IFDIR, S_IFREG } from "../../domain/inode.ts";
import { BLOCK_BYTES, checksumsOf } from "./blocks.ts";
import { readTar } from "./tar-reader.ts";
import { tarBytes } from "./tar-writer.ts";

/** What tests of archives are made with: entries of a tree, archives of them, and members made by hand. */

type Entry = Extract<ExportItem, { kind: "entry" }>;
type More = Partial<FileAttributes> & {
  readonly target?: string;
  readonly xattrs?: Xattr[];
  readonly linkedTo?: string;
};

const TIME = { sec: 1_600_000_000, nsec: 123_456_789 };

/** An entry without content. */
export function entry(path: string | Buffer, mode: number, more: More = {}): Entry {
  const { target = "", xattrs = [], linkedTo, ...rest } = more;
  const attributes: FileAttributes = {
    ino: inodeId(1),
    nlink: 1,
    mode,
    uid: 0,
    gid: 0,
    rdev: 0,
    size: 0n,
    allocatedBytes: 0n,
    mtime: TIME,
    atime: TIME,
    ctime: TIME,
    btime: TIME,
    ...rest,
  };
  return {
    kind: "entry",
    path: Buffer.from(path),
    attributes: { ...attributes, allocatedBytes: attributes.size },
    target: Buffer.from(target),
    xattrs,
    contentFollows: false,
    ...(linkedTo === undefined ? {} : { linkedTo: Buffer.from(linkedTo) }),
  };
}

/** A regular file with data at offsets, up to `size` (else the end of the last). */
export function file(path: string | Buffer, data: readonly [number, string | Buffer][], more: More = {}): ExportItem[] {
  const pieces = data.map(([offset, bytes]) => ({ offset: BigInt(offset), bytes: Buffer.from(bytes) }));
  const last = pieces.at(-1);
  const end = last === undefined ? 0n : last.offset + BigInt(last.bytes.length);
  const ranges = pieces.map(({ offset, bytes }) => ({ offset, length: BigInt(bytes.length) }));
  return [
    { ...entry(path, S_IFREG | 0o640, { size: end, ...more }), contentFollows: true },
    ...(ranges.length === 0 ? [] : [{ kind: "ranges", ranges } as const]),
    ...pieces.map((piece) => ({ kind: "data", ...piece }) as const),
    { kind: "end", complete: true },
  ];
}

export const root = (): Entry => entry("", S_IFDIR | 0o755);

/** Items in odd pages, so that what belongs together is torn apart. */
export async function* pagesOf(items: readonly ExportItem[]): AsyncGenerator<readonly ExportItem[]> {
  for (let at = 0; at < items.length; at += 3) yield items.slice(at, at + 3);
}

/** The archive of a tree, and what was noted. */
export async function archiveOf(items: readonly ExportItem[]): Promise<{ bytes: Buffer; notes: string[] }> {
  const notes: string[] = [];
  const note = (path: Buffer, reason: string): number => notes.push(`${path}: ${reason}`);
  const pieces: Buffer[] = [];
  for await (const piece of tarBytes(pagesOf(items), { rootName: Buffer.from("root"), note })) pieces.push(piece);
  return { bytes: Buffer.concat(pieces), notes };
}

/** Bytes as a stream of pieces of `size`. */
export async function* piecesOf(bytes: Buffer, size = 700): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

/** What the reader makes of an archive, with the data of a file joined where it touches. */
export async function itemsOf(bytes: Buffer, pieceBytes = 700): Promise<{ items: ExportItem[]; notes: string[] }> {
  const notes: string[] = [];
  const note = (path: Buffer, reason: string): number => notes.push(`${path}: ${reason}`);
  const lookup = (): undefined => undefined;
  const items: ExportItem[] = [];
  for await (const item of readTar(piecesOf(bytes, pieceBytes), { note, lookup })) {
    const last = items.at(-1);
    if (item.kind === "data" && last?.kind === "data" && last.offset + BigInt(last.bytes.length) === item.offset) {
      items[items.length - 1] = { ...last, bytes: Buffer.concat([last.bytes, item.bytes]) };
    } else items.push(item);
  }
  return { items, notes };
}

/** One member as other programs write it: a header with these fields, and its content up to a block. */
export function member(
  name: string | Buffer,
  fields: {
    readonly type?: string;
    readonly content?: string | Buffer;
    readonly size?: number;
    readonly linkName?: string;
    readonly magic?: string;
    readonly patch?: (block: Buffer) => void;
  } = {},
): Buffer {
  const content = Buffer.from(fields.content ?? "");
  const block = Buffer.alloc(BLOCK_BYTES);
  Buffer.from(name).copy(block, 0, 0, 100);
  block.write("0000644\0", 100, "latin1");
  block.write("0000000\0", 108, "latin1");
  block.write("0000000\0", 116, "latin1");
  block.write(`${(fields.size ?? content.length).toString(8).padStart(11, "0")}\0`, 124, "latin1");
  block.write("14000000000\0", 136, "latin1");
  block.write(fields.type ?? "0", 156, "latin1");
  block.write(fields.linkName ?? "", 157, 100, "latin1");
  block.write(fields.magic ?? "ustar\x0000", 257, "latin1");
  fields.patch?.(block);
  sealHeader(block);
  return Buffer.concat([block, content, Buffer.alloc((BLOCK_BYTES - (content.length % BLOCK_BYTES)) % BLOCK_BYTES)]);
}

/** Writes the checksum that fits. */
export function sealHeader(block: Buffer): void {
  block.write(`${checksumsOf(block).unsigned.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
}

export const END = Buffer.alloc(2 * BLOCK_BYTES);
