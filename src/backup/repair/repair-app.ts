import { readU64Be } from "../../base/bytes.ts";
import type { Log } from "../../base/log.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { Lsn } from "../../domain/ids.ts";
import { CHAIN_START } from "../../journal/chain.ts";
import { type Counters, emptyCounters } from "../../meta/counters.ts";
import type { AppRepository } from "../../repository/app-repository.ts";
import { type Checkpoint, LOST_PACKS_MAX, readCheckpoint } from "../../repository/checkpoint.ts";
import type { ChunkIndex } from "../../repository/chunk-index.ts";
import type { ChunkPlace, PackId } from "../../repository/chunk-place.ts";
import type { SealId } from "../../repository/names.ts";
import { mergeRows } from "../../repository/runs/merge.ts";
import type { Seal } from "../../repository/seal-codec.ts";
import type { AppDescription } from "../../repository/seal-head.ts";
import { countersFromJson, countersToJson, decodeArchivedData, RUN_DATA } from "../archive-rows.ts";
import { type CheckedApp, dataName } from "../check/check-app.ts";
import { isObjectDamage } from "../check/finding.ts";
import { RunRows } from "../checkpoint-writer.ts";
import type { LineEnd } from "../ship-line.ts";
import type { LocalJournal } from "../ship-local-chain.ts";
import type { ShipPacks } from "../ship-packs.ts";
import { ShipPass } from "../ship-pass.ts";
import type { SealLimits } from "../ship-seal.ts";
import { DataRepair } from "./data-repair.ts";

export type RepairOptions = {
  readonly repository: AppRepository;
  readonly journal: LocalJournal;
  readonly end: LineEnd;
  readonly app: AppDescription;
  readonly checked: Pick<CheckedApp, "packs" | "lost" | "areRowsDamaged">;
  /** What new data are compared with: only packs that are there, and none that are lost. */
  readonly index: ChunkIndex;
  /** All packs were read: every one that is damaged is among those that are lost. */
  readonly isReadWhole: boolean;
  /** Where new chunks go, one after the other. */
  readonly newPacks: () => ShipPacks;
  readonly gear: Uint32Array;
  readonly limits: SealLimits;
  readonly log: Log;
  /** Throws when it is time to stop. */
  readonly check: () => void;
  /** Lets others in. */
  readonly turn: () => Promise<void>;
};

export type Repaired = {
  /** Of data, written anew. */
  readonly restoredBytes: number;
  /** Of data that this machine hasn't either. */
  readonly missingBytes: number;
  /** Which they are, by `dataName`; at most MISSING_MAX. */
  readonly missing: readonly string[];
};

/** Older checkpoints that are tried: each is read whole. */
const CANDIDATES_MAX = 64;

/** Records of one seal's part between two looks at whether to stop. */
const RECORDS_PER_TURN = 1000;

/** The rows of an app can't be had from the repository and this journal together. */
export class RowsLostError extends Error {
  override name = "RowsLostError";
}

/**
 * Makes an app readable again: a new checkpoint at the end of its line, of which every row was read just now, and whose data are written anew from this machine's journal where their packs are lost. Rows
 * come from the newest checkpoint that can be read and the seals after it; where those are damaged, from this machine's journal. Nothing is deleted or changed: until the checkpoint is there,
 * nothing names what was written. Throws RowsLostError, REPOSITORY_DAMAGED, BlobErrors.
 */
export async function repairApp(options: RepairOptions): Promise<Repaired> {
  const { repository, end, app } = options;
  const source = await findSource(options);
  const counters = source === null ? emptyCounters() : countersFromJson(source.counters);
  const turn = options.turn;
  const rows = new RunRows(repository, { runs: source?.runs ?? [], turn });
  await new RowsRepair(options, { rows, counters }).follow(source);
  const runs = await rows.finish();
  const repaired = await repairData(options, { rows, runs });
  const { epoch, sequence } = end.previous ?? (source as SealId);
  await repository.publishCheckpoint({
    appId: repository.appId,
    epoch,
    sequence,
    to: end.lsn,
    chain: end.chain.toString("hex"),
    runs: await rows.finish(),
    counters: countersToJson(counters),
    app,
    floor: source?.floor ?? null,
    kept: source?.kept ?? [],
    repairs: (source?.repairs ?? 0) + 1,
    lostPacks: lostPacks(options, source),
    purgedPacks: source?.purgedPacks,
    // Readers take it before others at the same seal, and those who have older rows lay them down anew.
    pruning: {
      count: (source?.pruning?.count ?? 0) + 1,
      policy: source?.pruning?.policy ?? null,
      inherited: source?.pruning?.inherited ?? source?.kept ?? [],
    },
  });
  return repaired;
}

/** Those that are damaged, not those that are gone. */
function lostPacks({ checked }: RepairOptions, source: Checkpoint | null): PackId[] {
  const packs = new Set([...(source?.lostPacks ?? []), ...checked.lost.packs]);
  return [...packs].filter((pack) => checked.packs.has(pack)).slice(-LOST_PACKS_MAX);
}

/** The newest checkpoint whose rows can all be read; null: none, and the seals have all rows. */
async function findSource(options: RepairOptions): Promise<Checkpoint | null> {
  const { repository, checked, check, end } = options;
  const latest = (await repository.latestCheckpoint({}))?.checkpoint ?? null;
  if (latest !== null && latest.to > end.lsn) throw lost("a checkpoint reaches beyond the line");
  if (!checked.areRowsDamaged || (latest !== null && (await isReadable(repository, latest, check)))) return latest;
  const all = await readAll(options);
  const newest = all.reduce((most, each) => Math.max(most, each.pruning?.count ?? 0), 0);
  const last = all.find(({ pruning }) => (pruning?.count ?? 0) === newest);
  for (const candidate of all) {
    check();
    if (candidate.to > end.lsn || !isAsMuch(options, candidate, last)) continue;
    if ((await repository.line({ after: candidate })).overrules(candidate)) continue;
    if (await isReadable(repository, candidate, check)) return candidate;
  }
  if (!isAsMuch(options, undefined, last)) throw lost("no checkpoint since the last pruning or repair can be read");
  if (all.some(({ sequence }) => sequence === 0)) throw lost("the base that its seals go on from can't be read");
  return null;
}

/** Whether the seals after this checkpoint add up to what the last one had. Before a pruning there was more than is kept, whose packs are gone; before a repair other damaged packs, which only reading all of them shows. */
function isAsMuch(
  { isReadWhole }: RepairOptions,
  candidate: Checkpoint | undefined,
  last: Checkpoint | undefined,
): boolean {
  const repairs = (of: Checkpoint | undefined): number => of?.repairs ?? 0;
  const prunings = (of: Checkpoint | undefined): number => (of?.pruning?.count ?? 0) - repairs(of);
  return prunings(candidate) === prunings(last) && (isReadWhole || repairs(candidate) === repairs(last));
}

/** The checkpoints that open, newest first; at most CANDIDATES_MAX. */
async function readAll({ repository, check }: RepairOptions): Promise<Checkpoint[]> {
  const ids = (await repository.checkpoints()).reverse().slice(0, CANDIDATES_MAX);
  const all: Checkpoint[] = [];
  for (const { name } of ids) {
    check();
    const checkpoint = await whole(() => readCheckpoint(repository.objects, name));
    if (checkpoint !== undefined) all.push(checkpoint);
  }
  return all;
}

async function isReadable(repository: AppRepository, checkpoint: Checkpoint, check: () => void): Promise<boolean> {
  const runs = checkpoint.runs.map((ref) => repository.openRun(ref).rows());
  const isRead = await whole(async () => {
    for await (const _ of mergeRows(runs, { dropDeleted: true })) check();
    return true;
  });
  return isRead === true;
}

/** What is read, or undefined if it is damaged or missing. */
async function whole<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (isObjectDamage(error)) return undefined;
    throw error;
  }
}

type Reached = { readonly lsn: Lsn; readonly chain: Buffer };

/** Adds up what came after a checkpoint. */
class RowsRepair {
  readonly #options: RepairOptions;
  readonly #rows: RunRows;
  readonly #counters: Counters;

  constructor(options: RepairOptions, { rows, counters }: { readonly rows: RunRows; readonly counters: Counters }) {
    this.#options = options;
    this.#rows = rows;
    this.#counters = counters;
  }

  /** From `source` to the end of the line: each record verified by the chain, from its seal or this machine's journal. */
  async follow(source: Checkpoint | null): Promise<void> {
    const { repository, end } = this.#options;
    let reached: Reached =
      source === null
        ? { lsn: 0 as Lsn, chain: CHAIN_START }
        : { lsn: source.to, chain: Buffer.from(source.chain, "hex") };
    const after = source === null ? {} : { after: { epoch: source.epoch, sequence: source.sequence } };
    const { ranges } = await repository.line(after);
    for (const { epoch, first, last } of ranges) {
      for (let sequence = first; sequence <= last && reached.lsn < end.lsn; sequence++)
        reached = await this.#seal({ epoch, sequence }, reached);
    }
    if (reached.lsn < end.lsn) reached = await this.#journal(reached, end.lsn);
    if (!reached.chain.equals(end.chain)) throw lost("its seals do not add up to the line's end");
  }

  async #seal(id: SealId, reached: Reached): Promise<Reached> {
    const { repository, turn } = this.#options;
    await turn();
    const seal = await whole(() => repository.readSeal(id));
    if (seal === undefined || seal.head.to <= reached.lsn) return reached;
    const { from, to } = seal.head;
    if (from <= reached.lsn) throw lost(`${seal.name} begins before the seal before it ends`);
    const before = from === reached.lsn + 1 ? reached : await this.#journal(reached, (from - 1) as Lsn);
    // What is not of the chain comes from the journal, with the next one.
    if (!follows(seal, before.chain)) return before;
    let untilTurn = RECORDS_PER_TURN;
    for (const record of seal.records()) {
      this.#rows.add(record, this.#counters);
      if (--untilTurn > 0) continue;
      untilTurn = RECORDS_PER_TURN;
      await turn();
    }
    if (this.#rows.isFull) await this.#rows.flush();
    return { lsn: to, chain: Buffer.from(seal.head.chain, "hex") };
  }

  /** What no seal says any more. */
  async #journal(reached: Reached, to: Lsn): Promise<Reached> {
    const { journal, newPacks, gear, limits, check, log } = this.#options;
    const from = (reached.lsn + 1) as Lsn;
    log.info("a damaged seal's records are taken from the journal", { appId: journal.appId, from, to });
    const packs = newPacks();
    let { chain } = reached;
    const pass = new ShipPass({
      folder: journal.folder,
      appId: journal.appId,
      gear,
      packs,
      limits,
      chain,
      from,
      check,
      publish: async (draft) => {
        for (const record of draft.sealRecords()) this.#rows.add(record, this.#counters);
        if (this.#rows.isFull) await this.#rows.flush();
        chain = draft.chain;
      },
    });
    try {
      await pass.run(to);
    } catch (error) {
      const code = error instanceof TidemarkError ? error.code : undefined;
      if (code !== "OUT_OF_HISTORY" && code !== "DATA_DAMAGED") throw error;
      throw lost(`records ${from} to ${to} are not in this machine's journal any more`, error);
    } finally {
      await packs.abandon();
      await pass.close();
    }
    return { lsn: to, chain };
  }
}

function follows(seal: Seal, chain: Buffer): boolean {
  try {
    seal.verifyChain(chain);
    return true;
  } catch (error) {
    if (isObjectDamage(error)) return false;
    throw error;
  }
}

/** Lays new places over those in packs that are lost. */
async function repairData(
  options: RepairOptions,
  { rows, runs }: { readonly rows: RunRows; readonly runs: Checkpoint["runs"] },
): Promise<Repaired> {
  const { repository, journal, checked, newPacks, gear, check, index } = options;
  const isLost = (place: ChunkPlace): boolean => {
    if (checked.lost.has(place)) return true;
    const bytes = checked.packs.get(place.pack);
    // What was written since the check is in the index.
    return bytes === undefined ? !index.covers(place.pack) : place.offset + place.storedLength > bytes;
  };
  const data = new DataRepair({ journal, gear, packs: newPacks(), index, rows, isLost });
  const range = { from: Buffer.of(RUN_DATA), to: Buffer.of(RUN_DATA + 1) };
  try {
    const all = mergeRows(
      runs.map((ref) => repository.openRun(ref).rows(range)),
      { dropDeleted: true },
    );
    for await (const page of all) {
      check();
      for (const { key, value } of page) {
        if (value === null) continue;
        const archived = decodeArchivedData(value);
        if (!archived.pieces.some(({ place }) => isLost(place))) continue;
        const at = { segment: readU64Be(key, 1), dataStart: key.readUInt32BE(9) };
        await data.add({ key, ...at, name: dataName(at.segment, at.dataStart), archived });
      }
    }
    return await data.finish();
  } finally {
    await data.close();
  }
}

function lost(why: string, cause?: unknown): RowsLostError {
  return new RowsLostError(`the app's rows can't be put together again: ${why}`, cause === undefined ? {} : { cause });
}
