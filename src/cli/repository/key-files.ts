import { open, readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { syncFolder } from "../../base/durable-file.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { newKeyFile, parseKeyFile } from "../../repository/key-file.ts";

/** A key file is a few lines; what is longer is something else. */
const KEY_FILE_BYTES_MAX = 16_384;

/** The key in the file at `path`. Throws NOT_FOUND, PERMISSION_DENIED, INVALID_ARGUMENT: what is wrong with the file, never what is in it. */
export async function readKeyFile(path: string): Promise<Buffer> {
  const bytes = await readFile(path).catch((error: unknown) => {
    throw unreadable(path, error);
  });
  if (bytes.length > KEY_FILE_BYTES_MAX)
    throw new TidemarkError("INVALID_ARGUMENT", `${path} is no key file: it has ${bytes.length} bytes`);
  try {
    return parseKeyFile(bytes.toString("utf8"));
  } catch (error) {
    if (!(error instanceof TidemarkError)) throw error;
    throw new TidemarkError(error.code, `${path}: ${error.message}`);
  }
}

/** Makes a key file at `path`, for its owner alone, durable. ALREADY_EXISTS when something is there: that may be somebody's only key. */
export async function makeKeyFile(path: string, comment: string): Promise<Buffer> {
  const { text, key } = newKeyFile({ comment });
  const file = await open(path, "wx", 0o600).catch((error: unknown) => {
    throw unwritable(path, error);
  });
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await syncFolder(dirname(path));
  return key;
}

function unreadable(path: string, cause: unknown): TidemarkError {
  const { code } = cause as NodeJS.ErrnoException;
  if (code === "ENOENT") {
    const message = `there is no key file ${path}. Without a key nothing in the repository can be read: look for a copy, or use another key or passphrase of it`;
    return new TidemarkError("NOT_FOUND", message, { cause });
  }
  if (code === "EACCES" || code === "EPERM")
    return new TidemarkError("PERMISSION_DENIED", `you may not read the key file ${path}`, { cause });
  return new TidemarkError("INVALID_ARGUMENT", `${path} can't be read as a key file (${code ?? String(cause)})`, {
    cause,
  });
}

function unwritable(path: string, cause: unknown): TidemarkError {
  const { code } = cause as NodeJS.ErrnoException;
  if (code === "EEXIST")
    return new TidemarkError("ALREADY_EXISTS", `${path} is there already: it is left as it is`, { cause });
  if (code === "EACCES" || code === "EPERM" || code === "EROFS")
    return new TidemarkError("PERMISSION_DENIED", `you may not make a key file at ${path}`, { cause });
  if (code === "ENOSPC") return new TidemarkError("NO_SPACE", `there is no room for a key file at ${path}`, { cause });
  return new TidemarkError("NOT_FOUND", `a key file can't be made at ${path} (${code ?? String(cause)})`, { cause });
}
