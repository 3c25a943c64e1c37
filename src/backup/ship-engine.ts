import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { Lsn } from "../domain/ids.ts";
import { SystemFileOps } from "../journal/file-ops.ts";
import { findSegment, openRecords } from "../journal/segment-walker.ts";
import type { KvStore } from "../kv/kv-store.ts";
import { SystemTurns, type Turns } from "../meta/reading/turns.ts";
import type { AppRepository } from "../repository/app-repository.ts";
import { ChunkIndex } from "../repository/chunk-index.ts";
import { type PackId, packIdOfName } from "../repository/chunk-place.ts";
import { chunksOf } from "../repository/pack-directory.ts";
import { PackReader } from "../repository/pack-reader.ts";
import type { SealedPack } from "../repository/pack-writer.ts";
import type { AppDescription } from "../repository/seal-head.ts";
import { isObjectDamage } from "./check/finding.ts";
import { CheckpointWriter } from "./checkpoint-writer.ts";
import { checkToRepair, reportOf } from "./repair/check-to-repair.ts";
import { type RepairOptions, RowsLostError, repairApp } from "./repair/repair-app.ts";
import type { RepairReport, RepairRequest } from "./repair/repair-report.ts";
import type { SealShipped, ShipBackend, ShipStarted, ShipTarget } from "./ship-backend.ts";
import { writeBase } from "./ship-base.ts";
import { ShipError, shipError } from "./ship-error.ts";
import { chunkIndexPrefix, markShipped, scratchPrefix, shippedMark } from "./ship-index.ts";
import { ShipLine, TombedPackError } from "./ship-line.ts";
import type { LocalJournal } from "./ship-local-chain.ts";
import { ShipPacks, type ShippedPack } from "./ship-packs.ts";
import { ShipPass } from "./ship-pass.ts";
import { SEAL_LIMITS, type SealDraft, type SealLimits } from "./ship-seal.ts";

export type ShipEngineOptions = {
  readonly repository: AppRepository;
  readonly journal: LocalJournal;
  /** The local index, see ship-index.ts. */
  readonly index: KvStore;
  readonly writer: { readonly host: string; readonly service: string };
  readonly clock: Clock;
  readonly log: Log;
  readonly limits?: SealLimits;
  readonly turns?: Turns;
};

/**
 * The packs there are, are listed again when this passed since they or the tombs were: far less than the grace of a tomb, so that none can come and go, with its pack, unseen. Also when the wall
 * clock stepped back, or the machine slept: either clock counts.
 */
const PACKS_KNOWN_MS = 6 * 3600 * 1000;

/** Seals that are made anew because of tombs in a row: more come only of a store that is being emptied. */
const TOMB_TRIES_MAX = 5;

/** Ships one app's journal, in the thread it is made in. See ShipBackend. */
export class ShipEngine implements ShipBackend {
  readonly #options: ShipEngineOptions;
  readonly #index: ChunkIndex;
  readonly #checkpoints: CheckpointWriter;
  readonly #gear: Uint32Array;
  readonly #turns: Turns;
  #aborted = false;
  #line: ShipLine | undefined;
  #pass: ShipPass | undefined;
  #packs: ShipPacks | undefined;
  #knownAt: { readonly monotonicMs: number; readonly wallSec: number } | undefined;
  #work: Promise<unknown> = Promise.resolve();
  #isBusy = false;
  #closed = false;
  #app: AppDescription | undefined;
  #onShipped: (shipped: SealShipped) => void = () => {};
  #uploadedBytes = 0;
  /** The journal has a gap behind what was shipped. */
  #wantsBase = false;

  constructor(options: ShipEngineOptions) {
    const { repository, index, log } = options;
    this.#options = options;
    this.#turns = options.turns ?? new SystemTurns();
    this.#index = new ChunkIndex(index, { prefix: chunkIndexPrefix(repository.tag) });
    this.#checkpoints = new CheckpointWriter({ repository, log, turn: () => this.#turn() });
    this.#gear = repository.keys.gearTable();
  }

  start(target: ShipTarget): Promise<ShipStarted> {
    return this.#run(async () => {
      await this.#reset();
      const { repository, journal, writer, clock, log } = this.#options;
      const options = { repository, journal, index: this.#index, writer, clock, log };
      const line = await ShipLine.begin(options, target.to);
      this.#check();
      await this.#knowPacks();
      await this.#checkpoints.start(line.end.lsn);
      this.#line = line;
      const { lsn, time } = line.end;
      this.#compareWithMark(lsn);
      await this.#mark(lsn);
      return { epoch: line.epoch, protected: lsn === 0 ? undefined : { lsn, time: time ?? clock.now() } };
    });
  }

  ship(target: ShipTarget, onShipped: (shipped: SealShipped) => void): Promise<void> {
    return this.#run(async () => {
      const line = this.#line;
      if (line === undefined) throw new ShipError("LOCAL", "shipping was not started");
      this.#app = target.app;
      this.#onShipped = onShipped;
      if (target.to <= line.end.lsn) return;
      const { journal } = this.#options;
      try {
        await this.#knowPacks();
        if (this.#wantsBase || !isKept(journal, (line.end.lsn + 1) as Lsn)) await this.#base(line, target);
        await this.#shipTo(line, target.to);
      } catch (error) {
        // What reached the store is not known: the next start looks.
        this.#line = undefined;
        await this.#reset();
        throw isOutOfHistory(error) ? this.#baseWanted() : error;
      }
    });
  }

  checkpoint(options: { readonly force: boolean; readonly app: AppDescription }): Promise<boolean> {
    const work = this.#checkpoints.write(options);
    return work.catch((error: unknown) => {
      throw shipError(error);
    });
  }

  async repair({ app, ...request }: RepairRequest & { readonly app: AppDescription }): Promise<RepairReport> {
    const { repository } = this.#options;
    const checked = await checkToRepair({ repository, readPart: request.readPart, check: () => this.#check() }).catch(
      (error: unknown) => {
        throw shipError(error);
      },
    );
    if (request.isPlan || (!checked.isDamaged && checked.lost.isEmpty)) return reportOf(checked, undefined);
    // One that is being written would wait for us to end.
    await this.#checkpoints.idle();
    return this.#run(async () => {
      const line = this.#line;
      if (line === undefined) throw new ShipError("LOCAL", "shipping was not started");
      await this.#reset();
      if (await repository.isFenced(line.epoch)) throw fencedBefore(line.epoch);
      // Packs may have gone missing since they were listed last.
      this.#knownAt = undefined;
      await this.#knowPacks();
      for (const pack of checked.lost.packs) if (this.#index.covers(pack)) await this.#index.hidePack(pack);
      if (!checked.isDamaged) return reportOf(checked, undefined);
      try {
        return reportOf(checked, await this.#repair(line, { checked, app, isReadWhole: request.readPart >= 1 }));
      } catch (error) {
        if (!(error instanceof RowsLostError)) throw error;
        this.#options.log.warn("an app's rows in the repository are lost: it gets a new base", { cause: error });
        this.#wantsBase = true;
        this.#line = undefined;
        return reportOf(checked, "base");
      } finally {
        await this.#reset();
      }
    });
  }

  abort(): void {
    this.#aborted = true;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.abort();
    await this.#work.catch(() => {});
    await this.#checkpoints.idle();
    await this.#reset();
  }

  /** One call at a time, errors as ShipErrors. */
  #run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closed) return Promise.reject(new ShipError("CANCELLED", "shipping was ended"));
    this.#aborted = false;
    this.#isBusy = true;
    const done = this.#work
      .catch(() => {})
      .then(work)
      .catch((error: unknown) => {
        throw shipError(error);
      })
      .finally(() => {
        this.#isBusy = false;
      });
    this.#work = done;
    done.catch(() => {});
    return done;
  }

  #repair(line: ShipLine, about: Pick<RepairOptions, "checked" | "app" | "isReadWhole">): ReturnType<typeof repairApp> {
    const { repository, journal, log, limits = SEAL_LIMITS } = this.#options;
    const turn = async (): Promise<void> => {
      this.#check();
      await this.#turns.next();
    };
    const check = (): void => this.#check();
    const newPacks = (): ShipPacks => this.#newPacks();
    const parts = {
      repository,
      journal,
      log,
      limits,
      gear: this.#gear,
      index: this.#index,
      end: line.end,
      newPacks,
      check,
      turn,
    };
    return repairApp({ ...parts, ...about });
  }

  async #shipTo(line: ShipLine, to: Lsn): Promise<void> {
    for (let tries = 1; ; tries++) {
      this.#pass ??= this.#newPass(line);
      try {
        await this.#pass.run(to);
        return;
      } catch (error) {
        if (!(error instanceof TombedPackError) || tries >= TOMB_TRIES_MAX) throw error;
        this.#options.log.info("a pack is about to be pruned: what is in it is stored again");
        await this.#reset();
      }
    }
  }

  #newPass(line: ShipLine): ShipPass {
    const { journal, limits = SEAL_LIMITS } = this.#options;
    const { lsn, chain } = line.end;
    const packs = this.#newPacks();
    return new ShipPass({
      folder: journal.folder,
      appId: journal.appId,
      gear: this.#gear,
      packs,
      limits,
      chain,
      from: (lsn + 1) as Lsn,
      publish: (draft, written) => this.#publish(line, draft, written),
      check: () => this.#check(),
    });
  }

  #newPacks(): ShipPacks {
    const { repository, log } = this.#options;
    const put = (pack: SealedPack): Promise<void> => this.#putPack(pack);
    this.#packs = new ShipPacks({ keys: repository.keys, index: this.#index, log, put });
    return this.#packs;
  }

  async #publish(line: ShipLine, draft: SealDraft, packs: readonly ShippedPack[]): Promise<void> {
    this.#check();
    const { app } = this;
    const bytes = await line.publish(draft, { app, packs });
    this.#knowNow();
    const uploadedBytes = this.#uploadedBytes + bytes;
    this.#uploadedBytes = 0;
    this.#checkpoints.shipped(draft);
    await this.#mark(draft.to);
    const moment = { lsn: draft.to, time: draft.lastTime };
    this.#onShipped({ protected: moment, journalBytes: draft.journalBytes, uploadedBytes });
  }

  async #putPack(pack: SealedPack): Promise<void> {
    this.#check();
    const { repository } = this.#options;
    await repository.store.put(pack.name, pack.body, { lockUntilMs: await repository.lockUntilMs() });
    this.#uploadedBytes += pack.bytes;
  }

  /** Where our journal doesn't have what comes next, the rows stand for what is gone. */
  async #base(line: ShipLine, { app }: ShipTarget): Promise<void> {
    if (line.hasSeals) throw this.#baseWanted();
    const { journal } = this.#options;
    const next = (line.end.lsn + 1) as Lsn;
    const { repository, log } = this.#options;
    log.info("the journal does not go back to what the repository has: its rows are shipped as a base", { from: next });
    const end = await writeBase({
      repository,
      journal,
      epoch: line.epoch,
      app,
      log,
      packs: this.#newPacks(),
      gear: this.#gear,
      index: this.#options.index,
      scratch: scratchPrefix(repository.tag),
      check: () => this.#check(),
      turns: this.#turns,
    });
    line.rebase(end);
    this.#wantsBase = false;
    await this.#mark(end.lsn);
    this.#onShipped({
      protected: { lsn: end.lsn, time: end.time },
      journalBytes: 0,
      uploadedBytes: this.#uploadedBytes,
    });
    this.#uploadedBytes = 0;
    await this.#checkpoints.start(end.lsn);
  }

  /** A base begins an epoch: the next start takes one. */
  #baseWanted(): ShipError {
    this.#wantsBase = true;
    return new ShipError(
      "LOCAL",
      "records that were not shipped are not kept any more: the repository gets a new base",
    );
  }

  /** Makes the index what the store holds, when that isn't known or too long ago. */
  async #knowPacks(): Promise<void> {
    if (this.#areKnown()) return;
    const { repository } = this.#options;
    const reader = new PackReader({ store: repository.store, keys: repository.keys });
    const check = (): void => this.#check();
    const { added } = await this.#index.reconcile({
      listed: listPacks(repository, check),
      // What is in a pack that is damaged is stored again.
      readChunks: (pack) => reader.readDirectory(pack).then(chunksOf, nothingIfDamaged),
    });
    if (added > 0) {
      const latest = await repository.latestCheckpoint({});
      for (const pack of latest?.checkpoint.lostPacks ?? [])
        if (this.#index.covers(pack)) await this.#index.hidePack(pack);
    }
    for (const pack of await repository.tombedPacks()) await this.#index.dropPack(pack as PackId);
    this.#knowNow();
  }

  #areKnown(): boolean {
    if (this.#knownAt === undefined) return false;
    const { clock } = this.#options;
    const wallMs = (clock.now().sec - this.#knownAt.wallSec) * 1000;
    const passedMs = Math.max(wallMs, clock.monotonicMs() - this.#knownAt.monotonicMs);
    return wallMs >= 0 && passedMs < PACKS_KNOWN_MS;
  }

  #knowNow(): void {
    const { clock } = this.#options;
    this.#knownAt = { monotonicMs: clock.monotonicMs(), wallSec: clock.now().sec };
  }

  /** Whether the repository still has what this machine remembers to have shipped. It gets it again, from where it ends now; without any seal behind a base, or readers might find old seals beside new ones. */
  #compareWithMark(lsn: Lsn): void {
    const { index, repository, log } = this.#options;
    const mark = shippedMark(index, repository.tag);
    if (lsn >= mark) return;
    log.alarm(
      "the repository has lost seals that were there, or shows an older state: what is kept here is shipped again",
      {
        appId: repository.appId,
        lsn,
        shippedLsn: mark,
      },
    );
    if (lsn === 0) this.#wantsBase = true;
  }

  /** Only remembers: failing does no harm. */
  async #mark(lsn: Lsn): Promise<void> {
    const { index, repository } = this.#options;
    await markShipped(index, repository.tag, { appId: repository.appId, lsn }).catch((error: unknown) =>
      this.#options.log.warn("how far the app is shipped can't be remembered", { cause: error }),
    );
  }

  async #reset(): Promise<void> {
    const packs = this.#packs;
    const pass = this.#pass;
    this.#packs = undefined;
    this.#pass = undefined;
    await packs?.abandon();
    await pass?.close();
  }

  get app(): AppDescription {
    if (this.#app === undefined) throw new ShipError("LOCAL", "the app has no name");
    return this.#app;
  }

  /** Between the steps of a checkpoint: what is shipped goes first. */
  async #turn(): Promise<void> {
    this.#check();
    await this.#turns.next();
    while (this.#isBusy) await this.#work.catch(() => {});
  }

  #check(): void {
    if (this.#aborted) throw new ShipError("CANCELLED", "shipping was interrupted");
  }
}

function nothingIfDamaged(error: unknown): [] {
  if (isObjectDamage(error)) return [];
  throw error;
}

function fencedBefore(epoch: number): ShipError {
  return new ShipError(
    "FENCED",
    `Another service backs up this app into the same repository: it took over from epoch ${epoch}`,
  );
}

function isKept({ folder, appId }: LocalJournal, lsn: Lsn): boolean {
  const ops = new SystemFileOps();
  try {
    const { fd } = openRecords({ folder, appId, ops }, findSegment(folder, lsn), lsn);
    ops.close(fd);
    return true;
  } catch (error) {
    if (isOutOfHistory(error)) return false;
    throw error;
  }
}

function isOutOfHistory(error: unknown): boolean {
  return error instanceof TidemarkError && error.code === "OUT_OF_HISTORY";
}

async function* listPacks(repository: AppRepository, check: () => void): AsyncGenerator<PackId> {
  for await (const page of repository.store.list(`${repository.prefix}packs/`)) {
    check();
    for (const { name } of page) {
      const id = packIdOfName(name);
      if (id !== undefined) yield id;
    }
  }
}
