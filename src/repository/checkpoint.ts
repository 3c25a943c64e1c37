import { assert } from "../base/assert.ts";
import type { Timestamp } from "../base/clock.ts";
import type { AppId, Lsn } from "../domain/ids.ts";
import type { RetentionPolicy } from "../domain/retention.ts";
import type { AppObjects } from "./app-objects.ts";
import { JSON_OBJECT_BYTES_MAX } from "./app-objects.ts";
import { asDamage } from "./as-damage.ts";
import type { PackId } from "./chunk-place.ts";
import { JsonFields, type JsonObject } from "./json-fields.ts";
import { parseSeal, type SealId, sealText } from "./names.ts";
import { damagedObject } from "./object-errors.ts";
import { type RunRef, readRunRef } from "./runs/run-codec.ts";
import { type AppDescription, readAppDescription } from "./seal-head.ts";

// FORMAT.md, "Runs and checkpoints".

/** An app's rows at an LSN: the merge of its runs. */
export type Checkpoint = {
  readonly appId: AppId;
  /** Of the seal that ends with `to`; sequence 0: a base, from which a line of seals begins. */
  readonly epoch: number;
  readonly sequence: number;
  readonly to: Lsn;
  /** h(to) as hex. */
  readonly chain: string;
  /** Newest first. */
  readonly runs: readonly RunRef[];
  /** Totals that the backup layer keeps beside the rows. */
  readonly counters: JsonObject;
  readonly app: AppDescription;
  /** Moments before it are not kept, but for those in `kept`. */
  readonly floor: { readonly lsn: Lsn; readonly time: Timestamp } | null;
  readonly kept: readonly Lsn[];
  /** What the newest pruning it goes back to did; absent: there was none. */
  readonly pruning?: Pruning | undefined;
  /** How many of the prunings that are counted were repairs: these only change places of data. */
  readonly repairs?: number | undefined;
  /** Packs that repairs found damaged and that are still there: what is stored is not compared with what is in them. */
  readonly lostPacks?: readonly PackId[] | undefined;
  /** Packs out of which pruning took data that were erased by order, and that may still be there: nothing of them is to be used. */
  readonly purgedPacks?: readonly PackId[] | undefined;
};

/** That an app was pruned: rows and places of data are not those that its seals add up to any more. */
export type Pruning = {
  /** How many there were: of two checkpoints at one seal the one with more counts. */
  readonly count: number;
  readonly policy: RetentionPolicy | null;
  /** Kept moments of a base, whose reason isn't known: they stay. */
  readonly inherited: readonly Lsn[];
};

/** A checkpoint by its name. */
export type CheckpointId = SealId & { readonly name: string };

const RUNS_MAX = 4096;

/** Kept moments of one app: snapshots and the grid of retention. */
const KEPT_MAX = 1_000_000;

/** Damaged packs that are remembered: 2 TiB of them. */
export const LOST_PACKS_MAX = 65_536;

const NAME_TAIL = /^(.{19})-[0-9a-f]{32}$/;

/** Creates a checkpoint, whose runs are there. The full name. Errors: those of `BlobStore.put`. */
export async function putCheckpoint(objects: AppObjects, checkpoint: Checkpoint): Promise<string> {
  assert(checkpoint.appId === objects.keys.appId, "a checkpoint is of its keys' app");
  const plain = Buffer.from(JSON.stringify(checkpoint));
  assert(plain.length <= JSON_OBJECT_BYTES_MAX, "a checkpoint is too long");
  const name = objects.name("checkpoints", `${sealText(checkpoint)}-${objects.randomText()}`);
  await objects.put("checkpoint", name, [plain]);
  return name;
}

/** All checkpoints, oldest first. Names that are none are left out. */
export async function listCheckpoints(objects: AppObjects): Promise<CheckpointId[]> {
  const folder = objects.name("checkpoints");
  const found: CheckpointId[] = [];
  for await (const page of objects.list("checkpoints")) {
    for (const { name } of page) {
      const id = checkpointIdOf(name, folder);
      if (id !== undefined) found.push(id);
    }
  }
  return found;
}

/** Reads a checkpoint. Throws REPOSITORY_DAMAGED, REPOSITORY_NEWER, BlobErrors. */
export async function readCheckpoint(objects: AppObjects, name: string): Promise<Checkpoint> {
  const plain = await objects.readJson("checkpoint", name);
  const checkpoint = asDamage(name, () => decodeCheckpoint(plain));
  const id = checkpointIdOf(name, objects.name("checkpoints"));
  if (checkpoint.appId !== objects.keys.appId || checkpoint.epoch !== id?.epoch || checkpoint.sequence !== id.sequence)
    throw damagedObject(name, "it is a checkpoint of another place");
  return checkpoint;
}

function checkpointIdOf(name: string, folder: string): CheckpointId | undefined {
  const id = parseSeal(NAME_TAIL.exec(name.slice(folder.length))?.[1] ?? "");
  return id === undefined ? undefined : { ...id, name };
}

function decodeCheckpoint(plain: Buffer): Checkpoint {
  const fields = JsonFields.parse(plain);
  fields.object("counters");
  return {
    appId: fields.hex("appId", 16) as AppId,
    epoch: fields.count("epoch"),
    sequence: fields.count("sequence"),
    to: fields.count("to") as Lsn,
    chain: fields.hex("chain", 32),
    runs: fields.list("runs", RUNS_MAX).map(readRunRef),
    counters: fields.raw("counters") as JsonObject,
    app: readAppDescription(fields.object("app")),
    floor: fields.isNull("floor") ? null : readFloor(fields.object("floor")),
    kept: fields.list("kept", KEPT_MAX).map(readLsn),
    ...(fields.raw("repairs") === undefined ? {} : { repairs: fields.count("repairs") }),
    ...(fields.raw("lostPacks") === undefined
      ? {}
      : { lostPacks: fields.list("lostPacks", LOST_PACKS_MAX).map(readPackId) }),
    ...(fields.raw("purgedPacks") === undefined
      ? {}
      : { purgedPacks: fields.list("purgedPacks", LOST_PACKS_MAX).map(readPackId) }),
    ...(fields.raw("pruning") === undefined ? {} : { pruning: readPruning(fields.object("pruning")) }),
  };
}

function readFloor(fields: JsonFields): { lsn: Lsn; time: Timestamp } {
  return { lsn: fields.count("lsn") as Lsn, time: fields.time("time") };
}

function readPruning(fields: JsonFields): Pruning {
  return {
    count: fields.count("count"),
    policy: fields.isNull("policy") ? null : readPolicy(fields.object("policy")),
    inherited: fields.list("inherited", KEPT_MAX).map(readLsn),
  };
}

function readPolicy(fields: JsonFields): RetentionPolicy {
  const [hourly, daily, weekly] = [fields.count("hourly"), fields.count("daily"), fields.count("weekly")];
  const span = fields.raw("continuousMs") === undefined ? undefined : fields.count("continuousMs");
  return {
    continuousMs: span,
    hourly,
    daily,
    weekly,
    monthly: fields.count("monthly"),
    yearly: fields.count("yearly"),
  };
}

function readPackId(value: unknown): PackId {
  if (typeof value === "string" && /^[0-9a-f]{32}$/.test(value)) return value as PackId;
  throw new RangeError("a lost pack is not an id");
}

function readLsn(value: unknown): Lsn {
  if (Number.isSafeInteger(value) && (value as number) >= 0) return value as Lsn;
  throw new RangeError("a kept moment is not an LSN");
}
