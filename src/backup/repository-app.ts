import path from "node:path";
import { present } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Timers } from "../base/timers.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { AppId } from "../domain/ids.ts";
import type { AppRef } from "../domain/share-path.ts";
import { makeFreshJournal } from "../journal/fresh-journal.ts";
import { KvError } from "../kv/kv-error.ts";
import type { KvStore } from "../kv/kv-store.ts";
import { OpenApp } from "../meta/open-app.ts";
import type { Apps } from "../meta/reading/apps.ts";
import type { AppRepository } from "../repository/app-repository.ts";
import type { SealHead } from "../repository/seal-head.ts";
import { ArchiveIndex } from "./archive-index.ts";
import { type CacheFolder, openCacheFolder } from "./cache-folder.ts";
import { type Materialised, type MaterialiseProgress, materialise } from "./materialise.ts";
import { RepositoryArchive } from "./repository-archive.ts";
import { RunFiles } from "./run-files.ts";
import { RunsKv } from "./runs-kv.ts";

/** The only app of a cache. */
const SLOT = 1;

/** What caches of this form are called: those of others are not looked at. */
const CACHE_KIND = "rows-";

/** Rows laid down anew when what is in the cache doesn't fit, once. */
const ATTEMPTS = 2;

export type RepositoryAppOptions = {
  readonly app: AppRepository;
  /** Where rows may be kept between calls; what is in it is checked, and decides nothing. */
  readonly cacheFolder: string;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: MaterialiseProgress) => void;
};

/**
 * An app as it is in a repository, for reading: its rows in a cache folder, its data and records read from the repository when they are asked for. Nothing is written to the repository, and no service is
 * needed. Give it to Reading and History as their Apps.
 */
export class RepositoryApp implements Apps {
  readonly #options: RepositoryAppOptions;
  readonly #cache: Cache;
  #app: OpenApp;
  #laid: Materialised;

  private constructor(options: RepositoryAppOptions, cache: Cache, opened: Opened) {
    this.#options = options;
    this.#cache = cache;
    this.#app = opened.app;
    this.#laid = opened.laid;
  }

  /**
   * Opens it as of the newest seal: reads what came since the cache was last used, or everything. Throws NOT_FOUND when nothing of the app is there, what reading the repository throws, FAILED_PRECONDITION and
   * PERMISSION_DENIED for the cache folder.
   */
  static async open(options: RepositoryAppOptions): Promise<RepositoryApp> {
    const { app, cacheFolder, log } = options;
    const cache = await openCache(cacheFolder, app, log);
    try {
      return new RepositoryApp(options, cache, await openIn(cache, options));
    } catch (error) {
      await cache.close();
      throw error;
    }
  }

  /** Read-only. After `refresh` another one. */
  get app(): OpenApp {
    return this.#app;
  }

  /** What the newest seal says about the app. */
  get description(): SealHead["app"] {
    return described(this.#laid);
  }

  /** Up to where it is: the last record, and the oldest moment. */
  get laid(): Pick<Materialised, "lsn" | "time" | "floor" | "firstLsn" | "seal"> {
    return this.#laid;
  }

  find(ref: AppRef): OpenApp {
    const { namespace, name } = this.description;
    const isId = ref.id === undefined || this.#app.id.startsWith(ref.id);
    if (ref.namespace === namespace && ref.name === name && isId) return this.#app;
    throw new TidemarkError(
      "NOT_FOUND",
      `this is app ${namespace}:${name} of the repository, not ${ref.namespace}:${ref.name}`,
      {
        data: { missing: "app" },
      },
    );
  }

  nameOf(_id: AppId): { readonly namespace: string; readonly name: string } {
    return this.description;
  }

  /** Reads the seals that came since. What was opened of `app` before is closed. */
  async refresh(): Promise<void> {
    await this.#app.close();
    const { app, laid } = await openIn(this.#cache, this.#options);
    this.#app = app;
    this.#laid = laid;
  }

  async close(): Promise<void> {
    await this.#app.close();
    await this.#cache.close();
  }
}

/** Rows over the runs of a checkpoint. */
type Cache = CacheFolder & { readonly runs: RunsKv };

async function openCache(parent: string, app: AppRepository, log: Log): Promise<Cache> {
  let runs: RunsKv | undefined;
  const over = (kv: KvStore, folder: string): KvStore => {
    const { regions } = new ArchiveIndex(kv, SLOT);
    runs = new RunsKv({ over: kv, files: new RunFiles(folder, app.objects), regions, directory: folder });
    return runs;
  };
  const cache = await openCacheFolder(parent, `${CACHE_KIND}${app.tag}`, { log, over });
  return { ...cache, runs: present(runs, "a store over runs") };
}

type Opened = { readonly app: OpenApp; readonly laid: Materialised };

async function openIn(cache: Cache, options: RepositoryAppOptions): Promise<Opened> {
  const { clock, log, timers } = options;
  const laid = await layRows(cache, options);
  const { appId } = options.app;
  described(laid);
  const folder = path.join(cache.path, "journal");
  await makeFreshJournal({ folder, appId, lastLsn: laid.lsn, clock });
  const archive = new RepositoryArchive({
    firstLsn: laid.firstLsn,
    lastLsn: laid.lsn,
    lastTime: laid.time,
    description: options.app.store.description,
    index: new ArchiveIndex(cache.kv, SLOT),
    connect: async () => options.app,
    log,
    timers,
  });
  const app = await OpenApp.open({
    appId,
    slot: SLOT,
    folder,
    kv: cache.kv,
    clock,
    log,
    archive,
    readOnly: true,
    diskSpace: () => ({ totalBytes: 0n, freeBytes: 0n }),
  });
  return { app, laid };
}

/** A cache that doesn't fit the repository, or is damaged, is emptied and filled again: if it fails then, it is the repository. */
async function layRows(cache: Cache, options: RepositoryAppOptions): Promise<Materialised> {
  const { app, log, signal, onProgress } = options;
  const index = new ArchiveIndex(cache.kv, SLOT);
  for (let attempt = 1; ; attempt++) {
    try {
      return await materialise({
        app,
        kv: cache.kv,
        slot: SLOT,
        log,
        below: cache.runs,
        ...(signal === undefined ? {} : { signal }),
        ...(onProgress === undefined ? {} : { onProgress }),
      });
    } catch (error) {
      if (attempt === ATTEMPTS || !mayBeOfCache(error)) throw error;
      log.warn("the cache of a repository does not fit it: beginning again", { cause: error });
      cache.runs.discard();
      await index.clear();
    }
  }
}

/** What the repository says does not go on from what is in the cache, or the cache is damaged: the repository alone will show. */
function mayBeOfCache(error: unknown): boolean {
  if (error instanceof KvError) return error.code !== "KV_NO_SPACE";
  return error instanceof TidemarkError && CACHE_ERRORS.has(error.code);
}

const CACHE_ERRORS: ReadonlySet<string> = new Set(["DATA_DAMAGED", "REPOSITORY_DAMAGED", "FAILED_PRECONDITION"]);

function described(laid: Materialised): SealHead["app"] {
  if (laid.app !== undefined) return laid.app;
  throw new TidemarkError("NOT_FOUND", "the repository has nothing of the app yet: its first backup was not finished");
}
