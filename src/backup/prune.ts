import type { Clock, Timestamp } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Timers } from "../base/timers.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { Lsn } from "../domain/ids.ts";
import { KEEP_EVERYTHING, type RetentionPolicy } from "../domain/retention.ts";
import { timeOfLsn } from "../meta/reading/time.ts";
import { gridRows } from "../meta/space/grid.ts";
import type { AppRepository } from "../repository/app-repository.ts";
import { type Checkpoint, LOST_PACKS_MAX } from "../repository/checkpoint.ts";
import { type PackId, packIdOfName } from "../repository/chunk-place.ts";
import type { FoundCheckpoint } from "../repository/latest-checkpoint.ts";
import type { SealId } from "../repository/names.ts";
import type { AppDescription } from "../repository/seal-head.ts";
import type { ExecutedTombs, TombEntry } from "../repository/tombs.ts";
import { countersFromJson, countersToJson } from "./archive-rows.ts";
import {
  type ListedObject,
  listObjects,
  type Needs,
  neededBy,
  PRUNED_FOLDERS,
  type PrunedFolder,
} from "./prune-objects.ts";
import { PruneScratch } from "./prune-scratch.ts";
import { SealFinder } from "./seal-finder.ts";

/** How long what is named in a tomb stays, unless something else is said: longer than any shipper's run. */
export const PRUNE_GRACE_MS = 24 * 3_600_000;

/** A pack is written anew when less than this of it lives. */
const POOR_RATIO = 0.5;

/** What is written anew by one pruning: some minutes of most links; the next one goes on. */
const REPACK_BYTES_MAX = 4 * 1024 ** 3;

/** Clocks of machines that are set differ by less. */
const CLOCK_SKEW_MS = 5 * 60_000;

export type PruneOptions = {
  readonly app: AppRepository;
  /** A folder of its own, empty; the caller removes it. */
  readonly scratchFolder: string;
  /** Absent: the one of the last pruning; without it nothing goes by age. */
  readonly policy?: RetentionPolicy | undefined;
  readonly graceMs?: number;
  /** Only the plan. */
  readonly dryRun: boolean;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  readonly signal?: AbortSignal | undefined;
  /** Asked with the plan before anything is changed; false: nothing is. */
  readonly confirm?: ((plan: PrunePlan) => Promise<boolean>) | undefined;
  /** For tests: a step is about to be done; it may throw, as a crash would. */
  readonly onStep?: ((step: PruneStep) => void) | undefined;
};

export type PruneStep = "execute-tombs" | "write-base" | "publish" | "write-tombs";

export type ObjectCount = { readonly count: number; readonly bytes: number };

/** What pruning an app does. */
export type PrunePlan = {
  readonly app: AppDescription;
  readonly policy: RetentionPolicy | undefined;
  /** From which moment on all can be read, before and after; 0: the beginning. */
  readonly before: { readonly floor: Lsn; readonly floorTime: Timestamp | undefined };
  readonly after: { readonly floor: Lsn; readonly floorTime: Timestamp | undefined };
  /** Moments kept below the floor then, and the oldest of them. */
  readonly momentCount: number;
  readonly oldestMoment: Timestamp | undefined;
  /** Whether a new base is written. */
  readonly writesBase: boolean;
  /** Packs of which little lives, and how much that is: it is written into new ones. */
  readonly repacked: ObjectCount;
  /** Of the packs there are, those that hold, or held beside what is needed, data that were erased by order: what else lives of them is among `repacked`. They go when the grace and their locks are over. */
  readonly erased: ObjectCount;
  /** What is named in tombs now, to go when the grace is over. */
  readonly doomed: Readonly<Record<PrunedFolder, ObjectCount>>;
  /** What goes now: named in tombs whose grace is over. */
  readonly due: ObjectCount;
  /** Named in tombs already, to go later. */
  readonly waiting: ObjectCount;
  readonly kept: ObjectCount;
};

export type PruneReport = {
  readonly plan: PrunePlan;
  /** undefined: only the plan was asked for, or nobody agreed. */
  readonly executed: ExecutedTombs | undefined;
};

/**
 * Prunes an app of a repository (FORMAT.md, "Pruning"): what tombs named and nobody needs goes, rows and places that the policy leaves are written as a new base, and what that doesn't need is named in tombs. Everything is read and
 * planned before anything is written; a crash at any point, another pruning and a shipper at the same time do no harm. Throws BlobError, REPOSITORY_DAMAGED (also for tombs that don't open, or seals that can't be read),
 * FAILED_PRECONDITION with `data.reason` "clock" when store and journal differ about how late it is.
 */
export async function pruneApp(options: PruneOptions): Promise<PruneReport> {
  const { app, graceMs = PRUNE_GRACE_MS } = options;
  const nowMs = await app.store.timeMs();
  const tombs = await app.tombs();
  const listed = await listObjects(app);
  const latest = await app.latestCheckpoint({});
  const scratch = await PruneScratch.open({
    ...options,
    folder: options.scratchFolder,
    checkpoint: latest?.checkpoint ?? null,
  });
  try {
    checkClocks(nowMs, { scratch, listed });
    return await new Pruning(options, { scratch, latest, listed, tombs, nowMs, graceMs }).run();
  } finally {
    await scratch.close();
  }
}

/** Whoever is wrong, nothing may go by such a time. */
function checkClocks(
  nowMs: number,
  { scratch, listed }: { scratch: PruneScratch; listed: readonly ListedObject[] },
): void {
  const journalMs = (scratch.laid.time?.sec ?? 0) * 1000;
  const newestMs = listed.reduce((newest, { modifiedMs }) => Math.max(newest, modifiedMs), 0);
  const refuse = (what: string): never => {
    const message = `${what}: nothing is pruned until both clocks are right`;
    throw new TidemarkError("FAILED_PRECONDITION", message, { data: { reason: "clock", storeMs: nowMs } });
  };
  const store = new Date(nowMs).toISOString();
  if (journalMs > nowMs + CLOCK_SKEW_MS)
    refuse(`the app's newest change is of ${new Date(journalMs).toISOString()}, later than the store's time, ${store}`);
  if (newestMs > nowMs + CLOCK_SKEW_MS)
    refuse(`the store has objects of ${new Date(newestMs).toISOString()}, later than its own time, ${store}`);
}

type Parts = {
  readonly scratch: PruneScratch;
  readonly latest: FoundCheckpoint | null;
  readonly listed: readonly ListedObject[];
  readonly tombs: readonly TombEntry[];
  readonly nowMs: number;
  readonly graceMs: number;
};

class Pruning {
  readonly #options: PruneOptions;
  readonly #parts: Parts;

  constructor(options: PruneOptions, parts: Parts) {
    this.#options = options;
    this.#parts = parts;
  }

  async run(): Promise<PruneReport> {
    const { scratch, latest } = this.#parts;
    const before = await this.#floor();
    const needsBefore = await this.#needs(latest, { all: true });
    const policy = this.#options.policy ?? latest?.checkpoint.pruning?.policy ?? undefined;
    const changed = await scratch.apply(policy ?? KEEP_EVERYTHING, this.#now());
    await drain(scratch.rows());
    const packs = await scratch.packs({ all: false });
    const erased = await this.#erased(latest);
    const poor = this.#poor(packs, erased);
    const writesBase =
      changed || poor.size > 0 || [...erased].some((pack) => !packs.has(pack) && needsBefore.packs.has(pack));
    const living = new Set([...packs.keys()].filter((pack) => !poor.has(pack)));
    const needsAfter = {
      ...needsBefore,
      packs: writesBase ? living : needsBefore.packs,
      firstSeal: await this.#firstSeal(),
    };
    const doomed = this.#doomed(needsAfter, { keepsLatest: !writesBase, erased });
    const plan = await this.#plan({ policy, before, writesBase, poor, doomed, erased });
    const agreed = !this.#options.dryRun && ((await this.#options.confirm?.(plan)) ?? true);
    if (!agreed) return { plan, executed: undefined };
    return { plan, executed: await this.#execute({ policy, writesBase, poor, needsBefore, doomed, erased }) };
  }

  /**
   * Seen from the newest change, if the store's clock is not before it: so a store whose clock is ahead can't make things old, and an app that nobody changes keeps what it has.
   */
  #now(): Timestamp {
    const { nowMs, scratch } = this.#parts;
    const store = { sec: Math.floor(nowMs / 1000), nsec: (nowMs % 1000) * 1_000_000 };
    const { time = store } = scratch.laid;
    return time.sec < store.sec ? time : store;
  }

  async #execute(parts: {
    readonly policy: RetentionPolicy | undefined;
    readonly writesBase: boolean;
    readonly poor: ReadonlyMap<PackId, number>;
    readonly needsBefore: Needs;
    readonly doomed: readonly ListedObject[];
    readonly erased: ReadonlySet<PackId>;
  }): Promise<ExecutedTombs> {
    const { app, onStep } = this.#options;
    const { graceMs, scratch } = this.#parts;
    onStep?.("execute-tombs");
    const isNeeded = neededBy(app, parts.needsBefore);
    const stillNeeded = async (names: readonly string[]): Promise<ReadonlySet<string>> =>
      new Set(names.filter(isNeeded));
    const executed = await app.executeTombs({ graceMs, stillNeeded });
    if (parts.writesBase) await this.#writeBase(parts.policy, parts);
    onStep?.("write-tombs");
    const names = parts.doomed.map(({ name }) => name);
    if (names.length > 0) await app.writeTombs(scratch.laid.seal.epoch, { names, reason: "pruned" });
    return executed;
  }

  /** A checkpoint at the newest seal that was read, of what is left. It needs no epoch of its own: it says the same as the seals do, less what is not kept. */
  async #writeBase(
    policy: RetentionPolicy | undefined,
    { poor, erased }: { readonly poor: ReadonlyMap<PackId, number>; readonly erased: ReadonlySet<PackId> },
  ): Promise<void> {
    const { app, onStep } = this.#options;
    const { scratch, latest } = this.#parts;
    const { laid, inherited } = scratch;
    onStep?.("write-base");
    const rows = await app.writeRun(scratch.rows());
    const data = await app.writeRun(scratch.dataRows(new Set(poor.keys())));
    const { floor, floorTime } = await this.#floor();
    const checkpoint: Checkpoint = {
      appId: app.appId,
      epoch: laid.seal.epoch,
      sequence: laid.seal.sequence,
      to: laid.lsn,
      chain: laid.chain,
      runs: [data, rows].filter((run) => run.rows > 0),
      counters: countersToJson(countersFromJson(laid.counters)),
      app: this.#description(),
      floor: floor === 0 || floorTime === undefined ? null : { lsn: floor, time: floorTime },
      kept: [...scratch.app.core.moments.kept.in(0, floor)],
      repairs: latest?.checkpoint.repairs,
      lostPacks: latest?.checkpoint.lostPacks,
      ...(erased.size === 0 ? {} : { purgedPacks: [...erased].slice(0, LOST_PACKS_MAX) }),
      pruning: { count: (latest?.checkpoint.pruning?.count ?? 0) + 1, policy: policy ?? null, inherited },
    };
    onStep?.("publish");
    await app.publishCheckpoint(checkpoint);
  }

  /** Packs that have, or had, data in them that were erased by order, and that are still there: nothing of them is to be used. */
  async #erased(latest: FoundCheckpoint | null): Promise<Set<PackId>> {
    const found = await this.#parts.scratch.erasedPacks();
    for (const pack of latest?.checkpoint.purgedPacks ?? []) found.add(pack);
    const there = new Set(
      this.#parts.listed.map(({ folder, name }) => (folder === "packs" ? packIdOfName(name) : undefined)),
    );
    return new Set([...found].filter((pack) => there.has(pack)));
  }

  /** Packs of which so little lives that writing that anew gains for certain: less than half of what they take, though that is compressed and this is not. Poorest first, up to a bound. */
  #poor(packs: ReadonlyMap<PackId, number>, erased: ReadonlySet<PackId>): Map<PackId, number> {
    const { listed, nowMs, graceMs } = this.#parts;
    const found: { readonly id: PackId; readonly liveBytes: number; readonly ratio: number }[] = [];
    for (const { folder, name, bytes, modifiedMs } of listed) {
      const id = folder === "packs" && modifiedMs + graceMs <= nowMs ? packIdOfName(name) : undefined;
      const liveBytes = id === undefined ? undefined : packs.get(id);
      if (id === undefined || liveBytes === undefined || liveBytes >= bytes * POOR_RATIO) continue;
      found.push({ id, liveBytes, ratio: liveBytes / bytes });
    }
    // What was asked to be erased is, whatever it costs, and however young it is: tombs name these packs at once, so that nobody goes on using them.
    const poor = new Map([...packs].filter(([pack]) => erased.has(pack)));
    let left = REPACK_BYTES_MAX;
    for (const { id, liveBytes } of found.filter(({ id }) => !erased.has(id)).sort((a, b) => a.ratio - b.ratio)) {
      left -= liveBytes;
      if (left < 0) break;
      poor.set(id, liveBytes);
    }
    return poor;
  }

  /** What goes because of age or because nothing names it: older than the grace by the store's clock, so that what somebody is just writing is never among it, and in no tomb yet. */
  #doomed(
    needs: Needs,
    { keepsLatest, erased }: { readonly keepsLatest: boolean; readonly erased: ReadonlySet<PackId> },
  ): ListedObject[] {
    const { listed, tombs, nowMs, graceMs } = this.#parts;
    const after = keepsLatest ? needs : { ...needs, runs: [], checkpoint: undefined };
    const isNeeded = neededBy(this.#options.app, after);
    const tombed = new Set(tombs.flatMap(({ tomb }) => tomb.names));
    const isErased = (name: string): boolean => {
      const pack = packIdOfName(name);
      return pack !== undefined && erased.has(pack);
    };
    return listed.filter(
      ({ name, modifiedMs }) =>
        (modifiedMs + graceMs <= nowMs || isErased(name)) && !tombed.has(name) && !isNeeded(name),
    );
  }

  async #needs(latest: FoundCheckpoint | null, options: { readonly all: boolean }): Promise<Needs> {
    return {
      packs: await this.#parts.scratch.packs(options),
      runs: latest?.checkpoint.runs ?? [],
      checkpoint: latest?.name,
      firstSeal: await this.#firstSeal(),
    };
  }

  /** The seal with the floor's record: it and all after it are kept, since their records can be read. */
  async #firstSeal(): Promise<SealId | undefined> {
    const { scratch } = this.#parts;
    const { floor } = scratch.app.core.moments;
    if (floor < scratch.laid.firstLsn || floor > scratch.laid.lsn) return undefined;
    const { epoch, sequence } = (await new SealFinder(this.#options.app).find(floor)).head;
    return { epoch, sequence };
  }

  async #floor(): Promise<{ floor: Lsn; floorTime: Timestamp | undefined }> {
    const { core } = this.#parts.scratch.app;
    const { floor } = core.moments;
    return { floor, floorTime: await timeOfLsn(core, floor) };
  }

  async #plan(parts: {
    readonly policy: RetentionPolicy | undefined;
    readonly before: PrunePlan["before"];
    readonly writesBase: boolean;
    readonly poor: ReadonlyMap<PackId, number>;
    readonly doomed: readonly ListedObject[];
    readonly erased: ReadonlySet<PackId>;
  }): Promise<PrunePlan> {
    const { listed, tombs, nowMs, graceMs, scratch } = this.#parts;
    const byName = new Map(listed.map((object) => [object.name, object]));
    const tombed = (isDue: boolean): ListedObject[] =>
      tombs
        .filter(({ sinceMs }) => sinceMs + graceMs <= nowMs === isDue)
        .flatMap(({ tomb }) => tomb.names.map((name) => byName.get(name)).filter((object) => object !== undefined));
    const grid = gridRows(scratch.app.store);
    const of = (folder: PrunedFolder): ObjectCount => counted(parts.doomed.filter((each) => each.folder === folder));
    const due = counted(tombed(true));
    const waiting = counted(tombed(false));
    const doomed = counted(parts.doomed);
    const all = counted(listed);
    return {
      app: this.#description(),
      policy: parts.policy,
      before: parts.before,
      after: await this.#floor(),
      momentCount: grid.length,
      oldestMoment: grid[0]?.turn,
      writesBase: parts.writesBase,
      repacked: { count: parts.poor.size, bytes: [...parts.poor.values()].reduce((sum, bytes) => sum + bytes, 0) },
      erased: counted(
        listed.filter(({ folder, name }) => {
          const pack = folder === "packs" ? packIdOfName(name) : undefined;
          return pack !== undefined && parts.erased.has(pack);
        }),
      ),
      doomed: Object.fromEntries(PRUNED_FOLDERS.map((folder) => [folder, of(folder)])) as PrunePlan["doomed"],
      due,
      waiting,
      kept: {
        count: all.count - due.count - waiting.count - doomed.count,
        bytes: all.bytes - due.bytes - waiting.bytes - doomed.bytes,
      },
    };
  }

  #description(): AppDescription {
    const { laid } = this.#parts.scratch;
    if (laid.app === undefined) throw new TidemarkError("NOT_FOUND", "the repository has nothing of the app yet");
    return laid.app;
  }
}

function counted(objects: readonly ListedObject[]): ObjectCount {
  return { count: objects.length, bytes: objects.reduce((sum, { bytes }) => sum + bytes, 0) };
}

async function drain(rows: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of rows);
}
