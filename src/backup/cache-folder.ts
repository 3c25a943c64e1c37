import fs from "node:fs";
import path from "node:path";
import type { Log } from "../base/log.ts";
import { TidemarkError } from "../domain/errors.ts";
import { KvError } from "../kv/kv-error.ts";
import type { KvStore } from "../kv/kv-store.ts";
import { RocksKv } from "../kv/rocks-kv.ts";
import { WatchedKv } from "./watched-kv.ts";

/** Caches of one app side by side: one for each process that reads it at the same time. */
const CACHES_MAX = 8;

/** In a cache whose rows are found damaged: it is made again by the next who opens it. */
const DAMAGED = "damaged";

/** Folder of copies of runs. */
const RUNS = "runs";

/** A cache's own memory: a command reads for a moment. */
const MEMORY_BYTES = 32 * 1024 * 1024;

/** A folder with rows that can be made again from the repository, for this process alone. */
export type CacheFolder = {
  readonly path: string;
  readonly kv: KvStore;
  close(): Promise<void>;
};

/**
 * Opens the cache of `name` in `parent`, which is made if it is missing; one that another process has open is passed over for the next of a few. A damaged or foreign one is
 * removed and begun again: what it has decides nothing. `over`: makes the store that is used of the one that is in the folder, with a folder for files of its own. Throws FAILED_PRECONDITION when all are in use, PERMISSION_DENIED, NO_SPACE.
 */
export async function openCacheFolder(
  parent: string,
  name: string,
  { log, over }: { readonly log: Log; readonly over?: (kv: KvStore, runsFolder: string) => KvStore },
): Promise<CacheFolder> {
  for (let number = 0; number < CACHES_MAX; number++) {
    const folder = path.join(parent, number === 0 ? name : `${name}.${number}`);
    makePrivate(folder);
    const kv = await openKv(folder, log);
    if (kv === undefined) continue;
    const own = over?.(kv, path.join(folder, RUNS)) ?? kv;
    const watched = new WatchedKv(own, () => fs.writeFileSync(path.join(folder, DAMAGED), ""));
    return { path: folder, kv: watched, close: () => own.close() };
  }
  throw new TidemarkError(
    "FAILED_PRECONDITION",
    `${CACHES_MAX} processes read ${name} from ${parent} already: wait for one to end, or give another cache folder`,
  );
}

/** Undefined: another process has it. */
async function openKv(folder: string, log: Log): Promise<RocksKv | undefined> {
  const directory = path.join(folder, "kv");
  if (fs.existsSync(path.join(folder, DAMAGED))) discard(folder, log, "it was found damaged");
  for (let attempt = 0; ; attempt++) {
    try {
      return await RocksKv.open({ directory, missing: "create", memoryBytesMax: MEMORY_BYTES });
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
      if (error.code === "KV_LOCKED") return undefined;
      const isBad = error.code === "KV_CORRUPT" || error.code === "KV_FOREIGN";
      if (!isBad || attempt > 0) throw error;
      discard(folder, log, error.message);
    }
  }
}

function discard(folder: string, log: Log, why: string): void {
  log.warn("a cache of a repository is made again", { folder, why });
  for (const part of ["kv", RUNS]) fs.rmSync(path.join(folder, part), { recursive: true, force: true });
  fs.rmSync(path.join(folder, DAMAGED), { force: true });
}

/** Names and attributes of files are in it: for its owner's eyes. */
function makePrivate(folder: string): void {
  try {
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
    const { uid, mode } = fs.lstatSync(folder);
    if (uid !== process.getuid?.()) {
      throw new TidemarkError(
        "PERMISSION_DENIED",
        `the cache folder ${folder} belongs to another user: give another one`,
      );
    }
    if ((mode & 0o077) !== 0) fs.chmodSync(folder, 0o700);
  } catch (error) {
    if (error instanceof TidemarkError) throw error;
    const message = `the cache folder ${folder} can't be used: ${(error as Error).message}`;
    throw new TidemarkError("PERMISSION_DENIED", message, { cause: error });
  }
}
