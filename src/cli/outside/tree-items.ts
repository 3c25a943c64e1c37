import { ByteReader, ByteWriter } from "../../base/bytes.ts";
import type { Timestamp } from "../../base/clock.ts";
import type { FileEntry } from "./file-attributes.ts";
import type { TreeItem } from "./tree-writer.ts";

// Items of a tree as bytes in memory that two threads share, one after the other. From one process to itself: no version, nothing is ever stored.
//   0      kind u8: 1 entry, 2 data, 3 end
//   entry  flags u8 (1: content follows, 2: linked), mode, uid, gid, rdev u32, size u64, atime, mtime (sec i64, nsec u32), path, target, linkedTo sized,
//          count u32, then name and value sized
//   data   offset u64, bytes sized
//   end    complete u8, message sized

const ENTRY = 1;
const DATA = 2;
const END = 3;
const CONTENT_FOLLOWS = 1;
const LINKED = 2;

/** Bytes of an item beside its content. */
const DATA_HEAD_BYTES = 1 + 8 + 4;

const NO_BYTES = Buffer.alloc(0);

/** Writes items into memory that it is given. */
export class ItemPacker {
  readonly #writer = new ByteWriter(4096);
  #target: Buffer = NO_BYTES;
  #used = 0;

  /** Goes on at the begin of `target`. */
  begin(target: Buffer): void {
    this.#target = target;
    this.#used = 0;
  }

  /** Bytes that are written. */
  get used(): number {
    return this.#used;
  }

  /** Whether there was room for `item`: if not, nothing of it is written. */
  add(item: TreeItem): boolean {
    this.#writer.reset();
    const content = item.kind === "data" ? item.bytes : NO_BYTES;
    writeItem(this.#writer, item);
    const head = this.#writer.view();
    if (this.#used + head.length + content.length > this.#target.length) return false;
    head.copy(this.#target, this.#used);
    content.copy(this.#target, this.#used + head.length);
    this.#used += head.length + content.length;
    return true;
  }

  /** The room that `item` needs. */
  bytesOf(item: TreeItem): number {
    if (item.kind === "data") return DATA_HEAD_BYTES + item.bytes.length;
    this.#writer.reset();
    writeItem(this.#writer, item);
    return this.#writer.view().length;
  }
}

/** The items in `packed`. The bytes of content are views of it, everything else is the caller's. */
export function* unpackItems(packed: Buffer): Generator<TreeItem> {
  const reader = new ByteReader(packed);
  while (reader.remaining > 0) yield readItem(reader);
}

function writeItem(writer: ByteWriter, item: TreeItem): void {
  switch (item.kind) {
    case "entry":
      writeEntry(writer.u8(ENTRY), item);
      return;
    case "data":
      // The bytes follow: they are copied once, to where they go.
      writer.u8(DATA).big64(item.offset).u32(item.bytes.length);
      return;
    case "end":
      writer
        .u8(END)
        .u8(item.complete ? 1 : 0)
        .sized(Buffer.from(item.message ?? ""));
  }
}

function writeEntry(
  writer: ByteWriter,
  { path, target, xattrs, contentFollows, linkedTo, attributes }: FileEntry,
): void {
  const { mode, uid, gid, rdev, size, atime, mtime } = attributes;
  writer.u8((contentFollows ? CONTENT_FOLLOWS : 0) + (linkedTo === undefined ? 0 : LINKED));
  writer.u32(mode).u32(uid).u32(gid).u32(rdev).big64(size);
  for (const { sec, nsec } of [atime, mtime]) writer.i64(sec).u32(nsec);
  writer
    .sized(path)
    .sized(target)
    .sized(linkedTo ?? NO_BYTES);
  writer.u32(xattrs.length);
  for (const { name, value } of xattrs) writer.sized(name).sized(value);
}

function readItem(reader: ByteReader): TreeItem {
  const kind = reader.u8();
  if (kind === ENTRY) return { kind: "entry", ...readEntry(reader) };
  if (kind === DATA) return { kind: "data", offset: reader.big64(), bytes: reader.sized() };
  const complete = reader.u8() === 1;
  const message = reader.sized().toString();
  return message === "" ? { kind: "end", complete } : { kind: "end", complete, message };
}

function readEntry(reader: ByteReader): FileEntry {
  const flags = reader.u8();
  const [mode, uid, gid, rdev] = [reader.u32(), reader.u32(), reader.u32(), reader.u32()];
  const attributes = { mode, uid, gid, rdev, size: reader.big64(), atime: readTime(reader), mtime: readTime(reader) };
  const [path, target, linkedTo] = [ownBytes(reader), ownBytes(reader), ownBytes(reader)];
  const xattrs = Array.from({ length: reader.u32() }, () => ({ name: ownBytes(reader), value: ownBytes(reader) }));
  const entry = { path, target, xattrs, attributes, contentFollows: (flags & CONTENT_FOLLOWS) !== 0 };
  return (flags & LINKED) === 0 ? entry : { ...entry, linkedTo };
}

function readTime(reader: ByteReader): Timestamp {
  return { sec: reader.i64(), nsec: reader.u32() };
}

/** Entries outlive the memory that they came in: a directory is finished after all that is in it. */
function ownBytes(reader: ByteReader): Buffer {
  const bytes = reader.sized();
  return bytes.length === 0 ? NO_BYTES : Buffer.from(bytes);
}
