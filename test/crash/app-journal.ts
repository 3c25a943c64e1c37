import { readdirSync } from "node:fs";
import path from "node:path";
import { SystemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import type { AppId, Lsn } from "../../src/domain/ids.ts";
import { Journal } from "../../src/journal/journal.ts";
import type { JournalRecord } from "../../src/journal/record.ts";
import { SYSTEM_APP_ID } from "../../src/meta/service.ts";

/** Ids of a data folder's apps, without the catalogue. */
export function appIds(dataFolder: string): AppId[] {
  return readdirSync(path.join(dataFolder, "apps")).filter((id) => id !== SYSTEM_APP_ID) as AppId[];
}

/** All records of an app's journal, verified down to their data; of a service that has stopped. Changes nothing. */
export async function readJournal(
  dataFolder: string,
  appId: AppId,
  onRecord: (record: JournalRecord) => void,
): Promise<void> {
  const folder = path.join(dataFolder, "apps", appId, "journal");
  const journal = await Journal.open({
    folder,
    appId,
    clock: new SystemClock(),
    log: silentLog,
    appliedLsn: 0 as Lsn,
    onRecord,
    readOnly: true,
  });
  await journal.close();
}
