import type { Log } from "../../base/log.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { OpenApp } from "../../meta/open-app.ts";
import { Purges, type PurgesParts } from "../../meta/purge/purges.ts";
import type { MetadataService } from "../../meta/service.ts";
import type { Backups } from "./backups.ts";
import type { Mounts } from "./mounts.ts";

/** Orders to erase, of a service with mounts and backups. */
export function composePurges(
  parts: PurgesParts,
  {
    service,
    mounts,
    backups,
  }: { readonly service: MetadataService; readonly mounts: Mounts; readonly backups: Backups },
): Purges {
  return new Purges({
    ...parts,
    forgetPages: async (app, files) => {
      if (await mounts.forgetPages(app, files)) return;
      const message =
        "kernels may keep pages of erased files in views: unmount them, or echo 3 > /proc/sys/vm/drop_caches";
      parts.log.warn(message, { appId: app.id });
    },
    repositoryOf: (app) => {
      const backup = service.catalogue.backups().find(({ appId }) => appId === app.id);
      return backup === undefined ? undefined : { name: backup.repository, hasIt: backups.floorOf(app) > 0 };
    },
  });
}

/** What was asked to be erased is refused to readers by its rows; here it goes from the disk, if the process before did not come to that. */
export function finishPurges(purges: Purges, apps: readonly OpenApp[], log: Log): void {
  for (const app of apps) {
    purges.finish(app).catch((error: unknown) => {
      if (error instanceof TidemarkError && error.code === "CANCELLED") return;
      log.alarm("content that is to be erased is still on the disk: it is tried again at the next start", {
        appId: app.id,
        cause: error,
      });
    });
  }
}
