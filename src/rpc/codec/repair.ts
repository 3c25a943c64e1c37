import type { MessageInitShape } from "@bufbuild/protobuf";
import type { BackupRepair, RepairFile, RepairMoment } from "../../domain/admin-repair.ts";
import * as pb from "../gen/tidemark/v1/backup_pb.ts";
import { fromAppName, fromLsn, fromTime, toTime } from "./common.ts";
import { buffer, defined, maybe, need, WordCodec, wide } from "./values.ts";

/** What backup.proto has about repairs, both ways. */

const severities = new WordCodec("severity of a finding", {
  damage: pb.RepairSeverity.DAMAGE,
  warning: pb.RepairSeverity.WARNING,
  note: pb.RepairSeverity.NOTE,
});

const rowStates = new WordCodec("state of rows", {
  whole: pb.RepairRows.WHOLE,
  checkpoint: pb.RepairRows.CHECKPOINT,
  base: pb.RepairRows.BASE,
});

export function fromRepair(message: pb.RepairBackupResponse): BackupRepair {
  const { app, findings, rows, lostPackCount, lostBytes, restoredBytes, files } = message;
  return {
    app: fromAppName(app),
    findings: findings.map(({ severity, object, message: text }) => ({
      severity: severities.from(severity),
      object,
      message: text,
    })),
    rows: rowStates.from(rows),
    lostPackCount,
    lostBytes,
    restoredBytes,
    files: files.map(fromFile),
  };
}

export function toRepair(repair: BackupRepair): MessageInitShape<typeof pb.RepairBackupResponseSchema> {
  const { findings, rows, files, ...same } = repair;
  return {
    ...same,
    findings: findings.map(({ severity, ...rest }) => ({ ...rest, severity: severities.to(severity) })),
    rows: rowStates.to(rows),
    files: files.map(({ path, since, until }) => ({
      path,
      since: toMomentOf(since),
      until: maybe(until, toMomentOf),
    })),
  };
}

function fromFile({ path, since, until }: pb.RepairFile): RepairFile {
  return defined({ path: buffer(path), since: fromMomentOf(need(since, "since")), until: maybe(until, fromMomentOf) });
}

function fromMomentOf({ lsn, time }: pb.RepairMoment): RepairMoment {
  return defined({ lsn: fromLsn(lsn, "lsn"), time: maybe(time, (value) => fromTime(value, "time")) });
}

function toMomentOf({ lsn, time }: RepairMoment): MessageInitShape<typeof pb.RepairMomentSchema> {
  return { lsn: wide(lsn), time: maybe(time, toTime) };
}
