import { TidemarkError } from "../domain/errors.ts";
import type { AppRepository } from "../repository/app-repository.ts";
import type { AppDescription, SealHead } from "../repository/seal-head.ts";

/** What a repository tells of an app, and its newest seal, if there is one. */
export type DescribedInRepository = { readonly about: AppDescription; readonly head: SealHead | undefined };

/**
 * What the newest seal or checkpoint says about an app; undefined: nothing of it can be read, as its first backup was not finished, or all is damaged. Throws REPOSITORY_DAMAGED, REPOSITORY_NEWER (`isUnreadable`) and what the
 * store throws.
 */
export async function describeApp(app: AppRepository): Promise<DescribedInRepository | undefined> {
  const { seal } = await app.head({});
  const latest = (await app.latestCheckpoint({}))?.checkpoint;
  // A name that changed and nothing else is told by a checkpoint behind the newest seal.
  const isBehind = seal === null || (latest !== undefined && latest.to >= seal.head.to);
  const about = isBehind ? latest?.app : seal.head.app;
  return about === undefined ? undefined : { about, head: seal?.head };
}

/** Whether it is the app that can't be read, and not the repository as a whole: others may be. */
export function isUnreadable(error: unknown): boolean {
  return error instanceof TidemarkError && /^REPOSITORY_(DAMAGED|NEWER)$/.test(error.code);
}
