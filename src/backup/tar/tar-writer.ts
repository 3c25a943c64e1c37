import { type Pack, pack } from "tar-stream";
import { assert } from "../../base/assert.ts";
import type { Pages } from "../../domain/admin-call.ts";
import type { ExportItem } from "../../domain/admin-reading.ts";
import { isDirectory, isSymlink, S_IFMT, S_IFSOCK } from "../../domain/inode.ts";
import { BLOCK_BYTES, paddingOf } from "./blocks.ts";
import { type ExportEntry, type MemberHeader, memberHeader } from "./member-header.ts";
import { RangeList } from "./range-list.ts";
import { SparseMap } from "./sparse-map.ts";

/** How far the making of the archive may be ahead of its reader: headers of some thousand files, or a piece of content on its way. */
const AHEAD_BYTES_MAX = 1024 * 1024;

/** Zeros that are written at a time. */
const ZEROS = Buffer.alloc(64 * 1024);

export type TarOptions = {
  /** What the archive calls the exported place if it is no directory. A directory is ".", and what is in it "./NAME". */
  readonly rootName: Buffer;
  /** Hears of what the archive has not, or not exactly. `path` is relative to the exported place. */
  readonly note: (path: Buffer, reason: string) => void;
};

/**
 * A POSIX pax archive of an exported tree (ReadingApi.exportTree with content and ranges), in pieces at the reader's pace. The bytes depend on the items alone: the same moment makes the same
 * archive. It has names of any bytes, owners of 32 bits, times in nanoseconds, extended attributes and access lists, hard links, devices, and holes as holes (GNU
 * sparse format 1.0). Memory: a page, AHEAD_BYTES_MAX, and 16 bytes a range of one file. The names of hard links are found by the service, which bounds them.
 *
 * A file that can't be read completely has zeros there, which `note` says. Sockets are left out: tar has no type for them.
 */
export async function* tarBytes(pages: Pages<ExportItem>, options: TarOptions): AsyncGenerator<Buffer> {
  const archive = pack();
  const writer = new TarWriter(archive, options);
  const work = writer.write(pages).then(
    () => archive.finalize(),
    (error: unknown) => {
      archive.destroy(error instanceof Error ? error : new Error(String(error)));
    },
  );
  try {
    for await (const piece of archive as AsyncIterable<Buffer>) {
      writer.taken(piece.length);
      yield piece;
    }
  } finally {
    archive.destroy();
    writer.stop();
    await work;
  }
}

type OpenMember = {
  readonly write: (bytes: Buffer) => Promise<void>;
  readonly end: () => Promise<void>;
};

type OpenFile = {
  readonly entry: ExportEntry;
  readonly ranges: RangeList;
  /** From the first data on. */
  member: OpenMember | undefined;
  /** The range in which the next byte belongs, and how far the file is written. */
  rangeIndex: number;
  written: bigint;
};

class TarWriter {
  readonly #archive: Pack;
  readonly #options: TarOptions;
  #made = 0;
  #taken = 0;
  #stopped = false;
  #wake: () => void = () => {};
  #file: OpenFile | undefined;

  constructor(archive: Pack, options: TarOptions) {
    this.#archive = archive;
    this.#options = options;
  }

  taken(bytes: number): void {
    this.#taken += bytes;
    this.#wake();
  }

  /** The reader went away. */
  stop(): void {
    this.#stopped = true;
    this.#wake();
  }

  async write(pages: Pages<ExportItem>): Promise<void> {
    for await (const page of pages) {
      for (const item of page) {
        await this.#accept(item);
        if (this.#stopped) return;
      }
    }
    assert(this.#file === undefined, "the tree ended inside of a file");
  }

  async #accept(item: ExportItem): Promise<void> {
    if (item.kind === "entry") return this.#entry(item);
    const file = this.#file;
    assert(file !== undefined, "content outside of a file");
    switch (item.kind) {
      case "ranges":
        for (const { offset, length } of item.ranges) file.ranges.add(offset, length);
        return;
      case "data":
        return this.#data(file, item);
      case "end":
        return this.#end(file, item);
    }
  }

  async #entry(entry: ExportEntry): Promise<void> {
    assert(this.#file === undefined, "an entry inside of a file's content");
    if ((entry.attributes.mode & S_IFMT) === S_IFSOCK) {
      this.#options.note(entry.path, "a socket: tar has no type for it, it is left out");
      return;
    }
    if (entry.contentFollows) {
      this.#file = { entry, ranges: new RangeList(), member: undefined, rangeIndex: 0, written: 0n };
      return;
    }
    const linkName = this.#linkName(entry);
    const name = this.#nameOf(entry.path, entry.attributes.mode);
    await this.#empty(memberHeader(entry, { name, ...(linkName === undefined ? {} : { linkName }), contentBytes: 0 }));
  }

  #linkName(entry: ExportEntry): Buffer | undefined {
    if (entry.linkedTo !== undefined) return this.#nameOf(entry.linkedTo, entry.attributes.mode);
    return isSymlink(entry.attributes.mode) ? entry.target : undefined;
  }

  #nameOf(path: Buffer, mode: number): Buffer {
    if (path.length === 0) return isDirectory(mode) ? DOT_SLASH : this.#options.rootName;
    return isDirectory(mode) ? Buffer.concat([DOT_SLASH, path, SLASH]) : Buffer.concat([DOT_SLASH, path]);
  }

  async #data(file: OpenFile, { offset, bytes }: Extract<ExportItem, { kind: "data" }>): Promise<void> {
    const member = await this.#opened(file);
    await this.#zerosUpTo(file, offset);
    const range = file.ranges.at(file.rangeIndex);
    const end = offset + BigInt(bytes.length);
    assert(range.offset <= offset && end <= range.offset + range.length, "data outside of the ranges");
    await member.write(bytes);
    this.#advance(file, end);
  }

  async #end(file: OpenFile, { complete, message }: Extract<ExportItem, { kind: "end" }>): Promise<void> {
    const member = await this.#opened(file);
    const { entry, ranges } = file;
    if (!complete) {
      this.#options.note(entry.path, `${message ?? "stored data is damaged or missing"}; the archive has zeros there`);
    }
    if (ranges.joined)
      this.#options.note(entry.path, `it has more than ${ranges.count} holes: the last are written as zeros`);
    assert(!complete || ranges.joined || file.rangeIndex === ranges.count, "ranges without data");
    await this.#zerosUpTo(file, entry.attributes.size);
    await member.end();
    this.#file = undefined;
  }

  /** What lies in ranges below `offset` and did not come is zeros: in a damaged file, or in one with too many holes. */
  async #zerosUpTo(file: OpenFile, offset: bigint): Promise<void> {
    while (file.rangeIndex < file.ranges.count) {
      const range = file.ranges.at(file.rangeIndex);
      if (range.offset >= offset) return;
      const from = file.written > range.offset ? file.written : range.offset;
      const rangeEnd = range.offset + range.length;
      const to = rangeEnd < offset ? rangeEnd : offset;
      for (let at = from; at < to; ) {
        const left = to - at;
        const length = left < BigInt(ZEROS.length) ? Number(left) : ZEROS.length;
        await file.member?.write(ZEROS.subarray(0, length));
        at += BigInt(length);
      }
      this.#advance(file, to);
      if (to === offset) return;
    }
  }

  #advance(file: OpenFile, to: bigint): void {
    file.written = to;
    const { offset, length } = file.ranges.at(file.rangeIndex);
    if (to === offset + length) file.rangeIndex += 1;
  }

  /** Opens the member when all ranges are known: its size is in its header. */
  async #opened(file: OpenFile): Promise<OpenMember> {
    if (file.member !== undefined) return file.member;
    const { entry, ranges } = file;
    const { size, mode } = entry.attributes;
    const name = this.#nameOf(entry.path, mode);
    if (ranges.bytes === size) {
      file.member = await this.#open(memberHeader(entry, { name, contentBytes: safe(size) }), safe(size));
      return file.member;
    }
    const map = new SparseMap(ranges, size);
    const contentBytes = map.bytes + safe(ranges.bytes);
    const member = await this.#open(memberHeader(entry, { name, contentBytes, sparseSize: size }), contentBytes);
    for (const piece of map.pieces()) await member.write(piece);
    file.member = member;
    return member;
  }

  /** A member without content. */
  async #empty({ extended, main }: MemberHeader): Promise<void> {
    this.#archive.push(extended);
    if (main.by === "us") this.#archive.push(main.block);
    else await new Promise<void>((resolve, reject) => this.#archive.entry(main.header, settle(resolve, reject)));
    await this.#room(extended.length + BLOCK_BYTES);
  }

  async #open({ extended, main }: MemberHeader, contentBytes: number): Promise<OpenMember> {
    assert(main.by === "tar-stream", "a member with content whose header is our own");
    this.#archive.push(extended);
    let ended: Promise<void> | undefined;
    const sink = await new Promise<ReturnType<Pack["entry"]>>((resolve) => {
      ended = new Promise<void>((done, failed) => resolve(this.#archive.entry(main.header, settle(done, failed))));
    });
    // The callback has it too; without a listener it would end the process.
    sink.on("error", () => {});
    ended?.catch(() => {});
    await this.#room(extended.length + BLOCK_BYTES);
    return {
      write: async (bytes) => {
        this.#made += bytes.length;
        if (this.#stopped || sink.destroyed) throw new Error("the archive's reader went away");
        if (sink.write(bytes)) return;
        await drained(sink);
      },
      end: async () => {
        sink.end(null);
        await ended;
        await this.#room(paddingOf(BigInt(contentBytes)));
      },
    };
  }

  /** Counts what was made, and waits until the reader has taken enough of it. */
  async #room(bytes: number): Promise<void> {
    this.#made += bytes;
    while (this.#made - this.#taken > AHEAD_BYTES_MAX && !this.#stopped) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

/** Until the sink takes more, or takes nothing any more. */
function drained(sink: ReturnType<Pack["entry"]>): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      sink.off("drain", done);
      sink.off("close", done);
      resolve();
    };
    sink.on("drain", done);
    sink.on("close", done);
  });
}

function settle(resolve: () => void, reject: (error: Error) => void): (error?: Error | null) => void {
  return (error) => (error == null ? resolve() : reject(error));
}

/** A size within a member. No disk holds more data than a safe number counts; sizes of sparse files do not come here. */
function safe(bytes: bigint): number {
  assert(bytes <= BigInt(Number.MAX_SAFE_INTEGER), "more data than a disk holds");
  return Number(bytes);
}

const SLASH = Buffer.from("/");
const DOT_SLASH = Buffer.from("./");
