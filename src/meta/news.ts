import type { InodeId, Lsn } from "../domain/ids.ts";
import type { Invalidation } from "../domain/metadata-api.ts";
import type { JournalRecord } from "../journal/record.ts";
import { TABLE } from "./keys.ts";
import type { OpenApp } from "./open-app.ts";

/**
 * Records whose news may not have been told when a process died: all that fits the queue of notifications, at one name and one inode each, and more than
 * the fastest storm makes while it is emptied. 20,000 records are read in a quarter of a second.
 */
const RECORDS_MAX = 20_000;

/** Bytes of a dentry key before the name: table, parent, hash. */
const NAME_OFFSET = 14;

/**
 * What caches must forget because of the newest records, oldest first: for mounts that go on after the death of the process that was to tell them. More
 * than was missed, which costs only that the kernel asks again.
 */
export async function* recentNews(app: OpenApp): AsyncGenerator<Invalidation> {
  const { journal } = app;
  const to = journal.lastLsn;
  // A segment is called by its first LSN. Only what is kept without a gap up to now can be read.
  let from = to + 1;
  for (const { segment, lastLsn } of journal.segments().reverse()) if (lastLsn + 1 === from) from = segment;
  from = Math.max(from, to - RECORDS_MAX + 1);
  if (from > to) return;
  for await (const record of journal.readRecords(from as Lsn, to)) yield* newsOf(record);
}

/** What a record's rows say that has changed. An inode whose row is new may have new content. */
function* newsOf(record: JournalRecord): Generator<Invalidation> {
  const excluding = record.actor.mountId;
  for (const { key } of record.rows) {
    switch (key[0]) {
      case TABLE.INODE:
        yield { kind: "inode", ino: key.readUIntBE(1, 5) as InodeId, data: true, excluding };
        break;
      case TABLE.DENTRY:
        yield { kind: "entry", parent: key.readUIntBE(1, 5) as InodeId, name: key.subarray(NAME_OFFSET), excluding };
        break;
      case TABLE.SNAPSHOT:
        yield { kind: "snapshot", name: key.subarray(1), excluding: 0 };
        break;
    }
  }
}
