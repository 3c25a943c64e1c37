import type { BackupRepair, RepairMoment } from "../../domain/admin-repair.ts";
import { textFromBytes } from "../../domain/byte-text.ts";
import { formatUtcTime } from "../../domain/moment.ts";
import { parseAppRef } from "../../domain/share-path.ts";
import { confirm } from "../confirm.ts";
import type { ExitName } from "../exit-codes.ts";
import { formatBytes, plural } from "../output/human.ts";
import { parsePart } from "../repository/read-part.ts";
import type { Session } from "../session.ts";
import { fullName } from "./app-commands.ts";
import { needed } from "./arguments.ts";

export type RepairOptions = { readonly readData?: string | true; readonly yes?: boolean };

/** `backup repair`: says what is damaged, asks, repairs; ends with DAMAGED when something is lost for good. */
export async function repairBackup(
  session: Session,
  [app]: readonly string[],
  options: RepairOptions,
): Promise<ExitName | undefined> {
  const { output } = session;
  const request = { app: parseAppRef(needed(app)), readPart: parsePart(options.readData) };
  const api = await session.api();
  if (options.yes !== true) {
    const plan = await api.backups.repairBackup({ ...request, dryRun: true }, session.callOptions);
    if (isWhole(plan)) {
      await output.done(
        plan,
        `${fullName(plan.app)}: nothing that is needed is damaged. ${readText(request.readPart)}`,
      );
      return undefined;
    }
    if (output.json) await output.value(shown(plan));
    else await tellPlan(session, plan);
    const refused = await confirm(session, { question: "Repair it?", yes: false });
    if (refused !== undefined) return refused;
  }
  const repair = await api.backups.repairBackup({ ...request, dryRun: false }, session.callOptions);
  if (output.json) await output.value(shown(repair));
  else await tellRepair(session, repair);
  return repair.files.length > 0 || repair.restoredBytes < repair.lostBytes ? "DAMAGED" : undefined;
}

function isWhole({ findings }: BackupRepair): boolean {
  return findings.every(({ severity }) => severity !== "damage");
}

function readText(readPart: number): string {
  if (readPart >= 1) return "All contents were read";
  return readPart === 0 ? "Contents were not read: --read-data" : "Only a part of the contents was read: --read-data";
}

async function tellPlan({ output }: Session, plan: BackupRepair): Promise<void> {
  for (const { severity, message } of plan.findings)
    await output.line(`${output.style(severity === "damage" ? "red" : "yellow", severity)}: ${message}`);
  await tellFiles({ output }, plan, "These versions of files need lost data:");
  const rows =
    plan.rows === "whole" ? "" : " A new checkpoint is written in place of damaged seals, runs and checkpoints.";
  const packs = `${plural(plan.lostPackCount, "pack")} damaged or missing, ${formatBytes(plan.lostBytes)} of data in them`;
  await output.line(
    `${fullName(plan.app)}: ${packs}: stored anew where the live app still has them.${rows} Nothing is deleted.`,
  );
}

async function tellRepair({ output }: Session, repair: BackupRepair): Promise<void> {
  const { app, rows, lostBytes, restoredBytes, files } = repair;
  if (isWhole(repair)) {
    await output.line(`${fullName(app)}: nothing that is needed is damaged`);
    return;
  }
  await tellFiles(
    { output },
    repair,
    "These versions of files are lost in the repository, the live app hasn't got them either:",
  );
  const data =
    lostBytes === 0n
      ? ""
      : ` ${formatBytes(restoredBytes)} of ${formatBytes(lostBytes)} of lost data were stored anew.`;
  const end = files.length > 0 || restoredBytes < lostBytes ? "Not everything could be repaired" : "Repaired";
  await output.line(`${fullName(app)}: ${end}.${data}${ROWS[rows]}`);
}

const ROWS: Readonly<Record<BackupRepair["rows"], string>> = {
  whole: "",
  checkpoint: " A new checkpoint stands for what was damaged.",
  base: " Its rows were shipped anew from the live app: history that only the repository had is lost.",
};

async function tellFiles({ output }: Pick<Session, "output">, { files }: BackupRepair, title: string): Promise<void> {
  if (files.length === 0) return;
  await output.line(title);
  for (const file of shownFiles(files)) await output.line(`  ${file.path}  from ${file.since} to ${file.until}`);
}

function shown({ files, ...rest }: BackupRepair): object {
  return { ...rest, files: shownFiles(files) };
}

function shownFiles(files: BackupRepair["files"]): { path: string; since: string; until: string }[] {
  return files.map(({ path, since, until }) => ({
    path: textFromBytes(path),
    since: momentText(since),
    until: until === undefined ? "now" : momentText(until),
  }));
}

function momentText({ lsn, time }: RepairMoment): string {
  return time === undefined ? `lsn:${lsn}` : formatUtcTime(time);
}
