import type { ErrorCode } from "../domain/errors.ts";

/** How the process ends, for scripts. Kept equal to README by a test. */
export const EXIT_CODES = {
  OK: { code: 0, meaning: "done; also when the reader of the output went away" },
  FAILURE: { code: 1, meaning: "it failed in a way that has no code of its own" },
  USAGE: { code: 2, meaning: "the command line is wrong" },
  NOT_FOUND: { code: 3, meaning: "no such app, share, path, snapshot or moment" },
  UNREACHABLE: { code: 4, meaning: "the service, or the store of a repository, is not running or not reachable" },
  CONFLICT: {
    code: 5,
    meaning: "the state does not allow it: a name is taken, a share is mounted, a folder is in use",
  },
  NOT_PERMITTED: { code: 6, meaning: "you, this machine or its kernel may or can not do it" },
  DAMAGED: { code: 7, meaning: "stored data is damaged, or not Tidemark's" },
  NO_SPACE: { code: 8, meaning: "the disk is full" },
  NOT_CONFIRMED: { code: 9, meaning: "it would change things, and nobody said yes (--yes)" },
  INCOMPLETE: { code: 10, meaning: "done, except for what the output lists" },
  INTERRUPTED: { code: 130, meaning: "interrupted by a signal" },
} as const;

export type ExitName = keyof typeof EXIT_CODES;

/** How a failure with a stable code ends the process. */
export const EXIT_OF_ERROR: Readonly<Record<ErrorCode, ExitName>> = {
  INVALID_ARGUMENT: "USAGE",
  NOT_FOUND: "NOT_FOUND",
  ALREADY_EXISTS: "CONFLICT",
  NOT_EMPTY: "CONFLICT",
  FAILED_PRECONDITION: "CONFLICT",
  PERMISSION_DENIED: "NOT_PERMITTED",
  OUT_OF_HISTORY: "NOT_FOUND",
  DATA_DAMAGED: "DAMAGED",
  DATA_FOLDER_LOCKED: "CONFLICT",
  DATA_FOLDER_FOREIGN: "DAMAGED",
  REPOSITORY_DAMAGED: "DAMAGED",
  REPOSITORY_KEY_WRONG: "NOT_PERMITTED",
  REPOSITORY_NEWER: "DAMAGED",
  NO_SPACE: "NO_SPACE",
  UNAVAILABLE: "UNREACHABLE",
  UNSUPPORTED: "NOT_PERMITTED",
  CANCELLED: "INTERRUPTED",
  INTERNAL: "FAILURE",
};
