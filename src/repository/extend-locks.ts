import { isBlobError } from "../blob/blob-error.ts";
import type { AppObjects } from "./app-objects.ts";
import { mapBounded } from "./map-bounded.ts";
import { readTombs } from "./tombs.ts";

/** Requests under way at once. */
const REQUESTS_AT_ONCE = 8;

export type ExtendLocksOptions = {
  /** Go on behind this name: where an earlier call had come. */
  readonly after?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: { readonly extended: number; readonly last: string }) => void) | undefined;
};

/**
 * Makes the locks of all objects of the app last the repository's full lock days again, but for those that tombs name: one request for each object, one page of names in memory. To be called a few times in
 * each span of lock days. Nothing happens in a repository without locks. Errors: BlobErrors; locks that were extended stay so.
 */
export async function extendLocks(objects: AppObjects, options: ExtendLocksOptions): Promise<{ extended: number }> {
  let extended = 0;
  if ((await objects.lockUntilMs()) === undefined) return { extended };
  const tombed = new Set((await readTombs(objects)).flatMap(({ tomb }) => tomb.names));
  const { after, signal } = options;
  const pages = objects.store.list(objects.prefix, {
    ...(after === undefined ? {} : { after }),
    ...(signal === undefined ? {} : { signal }),
  });
  for await (const page of pages) {
    const names = page.map(({ name }) => name).filter((name) => !tombed.has(name));
    const untilMs = await objects.lockUntilMs();
    if (untilMs === undefined) break;
    await mapBounded(names, REQUESTS_AT_ONCE, (name) => extend(objects, name, { untilMs, signal }));
    extended += names.length;
    const last = page.at(-1)?.name;
    if (last !== undefined) options.onProgress?.({ extended, last });
  }
  return { extended };
}

// What was deleted since it was listed needs no lock.
async function extend(
  objects: AppObjects,
  name: string,
  { untilMs, signal }: { readonly untilMs: number; readonly signal: AbortSignal | undefined },
): Promise<void> {
  try {
    await objects.store.extendLock(name, untilMs, signal === undefined ? {} : { signal });
  } catch (error) {
    if (!isBlobError(error, "BLOB_MISSING")) throw error;
  }
}
