import { ByteReader } from "../../base/bytes.ts";
import type { SnapshotInfo } from "../../domain/admin-catalogue.ts";
import { PURGE_NAMED_MAX, type PurgeFile } from "../../domain/admin-purge.ts";
import type { ContentId, InodeId, Lsn } from "../../domain/ids.ts";
import type { EngineCore } from "../core.ts";
import { inoPrefix, prefixEnd, TABLE } from "../keys.ts";
import type { OpenApp } from "../open-app.ts";
import { DirectoryPaths } from "../reading/directory-paths.ts";
import { sharesByRoot } from "../reading/find-share.ts";
import { joinPath, type NameThen, namesAt } from "../reading/paths.ts";
import { snapshots } from "../reading/snapshot-rows.ts";
import type { Work } from "../reading/work.ts";
import { concernedFiles, holdsAt, type Span } from "./concerned-files.ts";
import type { ErasedBytes } from "./erased-bytes.ts";
import { bytesOf, copiesOf, ownersOf, sharersOf, statesOf } from "./find-bytes.ts";

/** Everything an order is about, as it was while it was looked for. */
export type Concerned = {
  readonly files: ReadonlyMap<InodeId, readonly Span[]>;
  readonly contents: ReadonlySet<ContentId>;
  readonly stateCount: number;
  /** In records' own data. */
  readonly bytes: ErasedBytes;
  /** In copies of them. */
  readonly copies: ErasedBytes;
  /** Other files that share bytes, and how many. */
  readonly sharers: ReadonlyMap<InodeId, number>;
  /** When each file was last changed: who has another now was written to since. */
  readonly since: ReadonlyMap<InodeId, Lsn>;
};

/** Finds out what an order is about. Nothing is changed. Throws FAILED_PRECONDITION when it is too much for one, DATA_DAMAGED, CANCELLED. */
export async function findConcerned(
  app: OpenApp,
  place: { readonly root: InodeId; readonly names: readonly Buffer[] },
  work: Work,
): Promise<Concerned> {
  const files = await concernedFiles(app.core, place, work);
  const since = await sinceOf(app, files.keys(), work);
  const { contents, stateCount } = await statesOf(app, files.keys(), work);
  const bytes = await bytesOf(app, { files, contents }, work);
  const sharing = await sharersOf(app, { bytes, contents }, work);
  const copies = await copiesOf(app, bytes, work);
  const sharers = sharing.size === 0 ? new Map<InodeId, number>() : await ownersOf(app, sharing, work);
  return { files, contents, stateCount, bytes, copies, sharers, since };
}

/** The record that made the state each of the files has now; none for those that are gone. */
export async function sinceOf({ core }: OpenApp, files: Iterable<InodeId>, work: Work): Promise<Map<InodeId, Lsn>> {
  const since = new Map<InodeId, Lsn>();
  for (const ino of files) {
    const row = core.findInodeNow(ino);
    if (row !== undefined) since.set(ino, row.since);
    if (work.due) await work.pause();
  }
  return since;
}

/** The names that files have now. */
export function* liveNames(
  { core }: OpenApp,
  files: Iterable<InodeId>,
): Generator<NameThen & { readonly ino: InodeId }> {
  for (const ino of files) {
    if (core.findInodeNow(ino) === undefined) continue;
    for (const name of namesAt(core, ino, core.lastLsn, NAMES_MAX))
      if (name.until === undefined) yield { ...name, ino };
  }
}

/** Names of one file: its hard links. */
const NAMES_MAX = 65_536;

/** Snapshots in which any of the files is. */
export async function snapshotsOf(
  app: OpenApp,
  files: ReadonlyMap<InodeId, readonly Span[]>,
  work: Work,
): Promise<SnapshotInfo[]> {
  const found: SnapshotInfo[] = [];
  for (const snapshot of [...snapshots(app.core)]) {
    for (const spans of files.values()) {
      if (!holdsAt(spans, snapshot.lsn)) continue;
      found.push(snapshot);
      break;
    }
    if (work.due) await work.pause();
  }
  return found;
}

/** The first files of `inodes` by their paths of now, or the last ones they had, with the share in front. */
export function named<T extends { readonly ino: InodeId }>(app: OpenApp, inodes: Iterable<T>): (T & PurgeFile)[] {
  const paths = new Paths(app.core);
  const found: (T & PurgeFile)[] = [];
  for (const each of inodes) {
    if (found.length === PURGE_NAMED_MAX) break;
    found.push({ ...each, path: paths.of(each.ino) });
  }
  return found;
}

class Paths {
  readonly #core: EngineCore;
  readonly #directories: DirectoryPaths;
  readonly #shares: ReturnType<typeof sharesByRoot>;

  constructor(core: EngineCore) {
    this.#core = core;
    this.#directories = new DirectoryPaths(core);
    this.#shares = sharesByRoot(core);
  }

  of(ino: InodeId): Buffer {
    const last = this.#lastName(ino);
    const place = last === undefined ? undefined : this.#directories.of(last.parent, last.at);
    if (last === undefined || place === undefined) return Buffer.from(`inode ${ino}`);
    const share = this.#shares.get(place.root)?.name ?? "";
    return joinPath(Buffer.from(share), joinPath(place.path, last.name));
  }

  /** A name the file has, or the last one it had, and a moment at which it had it. */
  #lastName(ino: InodeId): { readonly parent: InodeId; readonly name: Buffer; readonly at: Lsn } | undefined {
    const core = this.#core;
    const now = namesAt(core, ino, core.lastLsn, 1)[0];
    if (now !== undefined && now.until === undefined) return { ...now, at: core.lastLsn };
    const gte = inoPrefix(TABLE.PARENT_PAST, ino);
    const row = core.store.range({ gte, lt: prefixEnd(gte), reverse: true, limit: 1 })[0];
    if (row === undefined) return undefined;
    const at = (new ByteReader(row.key, gte.length).u64() - 1) as Lsn;
    const then = namesAt(core, ino, at, 1)[0];
    return then === undefined ? undefined : { ...then, at };
  }
}
