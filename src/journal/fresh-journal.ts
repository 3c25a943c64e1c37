import { randomInt } from "node:crypto";
import fs from "node:fs";
import type { Clock } from "../base/clock.ts";
import { syncFolder } from "../base/durable-file.ts";
import type { AppId, Lsn } from "../domain/ids.ts";
import { makeJournalFolder } from "./journal-folder.ts";
import { encodeHeader, segmentName } from "./segment-file.ts";

/**
 * Makes the folder of a journal whose records up to `lastLsn` are in an archive: one segment without records, which the record `lastLsn` + 1 goes into. Durable when it
 * resolves. What was in the folder is removed: the caller has made sure that it is nobody's.
 */
export async function makeFreshJournal(options: {
  readonly folder: string;
  readonly appId: AppId;
  readonly lastLsn: Lsn;
  readonly clock: Clock;
}): Promise<void> {
  const { folder, appId, lastLsn, clock } = options;
  await fs.promises.rm(folder, { recursive: true, force: true });
  await makeJournalFolder(folder);
  const segment = lastLsn + 1;
  const header = encodeHeader({ appId, segment, created: clock.now(), state: "records", seed: randomInt(2 ** 32) });
  const file = await fs.promises.open(`${folder}/${segmentName(segment)}`, "wx", 0o600);
  try {
    await file.writeFile(header);
    await file.sync();
  } finally {
    await file.close();
  }
  await syncFolder(folder);
}
