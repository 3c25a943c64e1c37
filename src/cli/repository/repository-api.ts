import type { AdminApi } from "../../domain/admin-api.ts";
import { PAGE_ITEMS_MAX, type Pages } from "../../domain/admin-call.ts";
import type { AppInfo, DeletedFilter } from "../../domain/admin-catalogue.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { ReadingParts } from "../../meta/reading/apps.ts";
import { History } from "../../meta/reading/history.ts";
import { Reading } from "../../meta/reading/reading.ts";
import { Snapshots } from "../../meta/reading/snapshots.ts";
import { SystemTurns } from "../../meta/reading/turns.ts";
import type { RepositoryApps, RepositoryAppsParts } from "./repository-apps.ts";

/** AdminApi of a repository alone: what reads works as on a live service, with the same code; what would change something is refused. */
export function repositoryApi(apps: RepositoryApps, { clock, log }: RepositoryAppsParts): AdminApi {
  const floor: NonNullable<ReadingParts["floor"]> = (app) => app.core.moments.floor;
  const parts: ReadingParts = { apps, clock, log, turns: new SystemTurns(), floor };
  const snapshots = new Snapshots(parts);
  return {
    reading: new Reading(parts),
    history: new NoFollowing(parts),
    changes: refusing(["changes", "shareDelta"]),
    snapshots: {
      ...refusing(["createSnapshot", "deleteSnapshot"]),
      listSnapshots: (request) => snapshots.listSnapshots(request),
    },
    catalogue: {
      ...refusing(["createApp", "updateApp", "deleteApp", "undeleteApp"]),
      ...refusing(["createShare", "listShares", "updateShare", "deleteShare", "undeleteShare"]),
      listApps: (request) => listApps(apps, request),
    },
    mounts: refusing(["mount", "umount", "listMounts"]),
    restores: refusing(["plan", "execute", "listRestores"]),
    backups: {
      ...refusing(["addRepository", "removeRepository", "listRepositories", "backupNow"]),
      ...refusing(["enableBackup", "disableBackup", "backupStatus", "repairBackup"]),
    },
    retention: refusing(["setRetention", "clearRetention", "planRetention", "listRetention"]),
    purges: refusing(["planPurge", "purge"]),
    nodes: refusing(["inviteNode", "listNodes", "removeNode", "allowNode"]),
    tokens: refusing(["createToken", "listTokens", "inspectToken", "revokeTokens", "rotateTokenKeys"]),
    audit: refusing(["listAudit"]),
    status: refusing(["serviceStatus", "appStatus"]),
  };
}

/** What a repository has now is all there is. */
class NoFollowing extends History {
  override log(...[request, options]: Parameters<History["log"]>): ReturnType<History["log"]> {
    if (request.follow)
      throw new TidemarkError("INVALID_ARGUMENT", "a repository has nothing to come: leave out --follow");
    return super.log(request, options);
  }
}

async function* listApps(
  apps: RepositoryApps,
  request: { namespace?: string; deleted: DeletedFilter },
): Pages<AppInfo> {
  const all = (await apps.all())
    .filter(({ namespace }) => request.namespace === undefined || namespace === request.namespace)
    .filter(({ deletedAt }) => request.deleted === "with" || (deletedAt !== undefined) === (request.deleted === "only"))
    .map(({ protected: _protected, ...info }) => ({ ...info, shareCount: 0 }));
  for (let at = 0; at < all.length; at += PAGE_ITEMS_MAX) yield all.slice(at, at + PAGE_ITEMS_MAX);
}

function refusing<M extends string>(methods: readonly M[]): { readonly [K in M]: () => never } {
  const refuse = (): never => {
    throw new TidemarkError(
      "UNSUPPORTED",
      "a repository is only read: restore from it with --to, or recover it into a data folder",
    );
  };
  return Object.fromEntries(methods.map((method) => [method, refuse])) as { readonly [K in M]: () => never };
}
