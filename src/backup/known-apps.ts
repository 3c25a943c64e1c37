import type { Log } from "../base/log.ts";
import type { Repository } from "../repository/repository.ts";
import type { KnownApp } from "./recovery-plan.ts";

/** The apps of a repository, as the newest seal (or checkpoint) of each tells of them. One of which nothing can be read is left out, with an alarm. */
export async function knownApps(repository: Repository, log: Log): Promise<KnownApp[]> {
  const known: KnownApp[] = [];
  for (const { appId } of await repository.apps()) {
    const app = await repository.openApp(appId);
    const { seal } = await app.head({});
    const described = seal?.head.app ?? (await app.latestCheckpoint({}))?.checkpoint.app;
    if (described === undefined) {
      log.warn(
        "the repository has an app of which nothing can be read: its first backup was not finished, or is damaged",
        { appId },
      );
      continue;
    }
    const { namespace, name, deleted } = described;
    known.push({ appId, namespace, name, isDeleted: deleted !== null });
  }
  return known;
}
