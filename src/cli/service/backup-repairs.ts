import { touchedFiles } from "../../backup/check/touched-files.ts";
import type { RepairReport } from "../../backup/repair/repair-report.ts";
import { type BackupRepair, REPAIR_FILES_MAX, type RepairFile, type RepairMoment } from "../../domain/admin-repair.ts";
import type { OpenApp } from "../../meta/open-app.ts";
import { SystemTurns } from "../../meta/reading/turns.ts";

/** What a repair did, with the files that are concerned by what is lost: by the live app's rows. */
export async function repairOf(
  report: RepairReport,
  { app, core }: { readonly app: BackupRepair["app"]; readonly core: OpenApp["core"] },
): Promise<BackupRepair> {
  const { findings, rows, lostPackCount, lostBytes, restoredBytes, missing } = report;
  const files: RepairFile[] = [];
  if (missing.length > 0) {
    for await (const { path, since, until } of touchedFiles(core, new Set(missing), new SystemTurns())) {
      files.push({ path, since: momentOf(since), ...(until === undefined ? {} : { until: momentOf(until) }) });
      if (files.length === REPAIR_FILES_MAX) break;
    }
  }
  const bytes = { lostBytes: BigInt(lostBytes), restoredBytes: BigInt(restoredBytes) };
  return { app, findings, rows, lostPackCount, ...bytes, files };
}

function momentOf({ lsn, time }: { lsn: RepairMoment["lsn"]; time: RepairMoment["time"] | undefined }): RepairMoment {
  return time === undefined ? { lsn } : { lsn, time };
}
