import { TidemarkError } from "../domain/errors.ts";
import type { AppRepository } from "../repository/app-repository.ts";
import { type PackId, packIdOfName } from "../repository/chunk-place.ts";
import { compareSealIds, parseSeal, type SealId } from "../repository/names.ts";
import type { RunRef } from "../repository/runs/run-codec.ts";

/** What is pruned, by folder. */
export const PRUNED_FOLDERS = ["seals", "packs", "runs", "checkpoints"] as const;
export type PrunedFolder = (typeof PRUNED_FOLDERS)[number];

export type ListedObject = {
  readonly folder: PrunedFolder;
  readonly name: string;
  readonly bytes: number;
  readonly modifiedMs: number;
};

/** Objects of one app held in memory: 200 bytes each. */
const OBJECTS_MAX = 20_000_000;

/** All objects of an app that pruning is about. Throws BlobError: who lists wrongly must not delete. */
export async function listObjects(app: AppRepository): Promise<ListedObject[]> {
  const listed: ListedObject[] = [];
  for (const folder of PRUNED_FOLDERS) {
    for await (const page of app.objects.list(folder))
      for (const { name, bytes, modifiedMs } of page) listed.push({ folder, name, bytes, modifiedMs });
    if (listed.length > OBJECTS_MAX)
      throw new TidemarkError("FAILED_PRECONDITION", `the app has more than ${OBJECTS_MAX} objects`);
  }
  return listed;
}

/** What readers of an app need. */
export type Needs = {
  readonly packs: { has(pack: PackId): boolean };
  readonly runs: readonly RunRef[];
  /** Of the newest checkpoint; undefined: there is none. */
  readonly checkpoint: string | undefined;
  /** The oldest seal that is needed: those before it are not. undefined: all are. */
  readonly firstSeal: SealId | undefined;
};

/** Tells of names of objects whether readers need them. What is none of the known kinds is needed. */
export function neededBy(app: AppRepository, needs: Needs): (name: string) => boolean {
  const { objects } = app;
  const runs = new Set(needs.runs.flatMap(({ parts }) => parts.map(({ id }) => objects.name("runs", id))));
  const [seals, packs, runFolder, checkpoints] = PRUNED_FOLDERS.map((folder) => objects.name(folder)) as [
    string,
    string,
    string,
    string,
  ];
  return (name) => {
    if (name.startsWith(runFolder)) return runs.has(name);
    if (name.startsWith(checkpoints)) return name === needs.checkpoint;
    if (name.startsWith(packs)) {
      const id = packIdOfName(name);
      return id === undefined || needs.packs.has(id);
    }
    if (!name.startsWith(seals)) return true;
    const id = parseSeal(name.slice(seals.length));
    return id === undefined || needs.firstSeal === undefined || compareSealIds(id, needs.firstSeal) >= 0;
  };
}
