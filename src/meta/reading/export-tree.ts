import type { Log } from "../../base/log.ts";
import { EXPORT_RANGES_MAX, type ExportItem } from "../../domain/admin-reading.ts";
import type { InodeId, Lsn } from "../../domain/ids.ts";
import { isDirectory, isRegular } from "../../domain/inode.ts";
import type { EngineCore } from "../core.ts";
import type { InodeRow } from "../rows.ts";
import { attributesOf, xattrsAt } from "./attributes.ts";
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

/** Directories of the way down: names still to come, and the path they are below. */
type Level = {
  readonly path: Buffer;
  readonly names: AsyncGenerator<readonly DirectoryName[]>;
  batch: readonly DirectoryName[];
  next: number;
};

/** The tree at a place, depth first; see ExportItem. */
export async function* exportItems(located: Located, parts: TreeParts): AsyncGenerator<readonly ExportItem[]> {
  const { app, inode, at } = located;
  const tree = new Tree(app.core, at.lsn, parts);
  yield* tree.entry(NO_BYTES, inode);
  const levels: Level[] = [];
  if (isDirectory(inode.mode)) levels.push(tree.level(NO_BYTES, inode));
  try {
    for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
      const name = await nextName(level);
      if (name === undefined) {
        levels.pop();
        continue;
      }
      const row = app.core.findInodeAt(name.ino, at.lsn);
      if (row === undefined) continue;
      const path = joinPath(level.path, name.name);
      yield* tree.entry(path, row);
      if (isDirectory(row.mode)) levels.push(tree.level(path, row));
    }
  } finally {
    for (const level of levels) await level.names.return(undefined);
  }
}

async function nextName(level: Level): Promise<DirectoryName | undefined> {
  while (level.next >= level.batch.length) {
    const batch = await level.names.next();
    if (batch.done === true) return undefined;
    level.batch = batch.value;
    level.next = 0;
  }
  return level.batch[level.next++];
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

  level(path: Buffer, row: InodeRow): Level {
    return { path, names: directoryNames(this.#core, row, this.#at, this.#work), batch: [], next: 0 };
  }

  async *entry(path: Buffer, row: InodeRow): AsyncGenerator<readonly ExportItem[]> {
    if (this.#work.due) await this.#work.pause();
    const linkedTo = isDirectory(row.mode) ? undefined : this.#earlierName(path, row);
    const contentFollows = this.#parts.content && linkedTo === undefined && isRegular(row.mode);
    const xattrs = xattrsAt(this.#core, row, this.#at);
    const entry = {
      kind: "entry",
      path,
      attributes: attributesOf(row),
      target: row.target,
      xattrs,
      contentFollows,
    } as const;
    yield [linkedTo === undefined ? entry : { ...entry, linkedTo }];
    if (contentFollows) yield* this.#content(path, row);
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
