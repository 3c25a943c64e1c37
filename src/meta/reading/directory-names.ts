import type { InodeId, Lsn } from "../../domain/ids.ts";
import type { EngineCore } from "../core.ts";
import { HASH_BYTES, type ListedName } from "../dead-names.ts";
import { PastNames } from "../past-names.ts";
import type { InodeRow } from "../rows.ts";
import type { Work } from "./work.ts";

/** One name of a directory as of a moment. */
export type DirectoryName = { readonly name: Buffer; readonly ino: InodeId; readonly type: number };

/**
 * The names of a directory as of the moment `at`, in hash order, in batches. `directory` is its row as of `at`, which must be held. Memory is bounded whatever the
 * directory holds and held; changes meanwhile are not seen.
 */
export async function* directoryNames(
  core: EngineCore,
  directory: InodeRow,
  at: Lsn,
  work: Work,
): AsyncGenerator<readonly DirectoryName[]> {
  // The size of a directory is the count of its names: an empty one costs nothing, whatever died in it, and the last name ends the search.
  let left = directory.size;
  if (left === 0n) return;
  const source = new PastNames(core, { ino: directory.ino, at, from: "", wanted: Number(left) });
  try {
    while (left > 0n) {
      if (work.due) await work.pause();
      const { names, ended } = source.next();
      left -= BigInt(names.length);
      if (names.length > 0) yield names.map(nameOf);
      if (ended) return;
    }
  } finally {
    source.close();
  }
}

function nameOf({ order, ino, type }: ListedName): DirectoryName {
  return { name: Buffer.from(order, "latin1").subarray(HASH_BYTES), ino, type };
}
