import { existsSync } from "node:fs";
import type { Clock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { SystemTimers } from "../base/timers.ts";
import { openBlobs } from "../blob/open-blobs.ts";
import type { AdminApi } from "../domain/admin-api.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { AppRef } from "../domain/share-path.ts";
import { newKeyFile } from "../repository/key-file.ts";
import { Repository } from "../repository/repository.ts";
import { makeKeyFile, readKeyFile } from "./repository/key-files.ts";
import { randomFraction } from "./repository/random-fraction.ts";
import { storeFailure } from "./repository/store-failure.ts";

/** What the service of `npm start` calls its repository. */
const NAME = "main";
const EVERY_MS = 5000;

/** Ships `app` to a repository in `folder`, made if it isn't there, with its key in `keyFile`. What was set up before, by us or by somebody who wants it otherwise, is left as it is. */
export async function setUpDemoBackup(
  api: AdminApi,
  { app, folder, keyFile, clock }: { app: AppRef; folder: string; keyFile: string; clock: Clock },
): Promise<void> {
  for await (const page of api.backups.listRepositories()) if (page.length > 0) return enable(api, app);
  const key = existsSync(keyFile) ? await readKeyFile(keyFile) : await makeKeyFile(keyFile, `For ${folder}.`);
  const store = await openBlobs(folder, {
    create: true,
    environment: {},
    clock,
    timers: new SystemTimers(),
    random: randomFraction,
    log: silentLog,
  });
  try {
    const secret = { kind: "key-file", key } as const;
    const repository = await Repository.init({ store, secret, clock }).catch((error: unknown) => {
      const failure = storeFailure(error);
      if (failure instanceof TidemarkError && failure.code === "ALREADY_EXISTS")
        return Repository.open({ store, secret });
      throw failure;
    });
    const own = newKeyFile({ comment: "Made for the service of npm start." });
    await repository.addSecret({ kind: "key-file", key: own.key });
    await api.backups.addRepository({ name: NAME, location: { url: folder }, keyFile: Buffer.from(own.text) });
  } finally {
    await store.close();
  }
  await enable(api, app);
}

async function enable(api: AdminApi, app: AppRef): Promise<void> {
  for await (const page of api.backups.backupStatus({}))
    if (page.some((each) => each.app.namespace === app.namespace && each.app.name === app.name)) return;
  for await (const page of api.backups.listRepositories()) {
    if (!page.some(({ name }) => name === NAME)) continue;
    await api.backups.enableBackup({ app, repository: NAME, everyMs: EVERY_MS, onBacklog: "serve" });
  }
}
