import { createHash } from "node:crypto";
import { isBlobError } from "../blob/blob-error.ts";
import type { BlobStore } from "../blob/blob-store.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { AppId } from "../domain/ids.ts";
import { type Anomaly, anomaly } from "./anomaly.ts";
import type { AppKeys } from "./app-keys.ts";
import { type AppAccess, AppObjects } from "./app-objects.ts";
import { isDamage } from "./as-damage.ts";
import { type Checkpoint, type CheckpointId, listCheckpoints, putCheckpoint } from "./checkpoint.ts";
import type { PackId } from "./chunk-place.ts";
import { type ExtendLocksOptions, extendLocks } from "./extend-locks.ts";
import { claimEpoch, type EpochWriter, fencedError, isFenced } from "./fencing.ts";
import { type FoundCheckpoint, findLatestCheckpoint, type LatestCheckpointOptions } from "./latest-checkpoint.ts";
import { type SealId, sealText } from "./names.ts";
import { mergeRows } from "./runs/merge.ts";
import type { RowBatches, RunRef } from "./runs/run-codec.ts";
import { RunReader } from "./runs/run-reader.ts";
import { type RunWriterOptions, writeRun } from "./runs/run-writer.ts";
import { encodeSeal, SEAL_BYTES_MAX, Seal } from "./seal-codec.ts";
import type { SealHead } from "./seal-head.ts";
import type { SealLine } from "./seal-line.ts";
import { listLine } from "./seal-listing.ts";
import type { SealRecords } from "./seal-record.ts";
import { type WalkOptions, walkSeals } from "./seal-walk.ts";
import {
  type ExecutedTombs,
  type ExecuteTombsOptions,
  executeTombs,
  readTombs,
  type TombEntry,
  tombedPacks,
  writeTombs,
} from "./tombs.ts";

/** A published seal: what the next one's `previous` says, and its length. */
export type SealLink = SealId & { readonly hash: Buffer; readonly bytes: number };

/** Where an app's seals end. */
export type AppHead = {
  /** The newest seal of the line that opens; null: there is none (behind `after`). */
  readonly seal: (SealLink & { readonly head: SealHead }) | null;
  readonly anomalies: readonly Anomaly[];
};

/** Newest seals that may be damaged before one gives up looking for the head. */
const DAMAGED_SEALS_MAX = 16;

/**
 * One app's part of a repository: seals, checkpoints, runs and tombs, by FORMAT.md. Generic about rows. Cheap to make; keeps nothing that would get old, but the store's clock. May
 * be used for several things at once. Errors of all methods: BlobErrors of the store, TidemarkError REPOSITORY_DAMAGED (damaged or missing, `data.object`) and REPOSITORY_NEWER.
 */
export class AppRepository {
  readonly objects: AppObjects;

  constructor(access: AppAccess) {
    this.objects = new AppObjects(access);
  }

  get store(): BlobStore {
    return this.objects.store;
  }

  get keys(): AppKeys {
    return this.objects.keys;
  }

  get appId(): AppId {
    return this.keys.appId;
  }

  get tag(): string {
    return this.keys.tag;
  }

  /** What the names of all objects of the app begin with: "apps/<tag>/". */
  get prefix(): string {
    return this.objects.prefix;
  }

  /** Until when what is put now is to be locked, for who puts by itself (packs); undefined: not at all. */
  lockUntilMs(): Promise<number | undefined> {
    return this.objects.lockUntilMs();
  }

  /** Takes the next epoch; of several services each gets another one. List the seals after it, not before. */
  claimEpoch(writer: EpochWriter): Promise<number> {
    return claimEpoch(this.objects, writer);
  }

  /** Whether somebody took over from `epoch`. To be asked after a seal was published and before anything is called protected. One request. */
  isFenced(epoch: number): Promise<boolean> {
    return isFenced(this.objects, epoch);
  }

  /** Lists the seals, those behind `after` if it is given, and finds the app's line. One request for 1,000 seals and one for each epoch. */
  line(options: { readonly after?: SealId | undefined } = {}): Promise<SealLine> {
    return listLine(this.objects, { after: options.after, epochsMax: undefined });
  }

  /**
   * The newest seal of the line that opens, with its hash: what a shipper goes on from. Damaged ones behind it are among the anomalies. Costs a listing, and a request for each of the newest epochs; of older ones
   * no anomalies are told.
   */
  async head(options: { readonly after?: SealId | undefined } = {}): Promise<AppHead> {
    const line = await listLine(this.objects, { after: options.after, epochsMax: DAMAGED_SEALS_MAX });
    const anomalies = [...line.anomalies];
    for (let id = line.head, tries = 0; id !== null && tries < DAMAGED_SEALS_MAX; tries++) {
      try {
        const { head, hash, bytes } = await this.readSeal(id);
        return { seal: { epoch: head.epoch, sequence: head.sequence, hash, bytes, head }, anomalies };
      } catch (error) {
        if (!isDamage(error)) throw error;
        anomalies.push(anomaly("SEAL_DAMAGED", this.sealName(id), error.message));
        id = line.before(id);
      }
    }
    return { seal: null, anomalies };
  }

  /**
   * Creates a seal. `head` names the one before; records are those of its range. Throws FAILED_PRECONDITION (`isFencedError`) if another one is there under its name, or it would go on from a later epoch's; FAILED_PRECONDITION
   * (`data.reason` "seals-there") if it would begin a line beside seals that are there, and no base says so. Durable when it resolves, but
   * not protected: ask `isFenced` first.
   */
  async publishSeal(head: SealHead, records: SealRecords): Promise<SealLink> {
    const name = this.sealName(head);
    // Who looked for the newest seal after another one had taken over and shipped.
    if (head.previous !== null && head.previous.epoch > head.epoch) throw fencedError(this.sealName(head.previous));
    if (head.previous === null) await this.#checkBeginning(head);
    const body = encodeSeal(this.keys, name, { head, records, fill: this.objects.fill });
    try {
      const bytes = await this.objects.putSealed(name, body);
      const hash = createHash("sha256");
      for (const part of body) hash.update(part);
      return { epoch: head.epoch, sequence: head.sequence, hash: hash.digest(), bytes };
    } catch (error) {
      throw isBlobError(error, "BLOB_EXISTS") ? fencedError(name) : error;
    }
  }

  // A line that begins anew leaves the one before behind for ever. So who found no seal that opens may only do that with a base: the seals may be there again in a minute, whole.
  async #checkBeginning({ epoch }: SealHead): Promise<void> {
    const { head } = await listLine(this.objects, { after: undefined, epochsMax: 0 });
    if (head !== null && head.epoch >= epoch) throw fencedError(this.sealName(head));
    const newest = (await this.checkpoints()).at(-1);
    if (head === null && newest === undefined) return;
    // A base: of this epoch, or of an earlier one whose service came no further.
    if (newest?.sequence === 0 && newest.epoch <= epoch && newest.epoch > (head?.epoch ?? 0)) return;
    const there = head === null ? (newest?.name ?? this.prefix) : this.sealName(head);
    throw new TidemarkError(
      "FAILED_PRECONDITION",
      `${this.store.description} has backups of app ${this.appId} already, up to ${there}: they came just now, or none of the seals opens or is there. If trying again does not help, run "tidemark repo check"`,
      { data: { object: there, reason: "seals-there" } },
    );
  }

  /** Reads a seal. Memory: the whole of it, at most SEAL_BYTES_MAX and what is in it. */
  async readSeal(id: SealId): Promise<Seal> {
    const name = this.sealName(id);
    return Seal.open(this.keys, { name, id, bytes: await this.objects.readSealed(name, SEAL_BYTES_MAX) });
  }

  /** The seals of the line in order, behind `after`, each verified to follow the one before: see `WalkOptions`. */
  seals(options: WalkOptions): AsyncGenerator<Seal, void> {
    return walkSeals(this, options);
  }

  /** The full name of a seal. */
  sealName(id: SealId): string {
    return this.objects.name("seals", sealText(id));
  }

  /** Creates a checkpoint whose runs are there. Its full name. */
  publishCheckpoint(checkpoint: Checkpoint): Promise<string> {
    return putCheckpoint(this.objects, checkpoint);
  }

  /** All checkpoints by their names, oldest first. */
  checkpoints(): Promise<CheckpointId[]> {
    return listCheckpoints(this.objects);
  }

  /** The newest checkpoint that can be used; null: none. */
  latestCheckpoint(options: LatestCheckpointOptions = {}): Promise<FoundCheckpoint | null> {
    return findLatestCheckpoint(this.objects, options);
  }

  /** Writes rows, whose keys ascend strictly, as a run. */
  writeRun(rows: RowBatches, options: RunWriterOptions = {}): Promise<RunRef> {
    return writeRun(this.objects, rows, options);
  }

  openRun(ref: RunRef): RunReader {
    return new RunReader(this.objects, ref);
  }

  /** Writes the merge of `runs`, newest first, as a run. Memory: some MiB for each of them, and one part. The old ones stay. */
  mergeRuns(runs: readonly RunRef[], options: { readonly dropDeleted: boolean }): Promise<RunRef> {
    return this.writeRun(
      mergeRows(
        runs.map((ref) => this.openRun(ref).rows()),
        options,
      ),
    );
  }

  /** Says that objects are going to be deleted; the tombs' names. `epoch`: of who prunes, or the newest one. */
  writeTombs(epoch: number, doomed: { readonly names: readonly string[]; readonly reason: string }): Promise<string[]> {
    return writeTombs(this.objects, epoch, doomed);
  }

  tombs(): Promise<TombEntry[]> {
    return readTombs(this.objects);
  }

  /** Packs whose chunks are to be written again. A shipper asks before it publishes a seal. */
  async tombedPacks(): Promise<Set<PackId>> {
    return tombedPacks(await this.tombs());
  }

  /** Deletes what tombs name whose grace is over. May run again after a crash at any point. */
  executeTombs(options: ExecuteTombsOptions): Promise<ExecutedTombs> {
    return executeTombs(this.objects, options);
  }

  /** Makes locks last the full lock days again, of all that no tomb names. */
  extendLocks(options: ExtendLocksOptions = {}): Promise<{ extended: number }> {
    return extendLocks(this.objects, options);
  }
}

/** A seal as the next one names it. */
export function referenceOf({ epoch, sequence, hash }: SealLink): SealId & { readonly hash: string } {
  return { epoch, sequence, hash: hash.toString("hex") };
}
