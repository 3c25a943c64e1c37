import { assert } from "../../base/assert.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { InodeId, Lsn } from "../../domain/ids.ts";
import { S_IFDIR, S_IFREG } from "../../domain/inode.ts";
import type { EngineCore } from "../core.ts";
import { dentryKey, dentryPastKey, HASH_OFFSET, inoPrefix, lsnAtEnd, prefixEnd, TABLE } from "../keys.ts";
import { rowsFrom } from "../reading/paths.ts";
import type { Work } from "../reading/work.ts";
import { decodeDentry } from "../rows.ts";

/** When something was so: over [since, until); `until` NOW: it is so. */
export type Span = { readonly since: number; readonly until: number };

export const NOW = Number.MAX_SAFE_INTEGER;

const DIRECTORY_TYPE = S_IFDIR >> 12;
const REGULAR_TYPE = S_IFREG >> 12;

/** Files and directories of one order: some 300 bytes each. */
const INODES_MAX = 500_000;

/** Spans remembered of one inode: a name that went back and forth more often is taken for always there. */
const SPANS_MAX = 64;

const NAME_OFFSET = HASH_OFFSET + 8;

type Name = { readonly ino: InodeId; readonly type: number; readonly span: Span };

/** The regular files that had a path below `root`, or one below that path, at any moment that history has, and when. */
export async function concernedFiles(
  core: EngineCore,
  place: { readonly root: InodeId; readonly names: readonly Buffer[] },
  work: Work,
): Promise<Map<InodeId, Span[]>> {
  let found: Name[] = [{ ino: place.root, type: DIRECTORY_TYPE, span: { since: 0, until: NOW } }];
  for (const name of place.names) {
    const next: Name[] = [];
    for (const directory of found)
      for (const child of namedIn(core, directory.ino, name)) pushWithin(next, child, directory.span);
    found = next;
  }
  const seen = new Map<InodeId, Span[]>();
  const files = new Map<InodeId, Span[]>();
  for (let next = found.pop(); next !== undefined; next = found.pop()) {
    const { ino, type, span } = next;
    if (type !== DIRECTORY_TYPE && type !== REGULAR_TYPE) continue;
    if (!addSpan(type === REGULAR_TYPE ? files : seen, ino, span)) continue;
    if (files.size + seen.size > INODES_MAX)
      throw new TidemarkError(
        "FAILED_PRECONDITION",
        `the path has, and had, more than ${INODES_MAX} files below it: erase it in parts, one directory after the other`,
      );
    if (type === REGULAR_TYPE) continue;
    for (const child of allIn(core, ino)) {
      pushWithin(found, child, span);
      if (work.due) await work.pause();
    }
  }
  return files;
}

/** Notes a span; answers whether it says anything new. */
function addSpan(known: Map<InodeId, Span[]>, ino: InodeId, span: Span): boolean {
  const spans = known.get(ino);
  if (spans === undefined) {
    known.set(ino, [span]);
    return true;
  }
  if (spans.some(({ since, until }) => since <= span.since && span.until <= until)) return false;
  if (spans.length < SPANS_MAX) spans.push(span);
  else spans.splice(0, spans.length, { since: 0, until: NOW });
  return true;
}

function pushWithin(list: Name[], { ino, type, span }: Name, within: Span): void {
  const since = Math.max(span.since, within.since);
  const until = Math.min(span.until, within.until);
  if (since < until) list.push({ ino, type, span: { since, until } });
}

/** Everything that had `name` in the directory. */
function* namedIn(core: EngineCore, directory: InodeId, name: Buffer): Generator<Name> {
  const hash = core.hash(name);
  const now = core.store.get(dentryKey(directory, hash, name));
  if (now !== undefined) yield nameOf(now, NOW);
  const gte = dentryPastKey(directory, hash, name, 0);
  for (const { key, value } of rowsFrom(core, gte, prefixEnd(gte.subarray(0, gte.length - 8) as Buffer)))
    yield nameOf(value, lsnAtEnd(key));
}

/** Everything that was in the directory. */
function* allIn(core: EngineCore, directory: InodeId): Generator<Name> {
  const now = inoPrefix(TABLE.DENTRY, directory);
  for (const { value } of rowsFrom(core, now, prefixEnd(now))) yield nameOf(value, NOW);
  const past = inoPrefix(TABLE.DENTRY_PAST, directory);
  for (const { key, value } of rowsFrom(core, past, prefixEnd(past))) {
    assert(key.length > NAME_OFFSET + 9, "the key of a name that ended");
    yield nameOf(value, lsnAtEnd(key));
  }
}

function nameOf(value: Buffer, until: number): Name {
  const { ino, type, since } = decodeDentry(value);
  return { ino, type, span: { since, until } };
}

/** Whether something was so at a moment. */
export function holdsAt(spans: readonly Span[], at: Lsn): boolean {
  return spans.some(({ since, until }) => since <= at && at < until);
}
