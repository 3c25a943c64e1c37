import { type InodeId, LIVE, type Lsn } from "../../domain/ids.ts";
import type { Dentry } from "../../domain/inode.ts";
import type { DirectoryEntry, ReadRequest } from "../../domain/metadata-api.ts";
import type { EngineCore } from "../core.ts";
import * as keys from "../keys.ts";
import { cookieOf, hashOfCookie } from "../name-hash.ts";
import { decodeDentry } from "../rows.ts";

/** Dead names read from the store at a time. */
const DEAD_ROWS = 4096;

/** Names of one listing answered at most. */
const ENTRIES_MAX = 4096;

/** Bytes of a dentry key before the hash: table and parent. */
const HASH_OFFSET = 6;

/** Names held that a directory had at a moment and lost since, for going on with its listing: 5 MiB. With more, each page reads them all again. */
const DEAD_HELD_MAX = 20_000;

type Listed = { readonly hash: keys.NameHash; readonly name: Buffer; readonly dentry: Dentry };

/**
 * Lists a directory in hash order from `cookie`. The cookie is the hash of a name, so that a listing goes on rightly after any change and
 * any restart, with no state here.
 */
export function readdir(
  core: EngineCore,
  request: ReadRequest & { op: "readdir" },
): { entries: readonly DirectoryEntry[]; end: boolean } {
  const { ino, at, plus } = request;
  core.directory(ino, at);
  const limit = Math.min(Math.max(1, request.entriesMax), ENTRIES_MAX);
  const live = listNow(core, request, limit);
  const listed = at === LIVE ? live : mergeDead(core, ino, at, request.cookie, live, limit);
  const entries: DirectoryEntry[] = [];
  for (const { hash, name, dentry } of listed.entries) {
    const entry = { name, ino: dentry.ino, type: dentry.type, cookie: cookieOf(hash) };
    const inode = plus ? core.findInodeAt(dentry.ino, at) : undefined;
    entries.push(inode === undefined ? entry : { ...entry, inode });
  }
  return { entries, end: listed.end };
}

function after(cookie: bigint): keys.NameHash {
  return hashOfCookie(cookie + 1n);
}

/** Names that are there now and were at `at`, after the cookie: at least `limit`, unless there are no more; names of equal hash stay together. */
function listNow(
  core: EngineCore,
  request: ReadRequest & { op: "readdir" },
  limit: number,
): { entries: Listed[]; end: boolean } {
  const { ino, at } = request;
  const entries: Listed[] = [];
  const lt = keys.prefixEnd(keys.inoPrefix(keys.TABLE.DENTRY, ino));
  let gte = keys.dentryFrom(ino, after(request.cookie));
  for (;;) {
    const rows = core.store.range({ gte, lt, limit: limit + 1 });
    for (const row of rows) {
      const dentry = decodeDentry(row.value);
      if (dentry.since > at) continue;
      const entry = { ...hashAndName(row.key, HASH_OFFSET), dentry };
      const previous = entries.at(-1);
      if (entries.length >= limit && previous !== undefined && !sameHash(previous.hash, entry.hash))
        return { entries, end: false };
      entries.push(entry);
    }
    const last = rows.at(-1);
    if (last === undefined || rows.length <= limit) return { entries, end: true };
    gte = Buffer.concat([last.key, Buffer.alloc(1)]);
  }
}

/**
 * What a directory has lost since a moment and had then, as far as it was read: `names` in the order of listings, `from` where rows of later deaths
 * begin. It is only ever added to: a death has a later end than all before it.
 */
export type DeadNames = { from: Buffer; names: Listed[]; overflown: boolean };

/** The names lost since `at`, read on from where the last call stopped; undefined when they are too many to be held. */
function deadNames(core: EngineCore, ino: InodeId, at: Lsn): readonly Listed[] | undefined {
  const key = `${ino}:${at}`;
  const known = core.deadNames.get(key) ?? { from: keys.dentryEndedFrom(ino, at + 1), names: [], overflown: false };
  core.deadNames.set(key, known);
  if (known.overflown) return undefined;
  const lt = keys.prefixEnd(keys.inoPrefix(keys.TABLE.DENTRY_ENDED, ino));
  const before = known.names.length;
  for (;;) {
    const rows = core.store.range({ gte: known.from, lt, limit: DEAD_ROWS });
    for (const row of rows) {
      const dentry = decodeDentry(row.value);
      if (dentry.since > at) continue;
      const { hash, name } = hashAndName(row.key, HASH_OFFSET + 8);
      known.names.push({ hash, name: Buffer.from(name), dentry });
    }
    const last = rows.at(-1);
    if (last !== undefined) known.from = Buffer.concat([last.key, Buffer.alloc(1)]);
    if (known.names.length > DEAD_HELD_MAX) {
      known.overflown = true;
      known.names = [];
      return undefined;
    }
    if (rows.length < DEAD_ROWS) break;
  }
  if (known.names.length > before) known.names.sort((left, right) => compareHashes(left.hash, right.hash));
  return known.names;
}

/** Adds names that died after `at` and were there then. */
function mergeDead(
  core: EngineCore,
  ino: InodeId,
  at: Lsn,
  cookie: bigint,
  live: { entries: Listed[]; end: boolean },
  limit: number,
): { entries: Listed[]; end: boolean } {
  const held = deadNames(core, ino, at);
  if (held === undefined) return mergeManyDead(core, ino, at, cookie, live, limit);
  const from = after(cookie);
  const lastLive = live.end ? undefined : live.entries.at(-1)?.hash;
  const dead = held.filter(
    ({ hash }) => compareHashes(hash, from) >= 0 && (lastLive === undefined || compareHashes(hash, lastLive) <= 0),
  );
  return firstOf([...live.entries, ...dead], limit, live.end);
}

/** The first `limit` of `all`; names of equal hash stay together. `end`: there are no others behind `all`. */
function firstOf(all: Listed[], limit: number, end: boolean): { entries: Listed[]; end: boolean } {
  all.sort((left, right) => compareHashes(left.hash, right.hash));
  let count = Math.min(limit, all.length);
  while (count < all.length && sameHash((all[count - 1] as Listed).hash, (all[count] as Listed).hash)) count++;
  return { entries: all.slice(0, count), end: end && count === all.length };
}

/** The same where they can't be held: reads everything that died after the moment, for each page. */
function mergeManyDead(
  core: EngineCore,
  ino: InodeId,
  at: Lsn,
  cookie: bigint,
  live: { entries: Listed[]; end: boolean },
  limit: number,
): { entries: Listed[]; end: boolean } {
  const from = after(cookie);
  const lastLive = live.end ? undefined : live.entries.at(-1)?.hash;
  let dead: Listed[] = [];
  let truncated = false;
  const lt = keys.prefixEnd(keys.inoPrefix(keys.TABLE.DENTRY_ENDED, ino));
  let gte = keys.dentryEndedFrom(ino, at + 1);
  for (;;) {
    const rows = core.store.range({ gte, lt, limit: DEAD_ROWS });
    for (const row of rows) {
      const dentry = decodeDentry(row.value);
      if (dentry.since > at) continue;
      const { hash, name } = hashAndName(row.key, HASH_OFFSET + 8);
      if (compareHashes(hash, from) < 0 || (lastLive !== undefined && compareHashes(hash, lastLive) > 0)) continue;
      dead.push({ hash, name, dentry });
    }
    // Keep the smallest only: memory stays bounded by the page, whatever has died since.
    if (dead.length > 4 * limit + DEAD_ROWS) {
      dead = smallest(dead, limit + 1);
      truncated = true;
    }
    const last = rows.at(-1);
    if (last === undefined || rows.length < DEAD_ROWS) break;
    gte = Buffer.concat([last.key, Buffer.alloc(1)]);
  }
  return firstOf([...live.entries, ...dead], limit, live.end && !truncated);
}

function smallest(entries: Listed[], count: number): Listed[] {
  return entries.sort((left, right) => compareHashes(left.hash, right.hash)).slice(0, count);
}

function hashAndName(key: Buffer, offset: number): { hash: keys.NameHash; name: Buffer } {
  const hash = { high: key.readUInt32BE(offset), low: key.readUInt32BE(offset + 4) };
  return { hash, name: key.subarray(offset + 8) as Buffer };
}

function compareHashes(left: keys.NameHash, right: keys.NameHash): number {
  return left.high - right.high || left.low - right.low;
}

function sameHash(left: keys.NameHash, right: keys.NameHash): boolean {
  return left.high === right.high && left.low === right.low;
}
