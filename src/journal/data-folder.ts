import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import type { Clock } from "../base/clock.ts";
import { syncFolder, writeWhole } from "../base/durable-file.ts";
import type { Log } from "../base/log.ts";
import { SystemTimers, type Timers } from "../base/timers.ts";
import { TidemarkError } from "../domain/errors.ts";
import { type AppId, isHexId } from "../domain/ids.ts";
import { lastErrorName, nativeCalls } from "./native.ts";

// FORMAT.md, "Folder".

export const DATA_FOLDER_VERSION = 1;

/** There while a recovery from a repository fills the folder: its apps are not complete. */
export const UNFINISHED_RECOVERY = "recovery.json";

/** linux/magic.h: FUSE_SUPER_MAGIC, fuseblk too. */
const FUSE_MAGIC = 0x65735546;

/** sys/file.h */
const LOCK_EX = 2;
const LOCK_NB = 4;

/** How often a lock that is held is tried again. */
const LOCK_RETRY_MS = 50;

export type DataFolderOptions = {
  readonly path: string;
  readonly clock: Clock;
  readonly log: Log;
  /** How long to wait for another process that is just ending; 0 = not at all. */
  readonly lockWaitMs?: number;
  readonly timers?: Timers;
  /** The caller goes on with a recovery into the folder that was not finished; else such a folder is refused. */
  readonly unfinished?: "accept";
  /** statfs(2)'s `f_type` of a folder; for tests. */
  readonly fileSystemType?: (folder: string) => number;
};

/** The folder that holds all state of a service, locked for this process. */
export class DataFolder {
  readonly path: string;
  /** 128-bit hex; made with the folder. */
  readonly id: string;
  readonly #lockFd: number;

  private constructor(folder: string, id: string, lockFd: number) {
    this.path = folder;
    this.id = id;
    this.#lockFd = lockFd;
  }

  /**
   * Opens and locks a data folder; an empty or missing one is set up, durably. The lock is the kernel's: it ends with the process, however that ends. Throws
   * TidemarkError, with nothing changed: DATA_FOLDER_LOCKED; FAILED_PRECONDITION for one that a recovery has not finished; DATA_FOLDER_FOREIGN for a folder that is not ours, damaged or newer; UNSUPPORTED on a FUSE file
   * system (a service must not wait for itself) and where the lock can't be had; PERMISSION_DENIED.
   */
  static async open(options: DataFolderOptions): Promise<DataFolder> {
    const folder = path.resolve(options.path);
    try {
      await makeFolder(folder);
      const fileSystemType = options.fileSystemType ?? ((at: string) => fs.statfsSync(at).type);
      if (fileSystemType(folder) === FUSE_MAGIC) {
        throw new TidemarkError(
          "UNSUPPORTED",
          `${folder} is on a FUSE file system: choose a data folder on a local disk`,
        );
      }
      checkContents(folder);
      const lockFd = await lock(folder, options);
      try {
        checkContents(folder);
        if (options.unfinished !== "accept") refuseUnfinished(folder);
        tightenMode(folder, options.log);
        const id = readIdentity(folder) ?? (await writeIdentity(folder, options.clock));
        fs.ftruncateSync(lockFd, 0);
        fs.writeSync(lockFd, `${process.pid}\n`, 0);
        return new DataFolder(folder, id, lockFd);
      } catch (error) {
        fs.closeSync(lockFd);
        throw error;
      }
    } catch (error) {
      throw asTidemarkError(folder, error);
    }
  }

  /** Where an app's journal is. */
  journalFolder(appId: AppId): string {
    return path.join(this.path, "apps", appId, "journal");
  }

  /** Where the rows are. */
  get kvFolder(): string {
    return path.join(this.path, "kv");
  }

  /** Ends the lock. */
  close(): void {
    fs.closeSync(this.#lockFd);
  }
}

async function makeFolder(folder: string): Promise<void> {
  const made = await fs.promises.mkdir(folder, { recursive: true, mode: 0o700 });
  for (let at = folder; made !== undefined; at = path.dirname(at)) {
    await syncFolder(path.dirname(at));
    if (at === made) return;
  }
}

function refuseUnfinished(folder: string): void {
  if (!fs.existsSync(path.join(folder, UNFINISHED_RECOVERY))) return;
  throw new TidemarkError(
    "FAILED_PRECONDITION",
    `${folder} is being recovered from a repository, which was not finished: run the same \`tidemark repo recover\` again to go on, or remove the folder`,
  );
}

// A folder with anything in it but no identity is somebody else's, or has lost it: setting it up would hide that.
function checkContents(folder: string): void {
  // A machine may have joined another service before one of its own is started here.
  const ours = new Set(["lock", "tidemark.json.new", "node"]);
  const names = fs.readdirSync(folder);
  if (names.includes("tidemark.json")) {
    readIdentity(folder);
    return;
  }
  const other = names.find((name) => !ours.has(name));
  if (other === undefined) return;
  throw foreign(
    folder,
    `it has no tidemark.json, but it has "${other}": choose an empty folder, or bring the file back`,
  );
}

function readIdentity(folder: string): string | undefined {
  let text: string;
  try {
    text = fs.readFileSync(path.join(folder, "tidemark.json"), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  const identity = parseObject(text);
  if (identity === undefined) throw foreign(folder, "its tidemark.json is damaged");
  if (identity["format"] !== "tidemark-data") throw foreign(folder, "its tidemark.json is not of a data folder");
  const { version, id } = identity;
  if (typeof version !== "number" || !Number.isInteger(version)) throw foreign(folder, "its tidemark.json is damaged");
  if (version !== DATA_FOLDER_VERSION) {
    const age = version > DATA_FOLDER_VERSION ? "was written by a newer program" : "is of a version that never was";
    throw foreign(folder, `it ${age}: format version ${version}, this program knows ${DATA_FOLDER_VERSION}`);
  }
  if (typeof id !== "string" || !isHexId(id)) throw foreign(folder, "its tidemark.json is damaged");
  return id;
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

async function writeIdentity(folder: string, clock: Clock): Promise<string> {
  const id = randomBytes(16).toString("hex");
  const created = new Date(clock.now().sec * 1000).toISOString();
  const text = `${JSON.stringify({ format: "tidemark-data", version: DATA_FOLDER_VERSION, id, created })}\n`;
  await writeWhole(path.join(folder, "tidemark.json"), text);
  return id;
}

function tightenMode(folder: string, log: Log): void {
  const mode = fs.statSync(folder).mode & 0o777;
  if (mode === 0o700) return;
  fs.chmodSync(folder, 0o700);
  log.warn("the data folder is now closed to other users", { path: folder, modeBefore: mode.toString(8) });
}

async function lock(folder: string, options: DataFolderOptions): Promise<number> {
  const native = nativeCalls();
  if (native === undefined) {
    throw new TidemarkError("UNSUPPORTED", "the data folder can't be locked: koffi has no build for this machine");
  }
  const timers = options.timers ?? new SystemTimers();
  const deadlineMs = options.clock.monotonicMs() + (options.lockWaitMs ?? 0);
  const file = path.join(folder, "lock");
  const fd = fs.openSync(file, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
  for (;;) {
    if (native.flock(fd, LOCK_EX | LOCK_NB) === 0) return fd;
    const code = lastErrorName(native);
    if (code === "EAGAIN" && options.clock.monotonicMs() < deadlineMs) {
      await timers.wait(LOCK_RETRY_MS);
      continue;
    }
    const pid = fs.readFileSync(fd, "utf8").trim();
    fs.closeSync(fd);
    if (code !== "EAGAIN") throw new TidemarkError("UNSUPPORTED", `${file} can't be locked: ${code}`);
    const holder = pid === "" ? "another process" : `process ${pid}`;
    throw new TidemarkError("DATA_FOLDER_LOCKED", `${folder} is used by ${holder}: stop it, or choose another folder`);
  }
}

function foreign(folder: string, reason: string): TidemarkError {
  return new TidemarkError("DATA_FOLDER_FOREIGN", `${folder} can't be used as a data folder: ${reason}`);
}

function asTidemarkError(folder: string, error: unknown): unknown {
  if (error instanceof TidemarkError) return error;
  const { code } = error as NodeJS.ErrnoException;
  const text = `${folder}: ${(error as Error).message}`;
  if (code === "EACCES" || code === "EPERM" || code === "EROFS")
    return new TidemarkError("PERMISSION_DENIED", text, { cause: error });
  if (code === "ENOTDIR" || code === "EEXIST") return new TidemarkError("INVALID_ARGUMENT", text, { cause: error });
  if (code === "ENOSPC" || code === "EDQUOT") return new TidemarkError("NO_SPACE", text, { cause: error });
  return error;
}
