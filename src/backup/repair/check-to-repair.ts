import { randomInt } from "node:crypto";
import type { AppRepository } from "../../repository/app-repository.ts";
import { type CheckedApp, checkApp } from "../check/check-app.ts";
import type { Finding } from "../check/finding.ts";
import type { Repaired } from "./repair-app.ts";
import { FINDINGS_MAX, type RepairReport } from "./repair-report.ts";

/** Steps of a random fraction: which packs are read. */
const STEPS = 2 ** 32;

/** What a check found, for a repair. */
export type CheckedToRepair = Pick<CheckedApp, "packs" | "lost" | "lostBytes" | "lostData" | "areRowsDamaged"> & {
  readonly findings: readonly Finding[];
  /** Something can't be restored. */
  readonly isDamaged: boolean;
  /** It is of rows: seals, checkpoints or runs. */
  readonly hasRowDamage: boolean;
};

/** Checks an app of a repository. `check` throws when it is time to stop. Throws as `checkApp` does. */
export async function checkToRepair(options: {
  readonly repository: AppRepository;
  readonly readPart: number;
  readonly check: () => void;
}): Promise<CheckedToRepair> {
  const { repository: app, readPart, check } = options;
  const findings: Finding[] = [];
  let isDamaged = false;
  let hasRowDamage = false;
  const checked = await checkApp({
    app,
    readPart,
    random: () => randomInt(STEPS) / STEPS,
    onFinding: (finding) => {
      const isDamage = finding.severity === "damage";
      isDamaged ||= isDamage;
      hasRowDamage ||= isDamage && !finding.object.startsWith(`${app.prefix}packs/`);
      if (findings.length < FINDINGS_MAX) findings.push(finding);
    },
    onProgress: check,
  });
  const { packs, lost, lostBytes, lostData, areRowsDamaged } = checked;
  return { packs, lost, lostBytes, lostData, areRowsDamaged, findings, isDamaged, hasRowDamage };
}

/** The report: of what was repaired; undefined: nothing was, "base": the rows are lost. */
export function reportOf(checked: CheckedToRepair, repaired: Repaired | "base" | undefined): RepairReport {
  const { findings, hasRowDamage, lost, lostBytes, lostData } = checked;
  const isRepaired = repaired !== undefined && repaired !== "base";
  return {
    findings,
    rows: repaired === "base" ? "base" : hasRowDamage ? "checkpoint" : "whole",
    lostPackCount: lost.packs.length,
    // Of rows that can't be read it isn't known before which data they name.
    lostBytes: isRepaired ? Math.max(lostBytes, repaired.restoredBytes + repaired.missingBytes) : lostBytes,
    restoredBytes: isRepaired ? repaired.restoredBytes : 0,
    missing: isRepaired ? repaired.missing : [...lostData],
  };
}
