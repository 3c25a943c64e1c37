import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { FsError } from "../domain/errors.ts";
import type { AppId, Lsn } from "../domain/ids.ts";
import type { RequestContext } from "../domain/metadata-api.ts";
import type { JournalArchive } from "../journal/archive.ts";
import { Journal } from "../journal/journal.ts";
import type { JournalLimits } from "../journal/limits.ts";
import type { SpaceReserve } from "../journal/space-reserve.ts";
import type { KvStore } from "../kv/kv-store.ts";
import { Applier, type ApplyBackend, LocalApplyBackend } from "./applier.ts";
import { Coherence } from "./coherence.ts";
import { EngineCore } from "./core.ts";
import { decodeApplied, emptyCounters } from "./counters.ts";
import { Engine } from "./engine.ts";
import { plainKey, prefixEnd, TABLE } from "./keys.ts";
import { RowStore } from "./row-store.ts";

export type DiskSpace = { readonly totalBytes: bigint; readonly freeBytes: bigint };

export type OpenAppOptions = {
  readonly appId: AppId;
  /** The app's number in this data folder: the prefix of its rows in the KV. */
  readonly slot: number;
  /** The folder of the app's journal. */
  readonly folder: string;
  readonly kv: KvStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly diskSpace: () => DiskSpace;
  /** Absent: rows are applied in this process. */
  readonly backend?: (store: RowStore) => ApplyBackend;
  readonly journalLimits?: Partial<JournalLimits>;
  /** The data folder's space for what must work on a full disk. */
  readonly reserve?: SpaceReserve;
  /** Where the journal's older part is, if it is not in its folder. `close` closes it, as does a failing `open`. */
  readonly archive?: JournalArchive;
  /** Nothing is changed: every request that would is a defect of the caller. */
  readonly readOnly?: boolean;
  /** No mount goes on with it, so nothing is asked for again: its last records need not be read. */
  readonly unmounted?: boolean;
  /** Called each time the KV has no room for rows. */
  readonly onNoSpace?: () => void;
  /** See EngineOptions: a backup that must not fall behind further. */
  readonly refusal?: () => FsError | undefined;
  /** See EngineOptions: `SpaceKeeper.makeRoom`. */
  readonly makeRoom?: () => Promise<boolean>;
};

/** Who the service itself is in the journal. */
export const SERVICE_CONTEXT: RequestContext = {
  actor: { mountId: 0 as RequestContext["actor"]["mountId"], uid: 0, gid: 0, pid: 0, label: "service" },
  unique: 0,
  resent: false,
};

/** A count above this is shown as this. */
const SNAPSHOTS_COUNTED_MAX = 10_000;

/** Everything of one app that runs: journal, rows, engine, applier. */
export class OpenApp {
  readonly id: AppId;
  readonly slot: number;
  readonly journal: Journal;
  readonly store: RowStore;
  readonly core: EngineCore;
  readonly engine: Engine;
  /** The engine for whoever serves a mount: caches of other mounts know of a change before it is answered. */
  readonly coherent: Coherence;
  readonly applier: Applier;

  private constructor(
    options: OpenAppOptions,
    parts: { journal: Journal; store: RowStore; core: EngineCore; engine: Engine; applier: Applier },
  ) {
    this.id = options.appId;
    this.slot = options.slot;
    this.journal = parts.journal;
    this.store = parts.store;
    this.core = parts.core;
    this.engine = parts.engine;
    this.coherent = new Coherence(parts.engine);
    this.applier = parts.applier;
  }

  /**
   * Opens an app: what the KV reached, then the journal's records after it. Throws TidemarkError DATA_DAMAGED or DATA_FOLDER_FOREIGN,
   * KvError. `close` of the engine (or of this) ends it.
   */
  static async open(options: OpenAppOptions): Promise<OpenApp> {
    try {
      return await OpenApp.#open(options);
    } catch (error) {
      await options.archive?.close();
      throw error;
    }
  }

  static async #open(options: OpenAppOptions): Promise<OpenApp> {
    const { kv, slot, log, clock, archive } = options;
    const bare = new RowStore({ kv, slot, appliedLsn: 0 as Lsn });
    const appliedRow = bare.get(plainKey(TABLE.APPLIED));
    const applied = appliedRow === undefined ? { lsn: 0, counters: emptyCounters() } : decodeApplied(appliedRow);
    const keepsRows = options.backend === undefined;
    const store = new RowStore({ kv, slot, appliedLsn: applied.lsn as Lsn, keepsRows });
    const core = new EngineCore({
      appId: options.appId,
      store,
      clock,
      seed: Number.parseInt(options.appId.slice(0, 8), 16) | 0,
      counters: { ...applied.counters },
      ...(archive === undefined ? {} : { archive }),
    });
    const journal = await Journal.open({
      folder: options.folder,
      appId: options.appId,
      clock,
      log,
      appliedLsn: applied.lsn as Lsn,
      onRecord: (record) => core.recover(record),
      ...(options.journalLimits === undefined ? {} : { limits: options.journalLimits }),
      ...(options.reserve === undefined ? {} : { reserve: options.reserve }),
      ...(options.readOnly === undefined ? {} : { readOnly: options.readOnly }),
    });
    core.start(journal);
    if (options.unmounted !== true && options.readOnly !== true)
      await rememberRecent(core, journal, applied.lsn as Lsn);
    const backend = options.backend?.(store) ?? new LocalApplyBackend(kv, store, slot);
    const onNoSpace = (): void => {
      // Rows of deletions that were taken need room too.
      options.reserve?.release();
      options.onNoSpace?.();
    };
    const applier = new Applier({ appId: options.appId, backend, store, log, counters: applied.counters, onNoSpace });
    const stop = journal.onDurable((lsn) => applier.durable(lsn));
    applier.durable(journal.durableLsn);
    const engine = new Engine({
      core,
      diskSpace: options.diskSpace,
      ...(options.makeRoom === undefined ? {} : { makeRoom: options.makeRoom }),
      ...(options.refusal === undefined ? {} : { refusal: options.refusal }),
      waitForRoom: async () => {
        await Promise.all([applier.nextBatch(), journal.sync(core.lastLsn)]);
      },
      onClose: async () => {
        await journal
          .sync(core.lastLsn)
          .catch((error: unknown) => log.error("the last sync failed", { error: String(error) }));
        stop();
        await applier.close();
        await journal.close();
        await archive?.close();
      },
    });
    return new OpenApp(options, { journal, store, core, engine, applier });
  }

  /** Snapshots there are now, at most as many as one may list. */
  snapshotCount(): number {
    const gte = plainKey(TABLE.SNAPSHOT);
    return this.store.range({ gte, lt: prefixEnd(gte), limit: SNAPSHOTS_COUNTED_MAX }).length;
  }

  close(): Promise<void> {
    return this.engine.close();
  }
}

/** Records before the applied LSN that were the last ones may be asked for again too: the duplicate table begins with them. */
async function rememberRecent(core: EngineCore, journal: Journal, applied: Lsn): Promise<void> {
  const segments = journal.segments();
  // Cleaning takes segments away between others: the last ones without a gap are never among them.
  const index = segments.findLastIndex(({ segment }, at) => segments[at - 1]?.lastLsn !== segment - 1);
  const oldest = segments[index]?.segment;
  if (oldest === undefined) return;
  const from = Math.max(oldest, applied - RECENT_RECORDS + 1);
  if (from > applied) return;
  const older: { mountId: number; unique: number; op: number; detail: Buffer }[] = [];
  for await (const { actor, unique, op, detail } of journal.readRecords(from as Lsn, applied))
    if (unique !== 0) older.push({ mountId: actor.mountId, unique, op, detail: Buffer.from(detail) });
  // What was replayed is newer and already there; of these, the newest of each mount count.
  for (const { mountId, unique, op, detail } of older.reverse()) core.recent.rememberOlder(mountId, unique, op, detail);
}

/** Far more than the mounts of an app can have in flight when the service dies (a session at most CALLS_MAX): those that went on meanwhile came between. Read in a quarter of a second. */
const RECENT_RECORDS = 20_000;
