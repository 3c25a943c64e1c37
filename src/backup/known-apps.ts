import type { Log } from "../base/log.ts";
import type { AppId } from "../domain/ids.ts";
import type { Repository } from "../repository/repository.ts";
import { describeApp, isUnreadable } from "./describe-app.ts";
import type { KnownApp } from "./recovery-plan.ts";

/** The apps of a repository, as the newest seal or checkpoint of each tells of them. One that can't be read, or was written by a newer version, is left out, with an alarm: it must not keep the others from being recovered. */
export async function knownApps(repository: Repository, log: Log): Promise<KnownApp[]> {
  const known: KnownApp[] = [];
  for (const { appId } of await repository.apps()) {
    const app = await knownApp(repository, appId, log);
    if (app !== undefined) known.push(app);
  }
  return known;
}

async function knownApp(repository: Repository, appId: AppId, log: Log): Promise<KnownApp | undefined> {
  try {
    const described = await describeApp(await repository.openApp(appId));
    if (described !== undefined) {
      const { namespace, name, deleted } = described.about;
      return { appId, namespace, name, isDeleted: deleted !== null };
    }
    const message =
      "the repository has an app of which nothing can be read: its first backup was not finished, or is damaged";
    log.warn(message, { appId });
  } catch (error) {
    if (!isUnreadable(error)) throw error;
    log.alarm("an app of the repository can't be read, and is left out", { appId, cause: error });
  }
  return undefined;
}
