import type { FoundName } from "../../domain/admin-reading.ts";
import type { InodeId, Lsn, ShareId } from "../../domain/ids.ts";
import type { Dentry } from "../../domain/inode.ts";
import type { NamePattern } from "../../domain/name-pattern.ts";
import type { EngineCore } from "../core.ts";
import * as keys from "../keys.ts";
import { decodeDentry } from "../rows.ts";
import { attributesOf } from "./attributes.ts";
import { DirectoryPaths } from "./directory-paths.ts";
import { shareLabel, sharesByRoot } from "./find-share.ts";
import { after, joinPath } from "./paths.ts";
import { timeOfLsn } from "./time.ts";
import type { Work } from "./work.ts";

export type FindScope = { readonly pattern: NamePattern; readonly share?: ShareId; readonly deletedOnly: boolean };

/** Rows looked at between two looks at the clock; a piece of names in memory is this many at most. */
const PIECE_ROWS = 512;

/** Where the name begins in the keys of dentries: table, parent, hash. What follows it in past ones: a zero byte, `until`. */
const PARENT_OFFSET = 1;
const NAME_OFFSET = 14;
const PAST_END_BYTES = 9;

/** A name of an inode over [since, until), with "written beside and renamed over" joined. */
type Span = { readonly parent: InodeId; readonly name: Buffer; readonly ino: InodeId; readonly since: Lsn } & {
  readonly until: Lsn | undefined;
};

/**
 * Names over all the history that is kept, from the tables of names: each is looked at once, the paths and attributes of those that match are looked up. What is there comes first, then what is gone.
 * A name that went and came back is found once for each time it was there.
 */
export async function* findNames(core: EngineCore, scope: FindScope, work: Work): AsyncGenerator<readonly FoundName[]> {
  const finder = new NameFinder(core, scope);
  if (!scope.deletedOnly) yield* finder.found(finder.live(), work);
  yield* finder.found(finder.gone(), work);
}

class NameFinder {
  readonly #core: EngineCore;
  readonly #scope: FindScope;
  readonly #paths: DirectoryPaths;
  readonly #shares: ReturnType<typeof sharesByRoot>;

  constructor(core: EngineCore, scope: FindScope) {
    this.#core = core;
    this.#scope = scope;
    this.#paths = new DirectoryPaths(core);
    this.#shares = sharesByRoot(core);
  }

  async *found(pieces: Iterable<readonly Span[]>, work: Work): AsyncGenerator<readonly FoundName[]> {
    for (const spans of pieces) {
      if (work.due) await work.pause();
      const names: FoundName[] = [];
      for (const span of spans) {
        const name = await this.#describe(span);
        if (name !== undefined) names.push(name);
      }
      if (names.length > 0) yield names;
    }
  }

  /** Names that are there, since when they are without a break. */
  *live(): Generator<readonly Span[]> {
    for (const rows of this.#rows(keys.TABLE.DENTRY)) {
      yield rows.flatMap(({ key, value }) => {
        const name = key.subarray(NAME_OFFSET);
        if (!this.#scope.pattern.matches(name)) return [];
        const { ino, since } = decodeDentry(value);
        const parent = parentOf(key);
        return [{ parent, name: Buffer.from(name), ino, since: this.#joined(parent, name, since), until: undefined }];
      });
    }
  }

  /** Names that went. Rows of one name follow each other, oldest first; one that ends where the next begins is joined with it. */
  *gone(): Generator<readonly Span[]> {
    let open: (Span & { readonly until: Lsn }) | undefined;
    for (const rows of this.#rows(keys.TABLE.DENTRY_PAST)) {
      const spans: Span[] = [];
      for (const { key, value } of rows) {
        const name = key.subarray(NAME_OFFSET, key.length - PAST_END_BYTES);
        if (!this.#scope.pattern.matches(name)) continue;
        const { ino, since } = decodeDentry(value);
        const next = { parent: parentOf(key), name: Buffer.from(name), ino, since, until: untilOf(key) };
        const joins = open?.until === since && open.parent === next.parent && open.name.equals(name);
        if (open !== undefined && !joins) spans.push(open);
        open = open !== undefined && joins ? { ...next, since: open.since } : next;
      }
      yield spans;
    }
    if (open !== undefined) yield [open];
  }

  *#rows(table: number): Generator<{ key: Buffer; value: Buffer }[]> {
    let gte = keys.plainKey(table);
    const lt = keys.prefixEnd(gte);
    for (;;) {
      const rows = this.#core.store.range({ gte, lt, limit: PIECE_ROWS });
      yield rows;
      const last = rows.at(-1);
      if (last === undefined || rows.length < PIECE_ROWS) return;
      gte = after(last.key);
    }
  }

  /** Since when the name was there without a break, before the row that holds since `since`. */
  #joined(parent: InodeId, name: Buffer, since: Lsn): Lsn {
    let first = since;
    for (;;) {
      const before = this.#endedAt(parent, name, first);
      if (before === undefined) return first;
      first = before.since;
    }
  }

  #endedAt(parent: InodeId, name: Buffer, until: Lsn): Dentry | undefined {
    const value = this.#core.store.get(keys.dentryPastKey(parent, this.#core.hash(name), name, until));
    return value === undefined ? undefined : decodeDentry(value);
  }

  async #describe(span: Span): Promise<FoundName | undefined> {
    const core = this.#core;
    // Written beside and renamed over at the end: it is there, and was found so.
    if (span.until !== undefined && core.dentry(span.parent, span.name)?.since === span.until) return undefined;
    const at = (span.until === undefined ? core.lastLsn : span.until - 1) as Lsn;
    const inode = core.findInodeAt(span.ino, at);
    const place = this.#paths.of(span.parent, at);
    const share = place === undefined ? undefined : this.#shares.get(place.root);
    if (inode === undefined || place === undefined || share === undefined) return undefined;
    if (this.#scope.share !== undefined && share.id !== this.#scope.share) return undefined;
    return {
      share: shareLabel(share),
      path: joinPath(place.path, span.name),
      attributes: attributesOf(inode),
      since: await this.#position(span.since),
      ...(span.until === undefined ? {} : { until: await this.#position(span.until) }),
    };
  }

  async #position(lsn: Lsn): Promise<FoundName["since"]> {
    return { lsn, time: (await timeOfLsn(this.#core, lsn)) ?? { sec: 0, nsec: 0 } };
  }
}

function parentOf(key: Buffer): InodeId {
  return key.readUIntBE(PARENT_OFFSET, 5) as InodeId;
}

function untilOf(key: Buffer): Lsn {
  return Number(key.readBigUInt64BE(key.length - 8)) as Lsn;
}
