import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import type { Timestamp } from "../base/clock.ts";
import { syncFolder, writeWhole } from "../base/durable-file.ts";
import { TidemarkError } from "../domain/errors.ts";
import { type AppId, isHexId, type Lsn } from "../domain/ids.ts";

/** What opens a repository again: where it is, and its key. For who opens it; kept here as it is. */
export type RepositoryReference = Readonly<Record<string, unknown>>;

/** What a data folder knows of an app whose older part is in a repository: DATA/backup/<app id>/archive.json, 0600. */
export type ArchiveFile = {
  readonly reference: RepositoryReference;
  readonly repositoryId: string;
  /** The app in the repository: another one than in the folder when it was recovered under a new name. */
  readonly sourceApp: AppId;
  /** Where it is, for messages. */
  readonly description: string;
  readonly firstLsn: Lsn;
  readonly lastLsn: Lsn;
  readonly lastTime: Timestamp | undefined;
  /** All data that rows name are in the folder: the archive is needed for old records only. */
  readonly isHydrated: boolean;
};

const FORMAT = "tidemark-archive";
const VERSION = 1;

/** Bytes of such a file, at most: it is read as a whole. */
const FILE_BYTES_MAX = 1024 * 1024;

/** Where everything about an app's archive is. */
export function archiveFolder(dataFolder: string, appId: AppId): string {
  return path.join(dataFolder, "backup", appId);
}

function fileOf(dataFolder: string, appId: AppId): string {
  return path.join(archiveFolder(dataFolder, appId), "archive.json");
}

/** The app's archive; undefined: all of it is in the folder. Throws DATA_DAMAGED, DATA_FOLDER_FOREIGN. */
export async function readArchiveFile(dataFolder: string, appId: AppId): Promise<ArchiveFile | undefined> {
  const file = fileOf(dataFolder, appId);
  let text: string;
  try {
    if ((await fs.promises.stat(file)).size > FILE_BYTES_MAX) throw damaged(file);
    text = await fs.promises.readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  return parse(file, text);
}

/** Writes it: as a whole or not at all, and durable when it resolves. */
export async function writeArchiveFile(dataFolder: string, appId: AppId, archive: ArchiveFile): Promise<void> {
  const folder = archiveFolder(dataFolder, appId);
  await fs.promises.mkdir(folder, { recursive: true, mode: 0o700 });
  const file = fileOf(dataFolder, appId);
  const text = `${JSON.stringify({ format: FORMAT, version: VERSION, ...archive }, undefined, 2)}\n`;
  const draft = `${file}.${randomBytes(4).toString("hex")}.new`;
  await writeWhole(file, text, { draft, isNew: true });
  for (const at of [path.dirname(folder), dataFolder]) await syncFolder(at);
}

function parse(file: string, text: string): ArchiveFile {
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(text) as Record<string, unknown>;
  } catch {
    throw damaged(file);
  }
  if (value === null || typeof value !== "object" || value["format"] !== FORMAT) throw damaged(file);
  if (value["version"] !== VERSION) {
    const message = `${file} has version ${String(value["version"])}, this program knows ${VERSION}: use a newer one`;
    throw new TidemarkError("DATA_FOLDER_FOREIGN", message);
  }
  const { reference, repositoryId, sourceApp, description, firstLsn, lastLsn, isHydrated } = value;
  const isLsn = (lsn: unknown): lsn is Lsn => Number.isSafeInteger(lsn) && (lsn as number) >= 0;
  if (
    typeof reference !== "object" ||
    reference === null ||
    typeof repositoryId !== "string" ||
    typeof sourceApp !== "string" ||
    !isHexId(sourceApp) ||
    typeof description !== "string" ||
    !isLsn(firstLsn) ||
    !isLsn(lastLsn) ||
    typeof isHydrated !== "boolean"
  )
    throw damaged(file);
  const lastTime = value["lastTime"] as Timestamp | undefined;
  return {
    reference: reference as RepositoryReference,
    repositoryId,
    sourceApp: sourceApp as AppId,
    description,
    firstLsn,
    lastLsn,
    lastTime,
    isHydrated,
  };
}

function damaged(file: string): TidemarkError {
  return new TidemarkError(
    "DATA_DAMAGED",
    `${file} is damaged: it says in which repository the older part of an app is. Recover the app again into an empty data folder`,
  );
}
