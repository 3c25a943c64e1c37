import type { Lsn } from "../domain/ids.ts";
import { type Anomaly, anomaly } from "./anomaly.ts";
import type { AppObjects } from "./app-objects.ts";
import { isDamage } from "./as-damage.ts";
import { type Checkpoint, type CheckpointId, listCheckpoints, readCheckpoint } from "./checkpoint.ts";
import { compareSealIds, type SealId } from "./names.ts";
import { listLine } from "./seal-listing.ts";

export type LatestCheckpointOptions = {
  /** Not one of a later seal than this. */
  readonly notAfter?: SealId | undefined;
  /** Not one of later records. */
  readonly lsnAtMost?: Lsn | undefined;
  /** Told of checkpoints that were passed over because something is wrong. */
  readonly onAnomaly?: ((anomaly: Anomaly) => void) | undefined;
};

export type FoundCheckpoint = { readonly name: string; readonly checkpoint: Checkpoint };

/**
 * The newest checkpoint that can be used: it opens, all its runs are there, and no other service had taken over before it. Costs a listing of checkpoints, of runs and of the seals
 * behind it. Throws BlobError.
 */
export async function findLatestCheckpoint(
  objects: AppObjects,
  options: LatestCheckpointOptions,
): Promise<FoundCheckpoint | null> {
  const { notAfter, lsnAtMost, onAnomaly = () => {} } = options;
  const ids = await newestFirst(objects, onAnomaly);
  let runs: ReadonlyMap<string, number> | undefined;
  for (const id of ids) {
    if (notAfter !== undefined && compareSealIds(id, notAfter) > 0) continue;
    const checkpoint = await tryRead(objects, id, onAnomaly);
    if (checkpoint === undefined || (lsnAtMost !== undefined && checkpoint.to > lsnAtMost)) continue;
    runs ??= await listRuns(objects);
    const missing = missingRun(objects, checkpoint, runs);
    if (missing !== undefined) {
      onAnomaly(anomaly("CHECKPOINT_RUN_MISSING", id.name, missing));
      continue;
    }
    if ((await listLine(objects, { after: id, epochsMax: undefined })).overrules(id)) {
      onAnomaly(anomaly("CHECKPOINT_OFF_LINE", id.name, "a later epoch goes on from before it"));
      continue;
    }
    return { name: id.name, checkpoint };
  }
  return null;
}

/** By their seals, newest first; of those at one seal first the one that was pruned most often (FORMAT.md, "Pruning"). */
async function newestFirst(objects: AppObjects, onAnomaly: (anomaly: Anomaly) => void): Promise<CheckpointId[]> {
  const ids = (await listCheckpoints(objects)).reverse();
  const [first, second] = ids;
  if (first === undefined || second === undefined || compareSealIds(first, second) !== 0) return ids;
  const rivals = ids.filter((id) => compareSealIds(id, first) === 0);
  const counts = new Map<string, number>();
  for (const id of rivals) counts.set(id.name, (await tryRead(objects, id, onAnomaly))?.pruning?.count ?? 0);
  rivals.sort((left, right) => (counts.get(right.name) ?? 0) - (counts.get(left.name) ?? 0));
  return [...rivals, ...ids.slice(rivals.length)];
}

async function tryRead(
  objects: AppObjects,
  { name }: CheckpointId,
  onAnomaly: (anomaly: Anomaly) => void,
): Promise<Checkpoint | undefined> {
  try {
    return await readCheckpoint(objects, name);
  } catch (error) {
    if (!isDamage(error)) throw error;
    onAnomaly(anomaly("CHECKPOINT_DAMAGED", name, error.message));
    return undefined;
  }
}

/** Lengths of the objects in `runs/` by name: a few hundred, since pruning takes away what no checkpoint names. */
async function listRuns(objects: AppObjects): Promise<ReadonlyMap<string, number>> {
  const lengths = new Map<string, number>();
  for await (const page of objects.list("runs")) for (const { name, bytes } of page) lengths.set(name, bytes);
  return lengths;
}

function missingRun(
  objects: AppObjects,
  checkpoint: Checkpoint,
  lengths: ReadonlyMap<string, number>,
): string | undefined {
  for (const { parts } of checkpoint.runs) {
    for (const part of parts) {
      const name = objects.name("runs", part.id);
      if (lengths.get(name) !== part.bytes) return name;
    }
  }
  return undefined;
}
