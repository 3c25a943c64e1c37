import { LIVE } from "../../domain/ids.ts";
import type { DirectoryEntry, ReadRequest } from "../../domain/metadata-api.ts";
import type { EngineCore } from "../core.ts";
import { HASH_BYTES, type ListedName } from "../dead-names.ts";
import { inodesAt } from "../inodes-at.ts";
import * as keys from "../keys.ts";
import { cookieOf, hashOfCookie } from "../name-hash.ts";
import { PastNames } from "../past-names.ts";
import type { Turns } from "../reading/turns.ts";
import { inTurns, Work } from "../reading/work.ts";
import { decodeDentry, type InodeRow } from "../rows.ts";

/** Names of one listing answered at most. */
const ENTRIES_MAX = 4096;

/** Inodes looked up between two looks at the clock. */
const INODES_PER_STEP = 64;

type ReaddirRequest = ReadRequest & { readonly op: "readdir" };
type Listing = { readonly entries: readonly DirectoryEntry[]; readonly end: boolean };
type Names = { readonly names: readonly ListedName[]; readonly end: boolean };

/**
 * Lists a directory in hash order from `cookie`. The cookie is the hash of a name, so that a listing goes on rightly after any change and
 * any restart, with no state here. Names of equal hash come together. Answers in this turn, except where much is to be read for a past moment.
 */
export function readdir(core: EngineCore, request: ReaddirRequest, turns: Turns): Listing | Promise<Listing> {
  const { ino, at } = request;
  const { size } = core.directory(ino, at);
  const limit = Math.min(Math.max(1, request.entriesMax), ENTRIES_MAX);
  if (at === LIVE) return liveListing(core, request, limit);
  // The size of a directory is the count of its names.
  if (size === 0n) return { entries: [], end: true };
  return inTurns(pastListing(core, request, limit), new Work({ clock: core.clock, turns }));
}

/** Names that are there now, after the cookie: at least `limit`, unless there are no more. */
function liveListing(core: EngineCore, request: ReaddirRequest, limit: number): Listing {
  const entries: DirectoryEntry[] = [];
  const lt = keys.prefixEnd(keys.inoPrefix(keys.TABLE.DENTRY, request.ino));
  let gte = keys.dentryFrom(request.ino, hashOfCookie(request.cookie + 1n));
  for (;;) {
    const rows = core.store.range({ gte, lt, limit: limit + 1 });
    for (const { key, value } of rows) {
      const { ino, type } = decodeDentry(value);
      const order = key.subarray(keys.HASH_OFFSET);
      const cookie = cookieOfOrder(order);
      if (entries.length >= limit && entries.at(-1)?.cookie !== cookie) return { entries, end: false };
      const entry = { name: order.subarray(HASH_BYTES), ino, type, cookie };
      const inode = request.plus ? core.findInodeNow(ino) : undefined;
      entries.push(inode === undefined ? entry : { ...entry, inode });
    }
    const last = rows.at(-1);
    if (last === undefined || rows.length <= limit) return { entries, end: true };
    gte = Buffer.concat([last.key, Buffer.alloc(1)]);
  }
}

/** Yields where others may have the loop. */
function* pastListing(core: EngineCore, request: ReaddirRequest, limit: number): Generator<void, Listing> {
  const { at, plus } = request;
  const release = core.moments.hold(at);
  try {
    const { names, end } = yield* pastNames(core, request, limit);
    const entries: DirectoryEntry[] = [];
    for (let start = 0; start < names.length; start += INODES_PER_STEP) {
      const step = names.slice(start, start + INODES_PER_STEP);
      const inos = step.map(({ ino }) => ino);
      const inodes = plus ? inodesAt(core, inos, at) : undefined;
      for (const name of step) entries.push(entryOf(name, inodes?.get(name.ino)));
      if (plus) yield;
    }
    return { entries, end };
  } finally {
    release();
  }
}

function* pastNames(core: EngineCore, request: ReaddirRequest, limit: number): Generator<void, Names> {
  const { ino, at } = request;
  const { high, low } = hashOfCookie(request.cookie + 1n);
  const hash = Buffer.alloc(HASH_BYTES);
  hash.writeUInt32BE(low, hash.writeUInt32BE(high));
  const source = new PastNames(core, { ino, at, from: hash.toString("latin1"), wanted: limit + 1 });
  const names: ListedName[] = [];
  try {
    for (;;) {
      const step = source.next();
      for (const name of step.names) {
        if (isFull(names, limit, name)) return { names, end: false };
        names.push(name);
      }
      if (step.ended) return { names, end: true };
      yield;
    }
  } finally {
    source.close();
  }
}

/** Whether `name` is for the next page. Names of equal hash stay together. */
function isFull(names: readonly ListedName[], limit: number, name: ListedName): boolean {
  const last = names.length < limit ? undefined : names.at(-1);
  return last !== undefined && !name.order.startsWith(last.order.slice(0, HASH_BYTES));
}

function entryOf({ order, ino, type }: ListedName, inode: InodeRow | undefined): DirectoryEntry {
  const bytes = Buffer.from(order, "latin1");
  const entry = { name: bytes.subarray(HASH_BYTES), ino, type, cookie: cookieOfOrder(bytes) };
  return inode === undefined ? entry : { ...entry, inode };
}

function cookieOfOrder(order: Buffer): bigint {
  return cookieOf({ high: order.readUInt32BE(0), low: order.readUInt32BE(4) });
}
