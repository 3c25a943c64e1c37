import { type CallOptions, CONTENT_PIECE_BYTES_MAX, type Pages } from "../../domain/admin-call.ts";
import type {
  ExportItem,
  FileStat,
  ListEntry,
  ReadingApi,
  ReadRequestAt,
  ResolvedPath,
} from "../../domain/admin-reading.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { InodeId } from "../../domain/ids.ts";
import { isDirectory, isRegular, SIZE_BYTES_MAX } from "../../domain/inode.ts";
import type { MomentRef, ResolvedMoment } from "../../domain/moment.ts";
import { type AppRef, formatSharePath } from "../../domain/share-path.ts";
import { inodesAt } from "../inodes-at.ts";
import type { InodeRow } from "../rows.ts";
import { sharesAt } from "../shares.ts";
import { floorOf, type ReadingParts } from "./apps.ts";
import { attributesOf, xattrsAt } from "./attributes.ts";
import { contentPieces } from "./content-stream.ts";
import { directoryNames } from "./directory-names.ts";
import { exportItemBytes, exportItems } from "./export-tree.ts";
import { toDamage } from "./failures.ts";
import { holding, holdMoments, type Moment } from "./hold.ts";
import { type Located, type LocatedApp, locate, locateApp } from "./locate.ts";
import { paged } from "./pages.ts";
import { resolveMoment } from "./time.ts";
import { Work } from "./work.ts";

const ZEROS = Buffer.alloc(CONTENT_PIECE_BYTES_MAX);

/** Attributes of one entry in a page, about. */
const ENTRY_BYTES = 128;

/** Entries looked up between two looks at the clock. */
const ENTRIES_PER_BATCH = 64;

/** Reading at a moment, for people and programs. Each call is of one moment, whatever changes meanwhile. */
export class Reading implements ReadingApi {
  readonly #parts: ReadingParts;

  constructor(parts: ReadingParts) {
    this.#parts = parts;
  }

  async resolveMoment(request: { app: AppRef; at: MomentRef }): Promise<ResolvedMoment> {
    const app = await this.#parts.apps.find(request.app);
    return resolveMoment(app.core, request.at, floorOf(this.#parts, app));
  }

  async resolve(request: ReadRequestAt): Promise<ResolvedPath> {
    const { app, share, inode, at } = await locate(this.#parts, request.path, request.at);
    return { appId: app.id, shareId: share.id, ino: inode.ino, at };
  }

  async stat(request: ReadRequestAt): Promise<FileStat> {
    const { app, inode, at } = await locate(this.#parts, request.path, request.at);
    return { at, attributes: attributesOf(inode), target: inode.target, xattrs: xattrsAt(app.core, inode, at.lsn) };
  }

  async *list(request: ReadRequestAt, options?: CallOptions): Pages<ListEntry> {
    const entries = request.path.share === undefined ? this.#listApp(request) : this.#listPlace(request, options);
    yield* paged(entries, (entry) => ENTRY_BYTES + entry.name.length + entry.target.length);
  }

  async *#listApp(request: ReadRequestAt): AsyncGenerator<readonly ListEntry[]> {
    const app = await locateApp(this.#parts, request.path, request.at);
    yield* holding([momentOf(app)], () => listShares(app));
  }

  async *#listPlace(request: ReadRequestAt, options?: CallOptions): AsyncGenerator<readonly ListEntry[]> {
    const located = await locate(this.#parts, request.path, request.at);
    yield* holding([momentOf(located)], () => listPlace(located, new Work(this.#parts, options)));
  }

  async *read(
    request: ReadRequestAt & { offset: bigint; length?: bigint },
    options?: CallOptions,
  ): AsyncIterable<Buffer> {
    const { offset } = request;
    const length = request.length ?? SIZE_BYTES_MAX;
    if (offset < 0n || length < 0n) throw new TidemarkError("INVALID_ARGUMENT", "offset and length cannot be negative");
    const located = await locate(this.#parts, request.path, request.at);
    const { app, inode, at } = located;
    const text = formatSharePath(request.path);
    if (!isRegular(inode.mode))
      throw new TidemarkError("INVALID_ARGUMENT", `"${text}" is not a regular file: it has no content to read`);
    const work = new Work(this.#parts, options);
    const to = offset + length < inode.size ? offset + length : inode.size;
    let position = offset;
    const release = holdMoments([momentOf(located)]);
    try {
      for await (const piece of contentPieces(app.core, inode, at.lsn, { from: offset, to, work })) {
        yield* zeros(position, piece.offset, work);
        yield piece.bytes;
        position = piece.offset + BigInt(piece.bytes.length);
      }
      yield* zeros(position, to, work);
    } catch (error) {
      throw toDamage(error, `reading "${text}"`);
    } finally {
      release();
    }
  }

  async *exportTree(
    { path, at, content, ranges = false }: ReadRequestAt & { content: boolean; ranges?: boolean },
    options?: CallOptions,
  ): Pages<ExportItem> {
    const located = await locate(this.#parts, path, at);
    const tree = { log: this.#parts.log, work: new Work(this.#parts, options), content, ranges };
    const items = holding([momentOf(located)], () => exportItems(located, tree));
    yield* paged(items, exportItemBytes);
  }
}

function momentOf({ app, at }: LocatedApp): Moment {
  return { core: app.core, at: at.lsn };
}

/** A hole of [from, to). */
async function* zeros(from: bigint, to: bigint, work: Work): AsyncGenerator<Buffer> {
  for (let position = from; position < to; ) {
    if (work.due) await work.pause();
    const length = to - position < BigInt(ZEROS.length) ? Number(to - position) : ZEROS.length;
    yield ZEROS.subarray(0, length);
    position += BigInt(length);
  }
}

async function* listShares({ app, at }: LocatedApp): AsyncGenerator<readonly ListEntry[]> {
  const entries: ListEntry[] = [];
  for (const share of sharesAt(app.core, at.lsn)) {
    const root = app.core.findInodeAt(share.root, at.lsn);
    if (share.deletedAt !== undefined || root === undefined) continue;
    entries.push({ name: Buffer.from(share.name, "utf8"), attributes: attributesOf(root), target: root.target });
  }
  yield entries.sort((left, right) => Buffer.compare(left.name, right.name));
}

async function* listPlace(located: Located, work: Work): AsyncGenerator<readonly ListEntry[]> {
  const { inode, app, at, names } = located;
  if (!isDirectory(inode.mode)) {
    yield [entryOf(names.at(-1) ?? Buffer.alloc(0), inode)];
    return;
  }
  // Names only are held for sorting: 100 bytes each.
  const all: { readonly name: Buffer; readonly ino: InodeId }[] = [];
  for await (const batch of directoryNames(app.core, inode, at.lsn, work))
    for (const { name, ino } of batch) all.push({ name, ino });
  all.sort((left, right) => Buffer.compare(left.name, right.name));
  for (let start = 0; start < all.length; start += ENTRIES_PER_BATCH) {
    if (work.due) await work.pause();
    const batch = all.slice(start, start + ENTRIES_PER_BATCH);
    const inos = batch.map(({ ino }) => ino);
    const rows = inodesAt(app.core, inos, at.lsn);
    const entries: ListEntry[] = [];
    for (const { name, ino } of batch) {
      const row = rows.get(ino);
      if (row !== undefined) entries.push(entryOf(name, row));
    }
    // An empty batch would end a page early.
    if (entries.length > 0) yield entries;
  }
}

function entryOf(name: Buffer, row: InodeRow): ListEntry {
  return { name, attributes: attributesOf(row), target: row.target };
}
