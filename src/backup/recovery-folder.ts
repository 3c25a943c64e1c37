import fs from "node:fs";
import path from "node:path";
import { syncFolder, writeWhole } from "../base/durable-file.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { AppId } from "../domain/ids.ts";
import { DataFolder, type DataFolderOptions, UNFINISHED_RECOVERY } from "../journal/data-folder.ts";

/** What a folder has that was set up a moment ago, and nothing yet. */
const EMPTY_FOLDER_NAMES: ReadonlySet<string> = new Set(["lock", "tidemark.json", "tidemark.json.new"]);

/** Which app of the repository becomes which one in the folder. */
export type RecoveryItem = {
  readonly sourceApp: AppId;
  readonly appId: AppId;
  readonly namespace: string;
  readonly name: string;
};

/** What the unfinished recovery of a folder is to be: DATA/recovery.json. */
export type RecoveryPlan = {
  readonly repositoryId: string;
  readonly lazy: boolean;
  readonly items: readonly RecoveryItem[];
};

/**
 * Opens the folder that a recovery goes into: a missing or empty one, or one that the same recovery was filling when it was cut off; answers its plan then. Throws
 * FAILED_PRECONDITION for any other, with nothing changed, and what DataFolder.open throws.
 */
export async function openRecoveryFolder(
  options: DataFolderOptions,
): Promise<{ readonly folder: DataFolder; readonly plan: RecoveryPlan | undefined }> {
  checkRecoveryFolder(options.path);
  const plan = readPlan(path.resolve(options.path));
  const folder = await DataFolder.open({ ...options, unfinished: "accept" });
  return { folder, plan };
}

/** Throws as `openRecoveryFolder` does for a folder that it would refuse, with nothing changed: to be asked before anything is done for a recovery. */
export function checkRecoveryFolder(folder: string): void {
  const at = path.resolve(folder);
  if (readPlan(at) === undefined) refuseUsed(at);
}

/** Notes, durably, what is about to be done, before anything is in the folder. */
export async function beginRecovery(folder: DataFolder, plan: RecoveryPlan): Promise<void> {
  const file = path.join(folder.path, UNFINISHED_RECOVERY);
  await writeWhole(file, `${JSON.stringify({ format: FORMAT, version: 1, ...plan }, undefined, 2)}\n`);
}

/** The folder is complete: a service may open it. Durable. */
export async function endRecovery(folder: DataFolder): Promise<void> {
  await fs.promises.rm(path.join(folder.path, UNFINISHED_RECOVERY), { force: true });
  await syncFolder(folder.path);
}

const FORMAT = "tidemark-recovery";

function refuseUsed(folder: string): void {
  let names: string[];
  try {
    names = fs.readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    if ((error as NodeJS.ErrnoException).code !== "ENOTDIR") throw error;
    throw new TidemarkError("INVALID_ARGUMENT", `${folder} is not a folder`);
  }
  const used = names.find((name) => !EMPTY_FOLDER_NAMES.has(name) && name !== `${UNFINISHED_RECOVERY}.new`);
  if (used === undefined) return;
  throw new TidemarkError(
    "FAILED_PRECONDITION",
    `${folder} is not empty (it has "${used}"): apps are recovered into an empty folder only. Choose another one; apps that are there are restored with \`tidemark restore\``,
  );
}

function readPlan(folder: string): RecoveryPlan | undefined {
  const file = path.join(folder, UNFINISHED_RECOVERY);
  let text: string;
  try {
    text = fs.readFileSync(file, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw error;
  }
  let value: (RecoveryPlan & { readonly format?: unknown; readonly version?: unknown }) | undefined;
  try {
    value = JSON.parse(text);
  } catch {}
  if (value?.format !== FORMAT || !Array.isArray(value.items)) {
    throw new TidemarkError("DATA_FOLDER_FOREIGN", `${file} is damaged: remove the folder and recover again`);
  }
  if (value.version !== 1)
    throw new TidemarkError("DATA_FOLDER_FOREIGN", `${file} was written by a newer program: use that one`);
  const { repositoryId, lazy, items } = value;
  return { repositoryId, lazy, items };
}
