import path from "node:path";
import type { Clock, Timestamp } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Timers } from "../base/timers.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { Lsn } from "../domain/ids.ts";
import type { RetentionPolicy } from "../domain/retention.ts";
import { makeFreshJournal } from "../journal/fresh-journal.ts";
import { plainKey, prefixEnd, TABLE } from "../meta/keys.ts";
import { OpenApp } from "../meta/open-app.ts";
import { SystemTurns } from "../meta/reading/turns.ts";
import { Work } from "../meta/reading/work.ts";
import { slotPrefix } from "../meta/row-store.ts";
import { decodeExtents, decodeLsn } from "../meta/rows.ts";
import { AppSpace, pagesOf } from "../meta/space/app-space.ts";
import { Collector } from "../meta/space/collector.ts";
import { releasePins } from "../meta/space/release-pins.ts";
import { applyRetention } from "../meta/space/retention.ts";
import type { AppRepository } from "../repository/app-repository.ts";
import type { Checkpoint } from "../repository/checkpoint.ts";
import type { PackId } from "../repository/chunk-place.ts";
import type { Row } from "../repository/runs/run-codec.ts";
import { ArchiveIndex } from "./archive-index.ts";
import { type ArchivedData, encodeArchivedData, runDataKey, runRowKey } from "./archive-rows.ts";
import { type CacheFolder, openCacheFolder } from "./cache-folder.ts";
import { type Materialised, materialise } from "./materialise.ts";
import { Repacker } from "./prune-repack.ts";
import { RepositoryArchive } from "./repository-archive.ts";

const SLOT = 1;

/** Where data are that some row names, while they are gathered: rows of no app. */
const NEEDED = slotPrefix(2);

/** Where living data of poor packs went. */
const MOVED = slotPrefix(3);

/** Rows of one batch, and places of data looked at at a time. */
const BATCH_ROWS = 1000;

/** Rows that a pruned base hasn't: those about the folder, which are not those about what is kept below the floor. */
const LEFT_OUT: ReadonlySet<number> = new Set([
  TABLE.APPLIED,
  TABLE.FLOOR,
  TABLE.CHAIN,
  TABLE.REFERENCE,
  TABLE.RELOCATION,
  TABLE.SEGMENT_USE,
  TABLE.ERASING,
]);

export type PruneScratchOptions = {
  readonly app: AppRepository;
  /** A folder of its own, which the caller removes. */
  readonly folder: string;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  /** The newest checkpoint. */
  readonly checkpoint: Checkpoint | null;
  readonly signal?: AbortSignal | undefined;
};

/**
 * An app of a repository laid down in a scratch folder, to find out what a policy leaves of it: by the very code that does it on live apps. Its records go to a journal that is thrown away.
 */
export class PruneScratch {
  readonly laid: Materialised;
  readonly app: OpenApp;
  /** Kept moments that came with a base. */
  readonly inherited: readonly Lsn[];
  readonly #repository: AppRepository;
  readonly #cache: CacheFolder;
  readonly #index: ArchiveIndex;
  readonly #work: Work;

  private constructor(
    repository: AppRepository,
    parts: { cache: CacheFolder; laid: Materialised; app: OpenApp; index: ArchiveIndex; inherited: readonly Lsn[] },
    work: Work,
  ) {
    this.#repository = repository;
    this.#cache = parts.cache;
    this.laid = parts.laid;
    this.app = parts.app;
    this.inherited = parts.inherited;
    this.#index = parts.index;
    this.#work = work;
  }

  /** Throws what reading the repository throws; REPOSITORY_DAMAGED also when its newest seals can't be read. */
  static async open(options: PruneScratchOptions): Promise<PruneScratch> {
    const { app, folder, clock, log, signal, checkpoint } = options;
    const cache = await openCacheFolder(folder, app.tag, { log });
    try {
      const signalled = signal === undefined ? {} : { signal };
      const laid = await materialise({ app, kv: cache.kv, slot: SLOT, log, ...signalled });
      if (laid.cutShort !== undefined) throw laid.cutShort;
      const index = new ArchiveIndex(cache.kv, SLOT);
      const inherited = checkpoint?.pruning?.inherited ?? checkpoint?.kept ?? [];
      const opened = await openScratchApp(options, { cache, laid, index, inherited });
      const work = new Work({ clock, turns: new SystemTurns() }, signalled);
      return new PruneScratch(app, { cache, laid, app: opened, index, inherited }, work);
    } catch (error) {
      await cache.close();
      throw error;
    }
  }

  /** Applies the policy, seen from `now`. Answers whether anything changed. */
  async apply(policy: RetentionPolicy, now: Timestamp): Promise<boolean> {
    const space = new AppSpace(this.app);
    // What a deleted snapshot kept below the floor goes too.
    this.app.core.moments.refresh();
    const before = this.app.core.lastLsn;
    await releasePins(space, this.#work);
    await new Collector(space, this.#work).run();
    await applyRetention(space, { policy, now, floorMax: this.laid.lsn }, this.#work);
    await this.app.journal.sync(this.app.core.lastLsn);
    await this.app.applier.reached(this.app.core.lastLsn);
    return this.app.core.lastLsn > before;
  }

  /** The rows that are left, as a run has them, and notes which data they name. */
  async *rows(): AsyncGenerator<readonly Row[], void> {
    const { kv } = this.#cache;
    await kv.deleteRange({ gte: NEEDED, lt: prefixEnd(NEEDED) });
    for (let table = 0; table < 256; table++) {
      if (LEFT_OUT.has(table)) continue;
      const gte = plainKey(table);
      for (const page of pagesOf(this.app.store, gte, prefixEnd(gte))) {
        const rows = page.filter(({ value }) => table !== TABLE.TIME || decodeLsn(value) <= this.laid.lsn);
        if (table === TABLE.SLICE || table === TABLE.CHECKPOINT) await this.#need(rows);
        if (rows.length > 0) yield rows.map(({ key, value }) => ({ key: runRowKey(key), value }));
        if (this.#work.due) await this.#work.pause();
      }
    }
  }

  /** Where the data are that the rows name, without what was erased by order; after `rows` came to its end. `all`: also what nothing names, and what was erased. */
  async *data({ all }: { readonly all: boolean }): AsyncGenerator<readonly ArchivedRow[], void> {
    let [segment, dataStart] = [0, 0];
    for (;;) {
      const page = this.#index.neighbours(segment, dataStart, { reverse: false, count: BATCH_ROWS });
      const wanted = all ? page : page.filter((row) => this.#isNeeded(row)).flatMap((row) => this.#left(row));
      if (wanted.length > 0) yield wanted;
      const last = page.at(-1);
      if (last === undefined || page.length < BATCH_ROWS) return;
      segment = last.segment;
      dataStart = last.dataStart;
      if (this.#work.due) await this.#work.pause();
    }
  }

  /** The same as rows of a run, after what lives of the `poor` packs was written into new ones. */
  async *dataRows(poor: ReadonlySet<PackId>): AsyncGenerator<readonly Row[], void> {
    const repacker = new Repacker(this.#repository, { kv: this.#cache.kv, prefix: MOVED, poor });
    await repacker.start();
    if (poor.size > 0)
      for await (const page of this.data({ all: false })) for (const { data } of page) await repacker.move(data.pieces);
    await repacker.finish();
    for await (const page of this.data({ all: false }))
      yield page.map(({ segment, dataStart, data }) => ({
        key: runDataKey(segment, dataStart),
        value: encodeArchivedData({ ...data, pieces: repacker.moved(data.pieces) }),
      }));
  }

  /** The packs in which these data are, and how many bytes of each (a chunk that is named twice counts twice), not compressed. */
  async packs(options: { readonly all: boolean }): Promise<Map<PackId, number>> {
    const packs = new Map<PackId, number>();
    for await (const page of this.data(options))
      for (const { data } of page)
        for (const { place } of data.pieces) packs.set(place.pack, (packs.get(place.pack) ?? 0) + place.length);
    return packs;
  }

  /** The packs in which there are data that were erased by order. */
  async erasedPacks(): Promise<Set<PackId>> {
    const packs = new Set<PackId>();
    for await (const page of this.data({ all: true })) {
      for (const { segment, dataStart, data } of page) {
        const erased = this.app.core.data.erased(segment, dataStart);
        for (const { skip, length, place } of data.pieces)
          if (erased.within(skip, skip + length).length > 0) packs.add(place.pack);
      }
    }
    return packs;
  }

  async close(): Promise<void> {
    await this.app.close();
    await this.#cache.close();
  }

  async #need(rows: readonly { readonly value: Buffer }[]): Promise<void> {
    const keys = new Map<string, Buffer>();
    for (const { value } of rows) {
      for (const { segment, dataStart } of decodeExtents(value)) {
        if (segment === 0) continue;
        const key = Buffer.concat([NEEDED, runDataKey(segment, dataStart)]);
        keys.set(key.toString("latin1"), key);
      }
    }
    if (keys.size === 0) return;
    await this.#cache.kv.batch([...keys.values()].map((key) => ({ type: "put", key, value: Buffer.alloc(0) })));
  }

  /** What is left of data after orders to erase; none: nothing is. */
  #left(row: ArchivedRow): ArchivedRow[] {
    const { segment, dataStart, data } = row;
    const erased = this.app.core.data.erased(segment, dataStart);
    if (erased.bytes === 0) return [row];
    const pieces = data.pieces.flatMap(({ skip, length, place }) =>
      erased.missing(skip, skip + length).map(({ from, to }) => ({
        skip: from,
        length: to - from,
        place: { ...place, chunkOffset: place.chunkOffset + (from - skip), length: to - from },
      })),
    );
    return pieces.length === 0 ? [] : [{ ...row, data: { ...data, pieces } }];
  }

  #isNeeded({ segment, dataStart }: ArchivedRow): boolean {
    return this.#cache.kv.getSync(Buffer.concat([NEEDED, runDataKey(segment, dataStart)])) !== undefined;
  }
}

type ArchivedRow = { readonly segment: number; readonly dataStart: number; readonly data: ArchivedData };

async function openScratchApp(
  { app, clock, log, timers }: PruneScratchOptions,
  parts: { cache: CacheFolder; laid: Materialised; index: ArchiveIndex; inherited: readonly Lsn[] },
): Promise<OpenApp> {
  const { cache, laid, index } = parts;
  if (laid.time === undefined || laid.app === undefined)
    throw new TidemarkError(
      "NOT_FOUND",
      "the repository has nothing of the app yet: its first backup was not finished",
    );
  const folder = path.join(cache.path, "journal");
  await makeFreshJournal({ folder, appId: app.appId, lastLsn: laid.lsn, clock });
  const archive = new RepositoryArchive({
    firstLsn: laid.firstLsn,
    lastLsn: laid.lsn,
    lastTime: laid.time,
    description: app.store.description,
    index,
    kept: parts.inherited,
    connect: async () => app,
    log,
    timers,
  });
  const opened = await OpenApp.open({
    appId: app.appId,
    slot: SLOT,
    folder,
    kv: cache.kv,
    // The scratch journal's records are of the moment of the last real one: so they begin no era of the clock.
    clock: { now: () => laid.time as Timestamp, monotonicMs: () => clock.monotonicMs() },
    log,
    archive,
    diskSpace: () => ({ totalBytes: 0n, freeBytes: 0n }),
  });
  return opened;
}
