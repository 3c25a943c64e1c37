import { type ContentId, type InodeId, LIVE, type Lsn } from "../../domain/ids.ts";
import { isDirectory, isRegular } from "../../domain/inode.ts";
import type { RequestContext } from "../../domain/metadata-api.ts";
import type { EngineCore } from "../core.ts";
import { xattrsAt } from "../reading/attributes.ts";
import { type FileThen, hasSameContent } from "../reading/content-compare.ts";
import { hasSameXattrs } from "../reading/row-changes.ts";
import type { Work } from "../reading/work.ts";
import type { InodeRow } from "../rows.ts";
import type { Transaction } from "../transaction.ts";
import { addContent, type Content, layContent } from "./content-source.ts";
import type { Side } from "./step.ts";

/** An inode that took a state in a record: whether that changed it, and the data that the record's commit must carry. */
export type Taken = { readonly ino: InodeId; readonly differs: boolean; readonly data: Buffer | undefined };

/** What an inode becomes: the state to put back, and its content if that differs. */
export type NewState = { readonly source: FileThen; readonly content: Content | undefined };

/** Gives inodes the state of a moment: attributes, xattrs, content. Names are not its business. */
export class StateWriter {
  readonly #core: EngineCore;
  readonly #source: Side;
  readonly #context: RequestContext;
  readonly #work: Work;

  constructor(options: {
    readonly core: EngineCore;
    readonly source: Side;
    readonly context: RequestContext;
    readonly work: Work;
  }) {
    this.#core = options.core;
    this.#source = options.source;
    this.#context = options.context;
    this.#work = options.work;
  }

  /** Gets the state of an inode ready; `live` is what has it to take it, undefined for a new inode. */
  async *prepare(row: InodeRow, live: InodeRow | undefined): AsyncGenerator<void, NewState> {
    const source: FileThen = { ...this.#source, row };
    if (!isRegular(row.mode)) return { source, content: undefined };
    if (live !== undefined && (await hasSameContent(source, { core: this.#core, row: live, at: LIVE }, this.#work))) {
      return { source, content: undefined };
    }
    const content = yield* layContent(source, { core: this.#core, context: this.#context, work: this.#work });
    return { source, content };
  }

  /** Gives a live inode the state, links and change time left aside. */
  apply(tx: Transaction, live: InodeRow, state: NewState): Taken {
    const { row } = state.source;
    const xattrs = this.#applyXattrs(tx, live, state.source);
    const { contentId, data } = this.#content(tx, state.content);
    const content = contentId === undefined ? {} : { contentId, size: row.size };
    const allocatedBytes = isRegular(row.mode) ? row.allocatedBytes : live.allocatedBytes;
    const { mode, uid, gid, rdev, atime, mtime, target } = row;
    const after = {
      ...live,
      ...content,
      allocatedBytes,
      mode,
      uid,
      gid,
      rdev,
      atime,
      mtime,
      target,
      xattrCount: live.xattrCount + xattrs.count,
    };
    if (contentId === undefined && !xattrs.differ && hasSameAttributes(live, after))
      return { ino: live.ino, differs: false, data };
    tx.put({ ...after, ctime: tx.time });
    tx.tellInode(live.ino, contentId !== undefined);
    return { ino: live.ino, differs: true, data };
  }

  #applyXattrs(
    tx: Transaction,
    live: InodeRow,
    source: FileThen,
  ): { readonly count: number; readonly differ: boolean } {
    const before = xattrsAt(this.#core, live, LIVE);
    const after = xattrsAt(source.core, source.row, source.at);
    if (hasSameXattrs(before, after)) return { count: 0, differ: false };
    let count = 0;
    for (const { name } of before)
      if (!after.some((xattr) => xattr.name.equals(name))) count += tx.removeXattr(live.ino, name);
    for (const { name, value } of after) {
      const same = before.some((xattr) => xattr.name.equals(name) && xattr.value.equals(value));
      if (!same) count += tx.putXattr(live.ino, name, value);
    }
    return { count, differ: true };
  }

  #content(
    tx: Transaction,
    content: Content | undefined,
  ): { readonly contentId: ContentId | undefined; readonly data: Buffer | undefined } {
    if (content === undefined) return { contentId: undefined, data: undefined };
    if (content.kind === "empty") return { contentId: 0 as ContentId, data: undefined };
    if (content.kind === "laid") return { contentId: content.contentId, data: undefined };
    const contentId = tx.lsn as number as ContentId;
    return { contentId, data: addContent(tx, contentId, content).data };
  }

  /** Puts a new inode into a record, without a name. */
  addInode(tx: Transaction, parent: InodeId, state: NewState): Taken {
    const { row, core, at } = state.source;
    const ino = tx.allocateInode();
    const isDir = isDirectory(row.mode);
    const { contentId, data } = this.#content(tx, state.content);
    let xattrCount = 0;
    for (const { name, value } of xattrsAt(core, row, at)) xattrCount += tx.putXattr(ino, name, value);
    tx.put({
      ...row,
      ino,
      since: 0 as Lsn,
      generation: (tx.lsn % 0xffff_ffff) + 1,
      nlink: isDir ? 2 : 1,
      size: isDir ? 0n : row.size,
      ctime: tx.time,
      contentId: contentId ?? (0 as ContentId),
      parent: isDir ? parent : 0,
      restoredFrom: core === this.#core && (core.findInodeAt(row.ino, LIVE)?.nlink ?? 0) === 0 ? row.ino : 0,
      xattrCount,
    });
    return { ino, data, differs: true };
  }
}

function hasSameAttributes(left: InodeRow, right: InodeRow): boolean {
  return (
    left.mode === right.mode &&
    left.uid === right.uid &&
    left.gid === right.gid &&
    left.rdev === right.rdev &&
    left.allocatedBytes === right.allocatedBytes &&
    left.atime.sec === right.atime.sec &&
    left.atime.nsec === right.atime.nsec &&
    left.mtime.sec === right.mtime.sec &&
    left.mtime.nsec === right.mtime.nsec &&
    left.target.equals(right.target)
  );
}
