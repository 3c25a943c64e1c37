/** Codes of `KvError`, each with what it means to a program. */
export const KV_ERROR_CODES = {
  KV_CLOSED: "the store was closed, here or by the thread that opened it",
  KV_LOCKED: "another process, or another opening in this one, uses the directory",
  KV_MISSING: "there is no store in the directory, and creating one was not asked for",
  KV_FOREIGN: "the directory holds something else",
  KV_CORRUPT: "what is on disk is damaged or incomplete",
  KV_NO_SPACE: "the disk is full",
  KV_IO: "the disk failed in another way",
} as const;

/** A stable code of the key-value stores. */
export type KvErrorCode = keyof typeof KV_ERROR_CODES;

/** An expected failure of a key-value store. The message is for people: which directory, what was wrong, what to do. */
export class KvError extends Error {
  override name = "KvError";
  readonly code: KvErrorCode;
  /** The store's directory, or "memory". */
  readonly directory: string;

  constructor(code: KvErrorCode, directory: string, detail: string, options?: { cause?: unknown }) {
    super(`${detail}${ADVICE[code](directory)}`, options);
    this.code = code;
    this.directory = directory;
  }
}

// Rows of the past whose journal segments have been cleaned, and rows of relocated data, exist only in the store: so no advice here to delete it.
const ADVICE: Record<KvErrorCode, (directory: string) => string> = {
  KV_CLOSED: () => "",
  KV_LOCKED: (directory) =>
    ` Stop the other service first: the lock ends with its process. Do not delete ${directory}/LOCK, two services on one store destroy it.`,
  KV_MISSING: () => " Check that the data folder is the right one and that its disk is mounted.",
  KV_FOREIGN: () => " Expected an empty directory or a store written by Tidemark. Nothing was changed.",
  KV_CORRUPT: (directory) =>
    ` No row was changed. Check the disk, and keep a copy of ${directory} before trying anything: it holds history that the journal` +
    " may no longer have. Restore it from a backup of the data folder, or the apps from their repository.",
  KV_NO_SPACE: () => " Nothing was written. Free some space; writing goes on by itself a few seconds later.",
  KV_IO: (directory) => ` Check the disk and the permissions of ${directory}.`,
};
