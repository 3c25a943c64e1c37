import type { Dirent } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { isBlobName } from "./blob-checks.ts";
import { BlobError } from "./blob-error.ts";
import type { BlobEntry } from "./blob-store.ts";
import { errnoOf } from "./directory-errors.ts";

/** Names of one page: as many as S3 gives. */
const PAGE_NAMES = 1000;

/** Files looked at in one go; more than node's thread pool has gains nothing. */
const STATS_AT_ONCE = 16;

/** What of a folder is listed: names beginning with `prefix` and behind `after` ("" for all). */
export type DirectoryListing = { readonly prefix: string; readonly after: string };

/** The files below `root` whose relative paths are names of blobs, in pages, ordered by name. A folder that isn't there has none. */
export async function* listDirectory(root: string, listing: DirectoryListing): AsyncGenerator<readonly BlobEntry[]> {
  let names: string[] = [];
  for await (const name of namesBelow(root, "", listing)) {
    names.push(name);
    if (names.length < PAGE_NAMES) continue;
    const page = await entriesOf(root, names);
    names = [];
    if (page.length > 0) yield page;
  }
  const page = await entriesOf(root, names);
  if (page.length > 0) yield page;
}

/** `folder` is "" or ends with a slash. */
async function* namesBelow(root: string, folder: string, listing: DirectoryListing): AsyncGenerator<string> {
  const { prefix, after } = listing;
  for (const { name, isFolder } of await sortedEntries(root, folder)) {
    const full = folder + name;
    if (!isFolder) {
      if (full.startsWith(prefix) && full > after) yield full;
      continue;
    }
    const mayMatch = full.startsWith(prefix) || prefix.startsWith(full);
    const isBefore = full < after && !after.startsWith(full);
    if (mayMatch && !isBefore) yield* namesBelow(root, full, listing);
  }
}

/** What a folder holds, folders with a slash behind their names: so they are in the order of the full names inside of them. */
async function sortedEntries(root: string, folder: string): Promise<{ name: string; isFolder: boolean }[]> {
  const entries = (await readFolder(join(root, folder))).filter(({ name }) => isBlobName(name));
  for (const entry of entries) {
    if (entry.isDirectory() || entry.isFile()) continue;
    throw new BlobError(
      "BLOB_IO",
      `${join(root, folder, entry.name)} is neither a file nor a folder, and a store of blobs has only these: is this the right folder?`,
    );
  }
  return entries
    .map((entry) => ({ name: entry.isDirectory() ? `${entry.name}/` : entry.name, isFolder: entry.isDirectory() }))
    .sort((left, right) => (left.name < right.name ? -1 : 1));
}

async function readFolder(path: string): Promise<Dirent[]> {
  try {
    return await readdir(path, { withFileTypes: true });
  } catch (error) {
    // Removed by somebody since it was seen, with all that was in it. Whether the root itself is gone, the caller looks.
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  }
}

async function entriesOf(root: string, names: readonly string[]): Promise<BlobEntry[]> {
  const entries: BlobEntry[] = [];
  for (let at = 0; at < names.length; at += STATS_AT_ONCE) {
    const some = await Promise.all(names.slice(at, at + STATS_AT_ONCE).map((name) => entryOf(root, name)));
    for (const entry of some) if (entry !== undefined) entries.push(entry);
  }
  return entries;
}

async function entryOf(root: string, name: string): Promise<BlobEntry | undefined> {
  try {
    const { size, mtimeMs } = await stat(join(root, name));
    return { name, bytes: size, modifiedMs: mtimeMs };
  } catch (error) {
    // Deleted since the folder was read.
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
}
