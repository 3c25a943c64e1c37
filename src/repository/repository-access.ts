import type { BlobStore } from "../blob/blob-store.ts";
import type { RandomFill } from "./key-wrap.ts";
import type { LockTime } from "./lock-time.ts";
import type { RepositorySettings } from "./repository-file.ts";

/** What an open repository is reached with: for the parts it is made of. */
export type RepositoryAccess = {
  readonly store: BlobStore;
  readonly id: string;
  readonly repositoryKey: Buffer;
  readonly settings: RepositorySettings;
  readonly fill: RandomFill;
  /** Until when keys are locked; undefined: not at all. */
  readonly keyLock: LockTime | undefined;
};

const RANDOM_BYTES = 16;

/** 128 random bits as hex, for a name. */
export function randomName(fill: RandomFill): string {
  const bytes = Buffer.alloc(RANDOM_BYTES);
  fill(bytes);
  return bytes.toString("hex");
}
