import { readU40Be, readU64Be } from "../../src/base/bytes.ts";
import { forkOf, rowsOfFork } from "../../src/meta/fork.ts";
import {
  chunkOfKey,
  dentryForkFrom,
  HASH_OFFSET,
  lsnAtEnd,
  numberKey,
  plainKey,
  prefixEnd,
  TABLE,
} from "../../src/meta/keys.ts";
import type { OpenApp } from "../../src/meta/open-app.ts";
import { decodeExtents, INODE_CONTENT_OFFSET } from "../../src/meta/rows.ts";
import { pagesOf } from "../../src/meta/space/app-space.ts";
import { decodePieces, decodeUse, spanOfPast } from "../../src/meta/space/space-rows.ts";

type Row = { readonly key: Buffer; readonly value: Buffer };

const PAST = [
  TABLE.INODE_PAST,
  TABLE.DENTRY_PAST,
  TABLE.DENTRY_ENDED,
  TABLE.DENTRY_BEGAN,
  TABLE.XATTR_PAST,
  TABLE.PARENT_PAST,
  TABLE.SNAPSHOT_PAST,
];

function* rowsOf(app: OpenApp, table: number): Generator<Row> {
  const gte = plainKey(table);
  for (const page of pagesOf(app.store, gte, prefixEnd(gte))) yield* page;
}

/** Reads all rows of an app whose collection has ended, and says what is there that nothing needs, or missing. */
export function audit(app: OpenApp): string[] {
  return [...pastRows(app), ...forkRows(app), ...contentRows(app), ...segmentRows(app), ...indexRows(app)];
}

function pinned(app: OpenApp): Map<string, number> {
  const pins = new Map<string, number>();
  for (const { key } of rowsOf(app, TABLE.PINNED)) pins.set(key.subarray(9).toString("latin1"), readU64Be(key, 1));
  return pins;
}

function* pastRows(app: OpenApp): Generator<string> {
  const { floor, kept } = app.core.moments;
  const pins = pinned(app);
  for (const table of PAST) {
    for (const { key, value } of rowsOf(app, table)) {
      const { since, until } = spanOfPast(key, value);
      if (until > floor) continue;
      const pin = pins.get(key.toString("latin1"));
      if (pin === undefined)
        yield `row ${key.toString("latin1")} ended at ${until}, below the floor ${floor}, and nothing keeps it`;
      else if (pin < since || pin >= until)
        yield `row ${key.toString("latin1")} is kept for ${pin}, when it did not hold`;
    }
  }
  for (const [key, pin] of pins) {
    if (!kept.has(pin)) yield `pin of ${key} to ${pin}, which is not kept`;
    if (app.store.get(Buffer.from(key, "latin1")) === undefined) yield `pin of ${key}, which is not there`;
  }
}

/** The rows of dead names by fork are those that their rows by name call for. */
function* forkRows(app: OpenApp): Generator<string> {
  const wanted = new Set<string>();
  for (const { key, value } of rowsOf(app, TABLE.DENTRY_PAST)) {
    const { since, until } = spanOfPast(key, value);
    if (since >= until) continue;
    const fork = forkOf(since, until);
    const { byEnd, byBeginning } = rowsOfFork(fork, until);
    const rest = key.toString("latin1", HASH_OFFSET, key.length - 9);
    const row = (table: number, lsn: number): string =>
      Buffer.concat([dentryForkFrom(table, readU40Be(key, 1), fork, lsn), Buffer.from(rest, "latin1")]).toString(
        "latin1",
      );
    if (byEnd) wanted.add(row(TABLE.DENTRY_ENDED, until));
    if (byBeginning) wanted.add(row(TABLE.DENTRY_BEGAN, since));
  }
  for (const table of [TABLE.DENTRY_ENDED, TABLE.DENTRY_BEGAN])
    for (const { key } of rowsOf(app, table))
      if (!wanted.delete(key.toString("latin1"))) yield `row by fork ${key.toString("hex")} without a row by name`;
  for (const text of wanted) yield `row by fork ${Buffer.from(text, "latin1").toString("hex")} is missing`;
}

function* contentRows(app: OpenApp): Generator<string> {
  const { floor } = app.core.moments;
  const named = new Set<number>();
  for (const table of [TABLE.INODE, TABLE.INODE_PAST]) {
    for (const { value } of rowsOf(app, table)) named.add(readU64Be(value, INODE_CONTENT_OFFSET));
  }
  const checkpoints = new Set<string>();
  for (const { key } of rowsOf(app, TABLE.CHECKPOINT)) {
    const content = readU64Be(key, 1);
    if (!named.has(content)) yield `checkpoint of content ${content}, which no inode has`;
    if (lsnAtEnd(key) <= floor) checkpoints.add(`${content}:${chunkOfKey(key)}`);
  }
  for (const { key } of rowsOf(app, TABLE.SLICE)) {
    const content = readU64Be(key, 1);
    const chunk = chunkOfKey(key);
    if (!named.has(content)) yield `slice of content ${content}, which no inode has`;
    const isOld = lsnAtEnd(key) <= floor;
    if (isOld && checkpoints.has(`${content}:${chunk}`))
      yield `slice of chunk ${chunk} of content ${content} at ${lsnAtEnd(key)} beside a checkpoint below the floor`;
  }
  for (const { key } of rowsOf(app, TABLE.CUT))
    if (lsnAtEnd(key) <= floor) yield `cut of content ${readU64Be(key, 1)} at ${lsnAtEnd(key)}, below the floor`;
}

function* segmentRows(app: OpenApp): Generator<string> {
  const files = new Set(app.journal.segments().map(({ segment }) => segment));
  const gone = new Set<number>();
  for (const { key, value } of rowsOf(app, TABLE.SEGMENT_USE)) {
    const segment = readU64Be(key, 1);
    const { state } = decodeUse(value);
    if (state === "gone") gone.add(segment);
    if (state !== "gone" && !files.has(segment)) yield `use of segment ${segment} (${state}), which is not there`;
    if (state === "gone" && files.has(segment)) yield `segment ${segment} is gone but its file is there`;
    if (
      state === "gone" &&
      app.store.range({
        gte: numberKey(TABLE.RELOCATION, segment),
        lt: prefixEnd(numberKey(TABLE.RELOCATION, segment)),
        limit: 1,
      }).length === 0
    )
      yield `segment ${segment} is gone and has no relocations`;
  }
  for (const { key, value } of rowsOf(app, TABLE.RELOCATION)) {
    const segment = readU64Be(key, 1);
    if (!gone.has(segment)) yield `relocation of segment ${segment}, which is not gone`;
    for (const piece of decodePieces(value))
      if (!files.has(piece.segment)) yield `relocation of segment ${segment} to ${piece.segment}, which is not there`;
  }
  for (const { key } of rowsOf(app, TABLE.REFERENCE)) {
    const segment = readU64Be(key, 1);
    if (!files.has(segment) && !gone.has(segment)) yield `reference to segment ${segment}, which is not there`;
  }
  for (const table of [TABLE.SLICE, TABLE.CHECKPOINT]) {
    for (const { key, value } of rowsOf(app, table)) {
      for (const { segment } of decodeExtents(value)) {
        if (segment !== 0 && !files.has(segment) && !gone.has(segment))
          yield `content ${readU64Be(key, 1)} at ${lsnAtEnd(key)} names segment ${segment}, which is not there`;
      }
    }
  }
}

function* indexRows(app: OpenApp): Generator<string> {
  const { floor } = app.core.moments;
  let below = 0;
  for (const { value } of rowsOf(app, TABLE.TIME)) if (readU64Be(value, 0) < floor) below++;
  if (below > 0) yield `${below} rows of the time index below the floor`;
}
