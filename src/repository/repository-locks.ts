import { isBlobError } from "../blob/blob-error.ts";
import type { BlobStore } from "../blob/blob-store.ts";
import type { LockTime } from "./lock-time.ts";
import { mapBounded } from "./map-bounded.ts";
import { KEYS_PREFIX, REPOSITORY_FILE, SETTINGS_PREFIX } from "./names.ts";

/** Requests under way at once. */
const REQUESTS_AT_ONCE = 8;

/** Extends the locks of what belongs to no app: identity, settings, all keys. Nothing without `keyLock`. */
export async function extendRepositoryLocks(options: {
  readonly store: BlobStore;
  readonly keyLock: LockTime | undefined;
}): Promise<{ extended: number }> {
  const { store, keyLock } = options;
  if (keyLock === undefined) return { extended: 0 };
  let extended = 0;
  for (const prefix of [REPOSITORY_FILE, SETTINGS_PREFIX, KEYS_PREFIX]) {
    for await (const page of store.list(prefix)) {
      const untilMs = await keyLock.untilMs();
      await mapBounded(page, REQUESTS_AT_ONCE, ({ name }) => extend(store, name, untilMs));
      extended += page.length;
    }
  }
  return { extended };
}

// What was removed since it was listed needs no lock.
async function extend(store: BlobStore, name: string, untilMs: number): Promise<void> {
  try {
    await store.extendLock(name, untilMs);
  } catch (error) {
    if (!isBlobError(error, "BLOB_MISSING")) throw error;
  }
}
