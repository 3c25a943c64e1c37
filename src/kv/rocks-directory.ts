import { mkdir, readdir } from "node:fs/promises";
import { KvError } from "./kv-error.ts";
import { sealRocksLogs } from "./rocks-log-seal.ts";

/** Files that RocksDB writes before it writes CURRENT, which is when a new store begins to exist (`DBImpl::NewDB`). */
const BEFORE_CURRENT = /^(MANIFEST-\d+|IDENTITY|LOCK|LOG(\.old\.\d+)?|OPTIONS-\d+|\d+\.dbtmp|OPTIONS-\d+\.dbtmp)$/;
/** Files that hold rows. */
const WITH_ROWS = /^\d+\.(sst|log|blob)$/;

/**
 * Looks at `directory` before RocksDB does, because RocksDB asked to create a store where CURRENT is missing makes a new, empty one and
 * deletes the old tables. Creates the directory (0700) if a new store may be made; seals the logs of an existing one. Throws KV_MISSING,
 * KV_FOREIGN, KV_CORRUPT, KV_NO_SPACE or KV_IO.
 */
export async function prepareRocksDirectory(directory: string, missing: "create" | "fail"): Promise<void> {
  const names = await list(directory);
  if (names.includes("CURRENT")) return await seal(directory);
  if (names.some((name) => WITH_ROWS.test(name))) {
    const detail = `Cannot open the key-value store in "${directory}": it is damaged (its file CURRENT is missing, its tables are there).`;
    throw new KvError("KV_CORRUPT", directory, detail);
  }
  const stranger = names.find((name) => !BEFORE_CURRENT.test(name));
  if (stranger !== undefined) {
    const detail = `Cannot open a key-value store in "${directory}": the directory holds something else ("${stranger}").`;
    throw new KvError("KV_FOREIGN", directory, detail);
  }
  if (missing === "fail") throw new KvError("KV_MISSING", directory, `There is no key-value store in "${directory}".`);
  await create(directory);
}

async function list(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    if (isErrno(error, "ENOTDIR")) {
      throw new KvError(
        "KV_FOREIGN",
        directory,
        `Cannot open a key-value store in "${directory}": it is not a directory.`,
        { cause: error },
      );
    }
    throw ioError(directory, error);
  }
}

async function seal(directory: string): Promise<void> {
  try {
    await sealRocksLogs(directory);
  } catch (error) {
    // A log went while it was looked at: somebody has the store open, which RocksDB says next.
    if (isErrno(error, "ENOENT")) return;
    throw ioError(directory, error);
  }
}

async function create(directory: string): Promise<void> {
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw ioError(directory, error);
  }
}

function ioError(directory: string, error: unknown): KvError {
  const text = error instanceof Error ? error.message : String(error);
  const code = isErrno(error, "ENOSPC") ? "KV_NO_SPACE" : "KV_IO";
  return new KvError(code, directory, `Cannot open the key-value store in "${directory}": ${text}.`, { cause: error });
}

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
