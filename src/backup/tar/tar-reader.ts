import type { ExportItem } from "../../domain/admin-reading.ts";
import { SIZE_BYTES_MAX } from "../../domain/inode.ts";
import type { IdLookup } from "./acl-text.ts";
import { paddingOf } from "./blocks.ts";
import { EXTENDED_BYTES_MAX, ExtendedHeader, LONG_NAME_BYTES_MAX } from "./extended-header.ts";
import { decodeHeader, type HeaderBlock } from "./header-block.ts";
import { attributesOf, kindOf, type MemberKind, xattrsOf } from "./member-entry.ts";
import { memberPath } from "./member-name.ts";
import { oldSparseLayout, paxSparseLayout, type SparseLayout } from "./sparse-reader.ts";
import { shownName, TarError } from "./tar-error.ts";
import { TarSource } from "./tar-source.ts";

/** What comes after the end mark is read and thrown away up to here, so that the program that sends it ends well; archives are filled up to some kilobytes. */
const TRAILER_BYTES_MAX = 16n * 1024n * 1024n;

export type TarReading = {
  /** Hears of what is left out. */
  readonly note: (path: Buffer, reason: string) => void;
  /** For access lists that name users and groups. */
  readonly lookup: IdLookup;
};

/**
 * The members of an archive as the items of an exported tree, in the archive's order: directories may come late, more than once, or not at all. Reads POSIX pax,
 * ustar, and GNU's formats with long names and sparse files (old, 0.0, 0.1, 1.0). Paths are below the target; what a symbolic link points to is as it is. Inode numbers mean
 * nothing. Throws TarError for damage, a missing end, and names that lead out: what came before was right. Memory: one header within
 * EXTENDED_BYTES_MAX, 16 bytes a range of one file, and a piece of content.
 *
 * This is not tar-stream's `extract`: that decodes names and values of extended headers as UTF-8 and so loses other bytes, keeps one record of a key, takes the blocks after GNU's sparse
 * headers for content, ends without a word where an archive is cut between members, and does not say which member is damaged.
 */
export async function* readTar(source: AsyncIterable<Uint8Array>, options: TarReading): AsyncGenerator<ExportItem> {
  const reader = new TarReader(new TarSource(source), options);
  try {
    yield* reader.items();
  } finally {
    await reader.close();
  }
}

type Member = {
  readonly block: Buffer;
  readonly header: HeaderBlock;
  readonly kind: MemberKind;
  readonly path: Buffer;
  /** As messages name it. */
  readonly shown: string;
  /** Bytes of content in the archive. */
  readonly contentBytes: bigint;
};

class TarReader {
  readonly #source: TarSource;
  readonly #options: TarReading;
  readonly #extended = new ExtendedHeader();
  #last: Buffer | undefined;

  constructor(source: TarSource, options: TarReading) {
    this.#source = source;
    this.#options = options;
  }

  async close(): Promise<void> {
    await this.#source.close();
  }

  async *items(): AsyncGenerator<ExportItem> {
    for (let member = await this.#next(); member !== undefined; member = await this.#next()) {
      yield* this.#member(member);
      this.#last = member.path;
      this.#extended.clear();
    }
    await this.#source.skip(TRAILER_BYTES_MAX);
  }

  /** The next member's header; what stands before it is in #extended. Undefined at the end mark. */
  async #next(): Promise<Member | undefined> {
    for (;;) {
      const where = this.#where();
      const block = await this.#source.block();
      if (block === undefined) throw this.#cutOff();
      if (isZero(block)) {
        await this.#endMark();
        return undefined;
      }
      const header = decodeHeader(block, where);
      switch (header.type) {
        case "x":
        case "X":
        case "g": {
          const body = await this.#body(header, { bytesMax: EXTENDED_BYTES_MAX, where });
          this.#extended.take(body, { global: header.type === "g", where });
          break;
        }
        case "L":
        case "K": {
          const body = await this.#body(header, { bytesMax: LONG_NAME_BYTES_MAX, where });
          this.#extended.takeLong(header.type === "L" ? "name" : "link", body);
          break;
        }
        case "V":
          // GNU's label of a volume: no member.
          break;
        default:
          return this.#opened(block, header);
      }
    }
  }

  #opened(block: Buffer, header: HeaderBlock): Member {
    const extended = this.#extended;
    const name = extended.value("GNU.sparse.name") ?? extended.value("path") ?? extended.longName ?? header.name;
    if (header.type === "M") {
      throw new TarError(
        "TAR_UNSUPPORTED",
        `${shownName(name)} continues from another volume: archives of several volumes can't be read`,
      );
    }
    const path = memberPath(name, "the name");
    const shown = shownName(name);
    const kind = kindOf(header.type, name);
    if (path.length === 0 && kind !== "directory") {
      throw new TarError(
        "TAR_REFUSED",
        `${shown} is the place itself that the archive is unpacked to, but no directory`,
      );
    }
    return { block, header, kind, path, shown, contentBytes: this.#contentBytes(header, kind, shown) };
  }

  #contentBytes(header: HeaderBlock, kind: MemberKind, shown: string): bigint {
    const text = this.#extended.value("size")?.toString("latin1");
    const size = text === undefined ? header.size : /^\d{1,19}$/.test(text) ? BigInt(text) : -1n;
    if (size < 0n || size > SIZE_BYTES_MAX) {
      throw new TarError("TAR_DAMAGED", `${shown} is damaged: its size is ${text?.slice(0, 40) ?? size}`);
    }
    if (kind === "file" || kind === "other" || header.type === "D") return size;
    // POSIX lets a link come with its content again; in older formats a size there says nothing.
    return kind === "link" && this.#extended.isPax ? size : 0n;
  }

  async *#member(member: Member): AsyncGenerator<ExportItem> {
    const { header, kind, path, shown, contentBytes } = member;
    if (kind === "other") {
      this.#options.note(path, `a member of type ${JSON.stringify(header.type)}, which is not known, is left out`);
      return this.#skip(contentBytes, shown);
    }
    const sparse = kind === "file" ? await this.#sparse(member) : undefined;
    const size = sparse?.size ?? (kind === "file" ? contentBytes : 0n);
    const linkName = this.#extended.value("linkpath") ?? this.#extended.longLink ?? header.linkName;
    const note = (reason: string): void => this.#options.note(path, reason);
    yield {
      kind: "entry",
      path,
      attributes: attributesOf({ header, extended: this.#extended, kind }, { size, shown }),
      target: kind === "symlink" ? symlinkTarget(linkName, shown) : NO_BYTES,
      xattrs: xattrsOf(this.#extended, { lookup: this.#options.lookup, note }),
      contentFollows: kind === "file",
      ...(kind === "link" ? { linkedTo: linkTarget(linkName, shown) } : {}),
    };
    if (kind !== "file") return this.#skip(contentBytes, shown);
    if (sparse === undefined) yield* this.#data({ offset: 0n, length: contentBytes }, shown);
    else for (const range of sparse.ranges) yield* this.#data(range, shown);
    if (!(await this.#source.skip(BigInt(paddingOf(contentBytes))))) throw cutInside(shown, 1n);
    yield { kind: "end", complete: true };
  }

  async #sparse({ block, header, shown, contentBytes }: Member): Promise<SparseLayout | undefined> {
    const parts = { source: this.#source, shown };
    const layout =
      header.type === "S" ? await oldSparseLayout(block, parts) : await paxSparseLayout(this.#extended, parts);
    if (layout !== undefined && layout.mapBytes + layout.ranges.bytes !== contentBytes) {
      throw new TarError("TAR_DAMAGED", `${shown} is damaged: its map of holes does not fit its size`);
    }
    return layout;
  }

  async *#data({ offset, length }: { offset: bigint; length: bigint }, shown: string): AsyncGenerator<ExportItem> {
    for (let done = 0n; done < length; ) {
      const bytes = await this.#source.some(length - done);
      if (bytes.length === 0) throw cutInside(shown, length - done);
      yield { kind: "data", offset: offset + done, bytes };
      done += BigInt(bytes.length);
    }
  }

  /** Passes over content and what fills its last block. */
  async #skip(bytes: bigint, shown: string): Promise<void> {
    if (!(await this.#source.skip(bytes + BigInt(paddingOf(bytes))))) throw cutInside(shown, bytes);
  }

  async #body(header: HeaderBlock, { bytesMax, where }: { bytesMax: number; where: string }): Promise<Buffer> {
    if (header.size > BigInt(bytesMax)) {
      throw new TarError("TAR_UNSUPPORTED", `${where} has ${header.size} bytes, more than ${bytesMax}`);
    }
    const body = await this.#source.exactly(Number(header.size));
    if (body === undefined || !(await this.#source.skip(BigInt(paddingOf(header.size))))) throw this.#cutOff();
    return body;
  }

  /** Two blocks of zeros, or one and nothing more, as some write it. */
  async #endMark(): Promise<void> {
    const where = this.#where();
    const second = await this.#source.block();
    if (second === undefined || isZero(second)) {
      if (this.#extended.pending) throw this.#cutOff();
      return;
    }
    throw new TarError(
      "TAR_DAMAGED",
      `${where} stands after zeros that should end the archive: it is damaged there, or several archives were joined`,
    );
  }

  #where(): string {
    const after = this.#last === undefined ? "" : ` (after ${shownName(this.#last)})`;
    return `the header at byte ${this.#source.offset}${after}`;
  }

  #cutOff(): TarError {
    const { offset } = this.#source;
    if (offset === 0n) return new TarError("TAR_DAMAGED", "there is nothing to read: expected a tar archive");
    const after = this.#last === undefined ? "" : ` after ${shownName(this.#last)}`;
    return new TarError("TAR_DAMAGED", `the archive is cut off at byte ${offset}${after}: its end mark is missing`);
  }
}

function cutInside(shown: string, missing: bigint): TarError {
  return new TarError(
    "TAR_DAMAGED",
    `the archive is cut off inside of ${shown}: at least ${missing} bytes are missing`,
  );
}

function linkTarget(name: Buffer, shown: string): Buffer {
  const path = memberPath(name, `${shown} is a hard link whose target`);
  if (path.length > 0) return path;
  throw new TarError("TAR_REFUSED", `${shown} is a hard link to the place that the archive is unpacked to`);
}

function symlinkTarget(target: Buffer, shown: string): Buffer {
  if (target.length > 0 && !target.includes(0)) return target;
  throw new TarError("TAR_DAMAGED", `${shown} is a symbolic link without a target`);
}

function isZero(block: Buffer): boolean {
  return block.every((byte) => byte === 0);
}

const NO_BYTES = Buffer.alloc(0);
