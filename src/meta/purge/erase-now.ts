import { readU64Be } from "../../base/bytes.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import type { ErasedData, EraseStep } from "../../journal/erase.ts";
import { numberKey, plainKey, prefixEnd, TABLE } from "../keys.ts";
import { type OpenApp, SERVICE_CONTEXT } from "../open-app.ts";
import { encodeJson } from "../rows.ts";
import { pagesOf } from "../space/app-space.ts";
import { decodePurged } from "../space/space-rows.ts";

/** A step that was just completed, for tests that stop there. */
export type PurgeStep = "committed" | "durable" | EraseStep | "erased";

/**
 * Takes the bytes of written orders out of the segments that are still to be gone through: what a PURGE record asked for and nobody has done yet. May be cut short at any point and be called again; an app's next start does. Nothing
 * moves data meanwhile. Resolves when they are gone from the disk. Throws FsError and Node's errors of the file system.
 */
export async function eraseNow(app: OpenApp, onStep?: (step: PurgeStep) => void): Promise<void> {
  const { core, store, journal, applier } = app;
  const gte = plainKey(TABLE.ERASING);
  const segments = [...pagesOf(store, gte, prefixEnd(gte))].flat().map(({ key }) => readU64Be(key, 1));
  if (segments.length === 0) return;
  await journal.sync(core.lastLsn);
  onStep?.("durable");
  // Threads that read files by the rows in the KV are to know, before they find zeros there.
  await applier.reached(journal.durableLsn);
  await core.data.moving(async () => {
    for (const segment of segments) {
      // Reads that began before.
      await core.data.quiet(segment);
      await journal.erase(segment, erasedOf(app, segment), onStep);
      const tx = core.begin(SERVICE_CONTEXT);
      tx.row(numberKey(TABLE.ERASING, segment), null);
      tx.commit(RECORD_OP.SPACE, encodeJson({ erased: segment }), { useReserve: true });
    }
  });
  await journal.sync(core.lastLsn);
  onStep?.("erased");
}

function erasedOf({ store }: OpenApp, segment: number): ErasedData[] {
  const gte = numberKey(TABLE.PURGED, segment);
  const data: ErasedData[] = [];
  for (const page of pagesOf(store, gte, prefixEnd(gte))) {
    for (const { key, value } of page) {
      const { dataLength, ranges } = decodePurged(value);
      data.push({ dataStart: key.readUInt32BE(9), dataLength, ranges });
    }
  }
  return data;
}
