import type { Log } from "../../base/log.ts";
import { EXPORT_RANGES_MAX, type ExportItem } from "../../domain/admin-reading.ts";
import type { InodeId, Lsn } from "../../domain/ids.ts";
import { isDirectory, isRegular } from "../../domain/inode.ts";
import type { EngineCore } from "../core.ts";
import { inodesAt } from "../inodes-at.ts";
import type { InodeRow } from "../rows.ts";
import { attributesOf, xattrsAt } from "./attributes.ts";
import { isReadAhead, readAhead, type WholeContent } from "./content-ahead.ts";
import { contentPieces, dataRanges } from "./content-stream.ts";
import { type DirectoryName, directoryNames } from "./directory-names.ts";
import { toDamage } from "./failures.ts";
import { type Located, pathText } from "./locate.ts";
import { joinPath } from "./paths.ts";
import type { Work } from "./work.ts";

/** Hard-linked files whose further names are awaited at a time: about 300 bytes each. Beyond, a further name comes with its content again. */
const LINKED_MAX = 200_000;

/** Attributes of one entry in a page, about. */
const ENTRY_BYTES = 128;

/** A range in a page, about. */
const RANGE_BYTES = 16;

/** What a tree is made with: `content` and `ranges` as ReadingApi.exportTree has them. */
type TreeParts = { readonly log: Log; readonly work: Work; readonly content: boolean; readonly ranges: boolean };

/** Bytes an item takes in a page, about. */
export function exportItemBytes(item: ExportItem): number {
  switch (item.kind) {
    case "entry": {
      const xattrs = item.xattrs.reduce((sum, { name, value }) => sum + name.length + value.length, 0);
      return ENTRY_BYTES + item.path.length + item.target.length + (item.linkedTo?.length ?? 0) + xattrs;
    }
    case "ranges":
      return item.ranges.length * RANGE_BYTES;
    case "data":
      return item.bytes.length;
    case "end":
      return item.message?.length ?? 0;
  }
}

/** One thing of the tree. */
type TreeEntry = {
  readonly path: Buffer;
  readonly row: InodeRow;
  readonly linkedTo: Buffer | undefined;
  readonly contentFollows: boolean;
};

/** Entries that are handed on together, and what is read of their contents meanwhile. */
type Stretch = {
  readonly entries: readonly TreeEntry[];
  readonly contents: Promise<ReadonlyMap<InodeId, WholeContent>>;
};

/** Directories of the way down: names still to come, the inodes of the first of them, and the path they are below. */
type Level = {
  readonly path: Buffer;
  readonly names: AsyncGenerator<readonly DirectoryName[]>;
  batch: readonly DirectoryName[];
  next: number;
  inodes: ReadonlyMap<InodeId, InodeRow>;
  inodesTo: number;
};

/** Inodes of one directory read in one go: a tenth of the cost of one by one; 50 KB for each directory of the way down. */
const INODES_TOGETHER = 64;

/** Entries and bytes of content read ahead together: blocks of packs are read once, and their neighbours with them. */
const STRETCH_ENTRIES_MAX = 256;
const STRETCH_BYTES_MAX = 2n * 1024n * 1024n;

/** Stretches being read while one is handed on: hides the time of a store. With the contents of that one 12 MiB, and the blocks that they are in. */
const STRETCHES_AHEAD = 2;

/** The tree at a place, depth first; see ExportItem. */
export async function* exportItems(located: Located, parts: TreeParts): AsyncGenerator<readonly ExportItem[]> {
  const { app, inode, at } = located;
  const tree = new Tree(app.core, at.lsn, parts);
  const waiting: Stretch[] = [];
  for await (const entries of tree.walk(inode)) {
    waiting.push(tree.begin(entries));
    const [first] = waiting;
    if (first === undefined || waiting.length <= STRETCHES_AHEAD) continue;
    waiting.shift();
    yield* tree.items(first);
  }
  for (const stretch of waiting) yield* tree.items(stretch);
}

class Tree {
  readonly #core: EngineCore;
  readonly #at: Lsn;
  readonly #log: Log;
  readonly #work: Work;
  readonly #parts: TreeParts;
  /** Files of several names: the first path, and how many names are still to come. */
  readonly #linked = new Map<InodeId, { readonly path: Buffer; namesLeft: number }>();

  constructor(core: EngineCore, at: Lsn, parts: TreeParts) {
    this.#core = core;
    this.#at = at;
    this.#log = parts.log;
    this.#work = parts.work;
    this.#parts = parts;
  }

  /** All entries in order, in stretches. */
  async *walk(root: InodeRow): AsyncGenerator<readonly TreeEntry[]> {
    let entries = [this.#entryOf(NO_BYTES, root)];
    let bytes = 0n;
    const levels: Level[] = [];
    if (isDirectory(root.mode)) levels.push(this.#level(NO_BYTES, root));
    try {
      for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
        const name = await this.#nextName(level);
        if (name === undefined) {
          levels.pop();
          continue;
        }
        const row = level.inodes.get(name.ino);
        if (row === undefined) continue;
        const entry = this.#entryOf(joinPath(level.path, name.name), row);
        entries.push(entry);
        if (isDirectory(row.mode)) levels.push(this.#level(entry.path, row));
        if (entry.contentFollows && isReadAhead(row)) bytes += row.size;
        if (entries.length < STRETCH_ENTRIES_MAX && bytes < STRETCH_BYTES_MAX) continue;
        yield entries;
        entries = [];
        bytes = 0n;
      }
    } finally {
      for (const level of levels) await level.names.return(undefined);
    }
    if (entries.length > 0) yield entries;
  }

  #level(path: Buffer, row: InodeRow): Level {
    const names = directoryNames(this.#core, row, this.#at, this.#work);
    return { path, names, batch: [], next: 0, inodes: NO_INODES, inodesTo: 0 };
  }

  /** The next name, whose inode is in the level's then, if there is one. */
  async #nextName(level: Level): Promise<DirectoryName | undefined> {
    while (level.next >= level.batch.length) {
      const batch = await level.names.next();
      if (batch.done === true) return undefined;
      level.batch = batch.value;
      level.next = 0;
      level.inodesTo = 0;
    }
    if (level.next === level.inodesTo) {
      if (this.#work.due) await this.#work.pause();
      level.inodesTo = Math.min(level.batch.length, level.next + INODES_TOGETHER);
      const inos = level.batch.slice(level.next, level.inodesTo).map(({ ino }) => ino);
      level.inodes = inodesAt(this.#core, inos, this.#at);
    }
    return level.batch[level.next++];
  }

  #entryOf(path: Buffer, row: InodeRow): TreeEntry {
    const linkedTo = isDirectory(row.mode) ? undefined : this.#earlierName(path, row);
    return {
      path,
      row,
      linkedTo,
      contentFollows: this.#parts.content && linkedTo === undefined && isRegular(row.mode),
    };
  }

  /** Begins to read what follows the entries. */
  begin(entries: readonly TreeEntry[]): Stretch {
    const rows = entries.filter(({ contentFollows }) => contentFollows).map(({ row }) => row);
    return { entries, contents: readAhead(this.#core, rows, this.#at) };
  }

  async *items({ entries, contents }: Stretch): AsyncGenerator<readonly ExportItem[]> {
    const read = await contents;
    let items: ExportItem[] = [];
    for (const entry of entries) {
      if (this.#work.due) await this.#work.pause();
      items.push(this.#entryItem(entry));
      if (!entry.contentFollows) continue;
      const whole = read.get(entry.row.ino);
      if (whole !== undefined) {
        items.push(...this.#wholeItems(whole));
        continue;
      }
      yield items;
      items = [];
      yield* this.#content(entry.path, entry.row);
    }
    if (items.length > 0) yield items;
  }

  #entryItem({ path, row, linkedTo, contentFollows }: TreeEntry): ExportItem {
    const xattrs = xattrsAt(this.#core, row, this.#at);
    const { target } = row;
    const entry = { kind: "entry", path, attributes: attributesOf(row), target, xattrs, contentFollows } as const;
    return linkedTo === undefined ? entry : { ...entry, linkedTo };
  }

  #wholeItems({ pieces, ranges }: WholeContent): ExportItem[] {
    const items: ExportItem[] = [];
    if (this.#parts.ranges && ranges.length > 0) items.push({ kind: "ranges", ranges });
    for (const { offset, bytes } of pieces) items.push({ kind: "data", offset, bytes });
    items.push({ kind: "end", complete: true });
    return items;
  }

  async *#content(path: Buffer, row: InodeRow): AsyncGenerator<readonly ExportItem[]> {
    try {
      if (this.#parts.ranges) yield* this.#ranges(row);
      for await (const piece of contentPieces(this.#core, row, this.#at, {
        from: 0n,
        to: row.size,
        work: this.#work,
      })) {
        yield [{ kind: "data", ...piece }];
      }
    } catch (error) {
      const damage = toDamage(error, `reading ${pathText(path)}`);
      if (damage.code !== "DATA_DAMAGED") throw damage;
      if (damage.data["erased"] !== true)
        this.#log.alarm("a file can't be read back completely", { ino: row.ino, lsn: this.#at, error: damage.message });
      yield [{ kind: "end", complete: false, message: damage.message }];
      return;
    }
    yield [{ kind: "end", complete: true }];
  }

  async *#ranges(row: InodeRow): AsyncGenerator<readonly ExportItem[]> {
    const batches = dataRanges(this.#core, row, this.#at, { countMax: EXPORT_RANGES_MAX, work: this.#work });
    for await (const ranges of batches) yield [{ kind: "ranges", ranges }];
  }

  /** The path under which the same inode came before; notes this one if it is the first of several. */
  #earlierName(path: Buffer, row: InodeRow): Buffer | undefined {
    if (row.nlink < 2) return undefined;
    const known = this.#linked.get(row.ino);
    if (known === undefined) {
      if (this.#linked.size < LINKED_MAX) this.#linked.set(row.ino, { path, namesLeft: row.nlink - 1 });
      return undefined;
    }
    known.namesLeft--;
    if (known.namesLeft === 0) this.#linked.delete(row.ino);
    return known.path;
  }
}

const NO_BYTES = Buffer.alloc(0);
const NO_INODES: ReadonlyMap<InodeId, InodeRow> = new Map();
