import { rm } from "node:fs/promises";
import path from "node:path";
import type { Log } from "../base/log.ts";
import type { AppId, Lsn } from "../domain/ids.ts";
import { KvError } from "../kv/kv-error.ts";
import type { KvStore } from "../kv/kv-store.ts";
import { ROCKS_MEMORY_BYTES_MIN, RocksKv } from "../kv/rocks-kv.ts";

/** One store for all apps of a data folder. Nothing in it is needed: it saves listing and storing again. */
const INDEX_FOLDER = path.join("backup", "index");

/** What the index holds of one app in one repository, by first byte behind the tag. */
const CHUNKS = 0x43;
const PROTECTED = 0x50;
const SCRATCH = 0x53;

/**
 * Opens the local index of what repositories hold, or makes an empty one in place of a damaged one. For the thread that outlives the others; the worker is given a share. Throws KV_LOCKED, KV_NO_SPACE,
 * KV_IO.
 */
export async function openShipIndex(dataFolder: string, log: Log): Promise<KvStore> {
  const directory = path.join(dataFolder, INDEX_FOLDER);
  const options = { directory, missing: "create", memoryBytesMax: ROCKS_MEMORY_BYTES_MIN } as const;
  try {
    return await RocksKv.open(options);
  } catch (error) {
    if (!(error instanceof KvError) || (error.code !== "KV_CORRUPT" && error.code !== "KV_FOREIGN")) throw error;
    log.warn("the local index of the repositories is damaged and is made again", { cause: error });
    await rm(directory, { recursive: true, force: true });
    return RocksKv.open(options);
  }
}

/** Where the chunk index of the app under `tag` begins. */
export function chunkIndexPrefix(tag: string): Buffer {
  return Buffer.concat([Buffer.from(tag, "hex"), Buffer.of(CHUNKS)]);
}

/** Where rows begin that are only needed while something is under way. */
export function scratchPrefix(tag: string): Buffer {
  return Buffer.concat([Buffer.from(tag, "hex"), Buffer.of(SCRATCH)]);
}

/** What was shipped last, as far as this machine remembers. `tag` stands for the app in one repository. */
export type ShippedMark = { readonly appId: AppId; readonly lsn: Lsn };

/** Remembers that everything up to `lsn` is in the repository. Not durable at once: an older mark is as true. */
export async function markShipped(index: KvStore, tag: string, mark: ShippedMark): Promise<void> {
  await index.batch([{ type: "put", key: markKey(tag), value: Buffer.from(JSON.stringify(mark)) }]);
}

/** Up to where the app's journal is known to be in the repository: 0 when nothing is known. For who must not drop what isn't shipped while the repository can't be asked. */
export function shippedMark(index: KvStore, tag: string): Lsn {
  try {
    const value = index.getSync(markKey(tag));
    const mark = value === undefined ? undefined : (JSON.parse(value.toString()) as Partial<ShippedMark>);
    return Number.isSafeInteger(mark?.lsn) ? (mark?.lsn as Lsn) : (0 as Lsn);
  } catch {
    return 0 as Lsn;
  }
}

function markKey(tag: string): Buffer {
  return Buffer.concat([Buffer.from(tag, "hex"), Buffer.of(PROTECTED)]);
}
