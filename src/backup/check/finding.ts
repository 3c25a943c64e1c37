import type { Timestamp } from "../../base/clock.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { Lsn } from "../../domain/ids.ts";

/** How bad it is. `damage`: something that was protected can't be restored. `warning`: somebody should know. `note`: nothing to do. */
export type Severity = "damage" | "warning" | "note";

/** Something that a check found. */
export type Finding = {
  readonly severity: Severity;
  /** The object's full name in the store. */
  readonly object: string;
  /** What is wrong, and what it costs. Begins with the object's name. */
  readonly message: string;
};

/** A version of a file that needs damaged data. */
export type TouchedFile = {
  /** Share and path, as it was called then. */
  readonly path: Buffer;
  readonly since: { readonly lsn: Lsn; readonly time: Timestamp | undefined };
  /** Absent: it still is so at the repository's end. */
  readonly until?: { readonly lsn: Lsn; readonly time: Timestamp | undefined };
};

/** What a check went through. */
export type CheckCounts = {
  readonly sealCount: number;
  readonly checkpointCount: number;
  readonly runCount: number;
  readonly packCount: number;
  readonly packBytes: number;
  /** Packs and their bytes that were read and verified whole. */
  readonly packsRead: number;
  readonly bytesRead: number;
  /** Objects that nothing names: of interrupted runs; pruning removes them. */
  readonly unnamedPackCount: number;
  readonly unnamedPackBytes: number;
};

/** Whether an error says that an object is damaged or missing, as opposed to a store that can't be reached now. */
export function isObjectDamage(error: unknown): error is TidemarkError {
  return error instanceof TidemarkError && (error.code === "REPOSITORY_DAMAGED" || error.code === "REPOSITORY_NEWER");
}
