import { readU64Be } from "../../base/bytes.ts";
import { FsError } from "../../domain/errors.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import type { ErasedData, EraseStep } from "../../journal/erase.ts";
import { numberKey, plainKey, prefixEnd, TABLE } from "../keys.ts";
import { type OpenApp, SERVICE_CONTEXT } from "../open-app.ts";
import { cancelled } from "../reading/work.ts";
import { encodeJson } from "../rows.ts";
import { pagesOf } from "../space/app-space.ts";
import { orCancelled } from "../space/cleaner.ts";
import { decodePurged } from "../space/space-rows.ts";

/** A step that was just completed, for tests that stop there. */
export type PurgeStep = "committed" | "durable" | EraseStep | "erased";

/**
 * Takes the bytes of written orders out of the segments that are still to be gone through: what a PURGE record asked for and nobody has done yet. May be cut short at any point and be called again; an app's next start does. Nothing
 * moves data meanwhile. Resolves when they are gone from the disk. Throws FsError ENOSPC, EIO, and CANCELLED.
 */
export async function eraseNow(
  app: OpenApp,
  { signal, onStep }: { readonly signal: AbortSignal; readonly onStep?: ((step: PurgeStep) => void) | undefined },
): Promise<void> {
  const { core, store, journal, applier } = app;
  const gte = plainKey(TABLE.ERASING);
  const segments = [...pagesOf(store, gte, prefixEnd(gte))].flat().map(({ key }) => readU64Be(key, 1));
  if (segments.length === 0) return;
  await journal.sync(core.lastLsn);
  onStep?.("durable");
  // Threads that read files by the rows in the KV are to know, before they find zeros there.
  await orCancelled(applier.reached(journal.durableLsn), { signal });
  await core.data.moving(async () => {
    for (const segment of segments) {
      if (signal.aborted) throw cancelled();
      // Reads that began before.
      await core.data.quiet(segment);
      await eraseIn(app, segment, onStep);
      const tx = core.begin(SERVICE_CONTEXT);
      tx.row(numberKey(TABLE.ERASING, segment), null);
      tx.commit(RECORD_OP.SPACE, encodeJson({ erased: segment }), { useReserve: true });
    }
  });
  await journal.sync(core.lastLsn);
  onStep?.("erased");
}

/** The note of what was erased takes a little room: on a full disk that of the reserve. */
async function eraseIn(app: OpenApp, segment: number, onStep: ((step: PurgeStep) => void) | undefined): Promise<void> {
  const data = erasedOf(app, segment);
  try {
    await app.journal.erase(segment, data, onStep);
  } catch (error) {
    if (codeOf(error) !== "ENOSPC") throw asFsError(error);
    app.journal.releaseReserve();
    await app.journal.erase(segment, data, onStep).catch((again: unknown) => {
      throw asFsError(again);
    });
  }
}

function codeOf(error: unknown): unknown {
  return (error as { code?: unknown }).code;
}

/** Errors of the file system as the engine has them. */
function asFsError(error: unknown): unknown {
  const code = codeOf(error);
  if (typeof code !== "string" || !/^E[A-Z]+$/.test(code) || error instanceof FsError) return error;
  return new FsError(code === "ENOSPC" || code === "EDQUOT" ? "ENOSPC" : "EIO", undefined, { cause: error });
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
